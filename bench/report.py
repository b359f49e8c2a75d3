"""What a measurement found: tables for people, bars that can fail, and their place in the docs."""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from core.settings import ROOT

PAGE = ROOT / "docs" / "performance.md"


@dataclass(frozen=True, slots=True)
class Table:
    """Rows under a header; all cells are text."""

    title: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    note: str = ""

    def markdown(self) -> str:
        """The table as Markdown, its title above and its note below."""
        lines = [f"**{self.title}**", ""] if self.title else []
        lines += [_row(self.header), _row(["---"] * len(self.header))]
        lines += [_row(row) for row in self.rows]
        if self.note:
            lines += ["", self.note]
        return "\n".join(lines)


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


@dataclass(frozen=True, slots=True)
class Bar:
    """A promise with its limit: `value` must be at least, or at most, `limit`.

    Values are ratios, counts, bytes, or times already divided by the machine's calibration
    (bar 93), so that a bar fails for slow code and not for a slow host.
    """

    what: str
    value: float
    limit: float
    at_least: bool = False
    unit: str = ""

    @property
    def holds(self) -> bool:
        """Whether the value is on the right side of the limit."""
        return self.value >= self.limit if self.at_least else self.value <= self.limit

    def holds_within(self, tolerance: float) -> bool:
        """The same with the limit moved: a tolerance of 2 accepts half as good a value."""
        if self.at_least:
            return self.value >= self.limit / tolerance
        return self.value <= self.limit * tolerance

    def cells(self) -> list[str]:
        """What, value, limit, verdict: a row of the table of bars."""
        sign = "≥" if self.at_least else "≤"
        verdict = "holds" if self.holds else "**missed**"
        return [
            self.what,
            f"{_figure(self.value)}{self.unit}",
            f"{sign} {_figure(self.limit)}{self.unit}",
            verdict,
        ]


def _figure(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 or value == int(value) else f"{value:,.3g}"


@dataclass(slots=True)
class Result:
    """All that one part of the bench found."""

    tables: list[Table] = field(default_factory=list)
    bars: list[Bar] = field(default_factory=list)
    note: str = ""

    def markdown(self) -> str:
        """Tables, then the bars as a table."""
        parts = [self.note] if self.note else []
        parts += [table.markdown() for table in self.tables]
        if self.bars:
            rows = [bar.cells() for bar in self.bars]
            parts.append(Table("Bars", ("what", "value", "limit", ""), rows).markdown())
        return "\n\n".join(parts)


def machine() -> str:
    """The machine in one line: processor, cores, system, Python."""
    model = platform.processor() or platform.machine()
    try:
        found = re.search(r"model name\s*:\s*(.+)", Path("/proc/cpuinfo").read_text())
        model = found.group(1) if found else model
    except OSError:
        pass
    python = f"Python {platform.python_version()}"
    return f"{model}, {os.cpu_count()} cores, {platform.system()}, {python}"


def write(name: str, command: str, result: Result, page: Path = PAGE) -> None:
    """Replace the section of part `name` in docs/performance.md by `result`.

    The page holds a pair of comments for each part; raises ValueError when they are not there.
    """
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    text = page.read_text()
    if begin not in text or end not in text:
        raise ValueError(f"{page.name} has no place for {name}: add {begin} and {end}")
    before, rest = text.split(begin, 1)
    after = rest.split(end, 1)[1]
    made = f"`{command}`, {datetime.now().astimezone().date().isoformat()}, {machine()}"
    page.write_text(f"{before}{begin}\n{made}\n\n{result.markdown()}\n{end}{after}")
