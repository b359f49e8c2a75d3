"""Curves over time as an SVG document that can be read on light and on dark pages."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

WIDTH, PANEL, GAP = 760, 240, 56
LEFT, RIGHT, TOP = 56, 132, 34
STEPS = 5

_STYLE = """
svg { font: 12px system-ui, sans-serif; background: #fff }
.ink { fill: #1c2321 } .faint { fill: #5c6663 }
.grid { stroke: #dfe4e2 } .limit { stroke: #b3261e; stroke-dasharray: 6 4 }
.limit-name { fill: #b3261e }
.c0 { stroke: #0b6e4f } .c1 { stroke: #1f5fbf } .c2 { stroke: #8a4b08 }
.n0 { fill: #0b6e4f } .n1 { fill: #1f5fbf } .n2 { fill: #8a4b08 }
.line { fill: none; stroke-width: 2; stroke-linejoin: round }
@media (prefers-color-scheme: dark) {
  svg { background: #12181a }
  .ink { fill: #e8eeec } .faint { fill: #9aa7a3 }
  .grid { stroke: #2a3436 } .limit { stroke: #ff8a80 } .limit-name { fill: #ff8a80 }
  .c0 { stroke: #5cd6a9 } .c1 { stroke: #8ab8ff } .c2 { stroke: #f0b36b }
  .n0 { fill: #5cd6a9 } .n1 { fill: #8ab8ff } .n2 { fill: #f0b36b }
}
"""


@dataclass(frozen=True, slots=True)
class Line:
    """One value over time."""

    name: str
    values: Sequence[float]


@dataclass(frozen=True, slots=True)
class Curve:
    """A panel: up to three lines over a common scale that begins at 0, and perhaps a limit."""

    title: str
    lines: Sequence[Line]
    limit: float | None = None


def _round_step(top: float) -> float:
    """A step of 1, 2 or 5 times a power of ten, of which about five reach `top`."""
    raw = max(top, 1e-9) / STEPS
    power = 10.0 ** math.floor(math.log10(raw))
    return next(power * times for times in (1, 2, 5, 10) if power * times >= raw)


def draw(curves: Sequence[Curve], times: Sequence[float], unit: str) -> str:
    """The panels below each other over the same time axis."""
    height = len(curves) * (PANEL + GAP) + TOP
    label = escape("; ".join(curve.title for curve in curves))
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}"',
        f' role="img" aria-label="{label}">',
        f"<style>{_STYLE}</style>",
    ]
    for number, curve in enumerate(curves):
        parts += _panel(curve, times, TOP + number * (PANEL + GAP), unit)
    return "\n".join([*parts, "</svg>", ""])


def _panel(curve: Curve, times: Sequence[float], top: float, unit: str) -> list[str]:
    highest = max(max(line.values) for line in curve.lines)
    highest = max(highest, curve.limit or 0) * 1.04
    step = _round_step(highest)
    last = max(times) or 1
    bottom = top + PANEL

    def x(time: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * time / last

    def y(value: float) -> float:
        return bottom - PANEL * value / highest

    parts = [_text(LEFT, top - 12, curve.title, "ink")]
    for number in range(int(highest / step) + 1):
        level = y(number * step)
        parts.append(_rule(LEFT, WIDTH - RIGHT, level, "grid"))
        parts.append(_text(LEFT - 8, level + 4, f"{number * step:,g}", "faint", "end"))
    across = _round_step(last)
    for number in range(int(last / across) + 1):
        label = f"{number * across:,g}" + (f" {unit}" if number == 0 else "")
        parts.append(_text(x(number * across), bottom + 18, label, "faint", "middle"))
    if curve.limit is not None:
        parts.append(_rule(LEFT, WIDTH - RIGHT, y(curve.limit), "limit"))
        parts.append(_text(LEFT + 6, y(curve.limit) - 6, f"limit {curve.limit:,g}", "limit-name"))
    taken: list[float] = []
    for number, line in enumerate(curve.lines):
        points = " ".join(
            f"{x(time):.1f},{y(value):.1f}" for time, value in zip(times, line.values, strict=True)
        )
        parts.append(f'<polyline class="line c{number}" points="{points}"/>')
        level = y(line.values[-1]) + 4
        while any(abs(level - other) < 14 for other in taken):
            level += 4
        taken.append(level)
        parts.append(_text(WIDTH - RIGHT + 8, level, line.name, f"n{number}"))
    return parts


def _text(x: float, y: float, words: str, kind: str, anchor: str = "start") -> str:
    place = f'x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"'
    return f'<text {place} class="{kind}">{escape(words)}</text>'


def _rule(x1: float, x2: float, y: float, kind: str) -> str:
    return f'<line x1="{x1}" x2="{x2}" y1="{y:.1f}" y2="{y:.1f}" class="{kind}"/>'
