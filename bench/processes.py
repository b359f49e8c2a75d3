"""What a program and everything it started use, as Linux tells under /proc."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")


@dataclass(frozen=True, slots=True)
class Use:
    """One process at one moment; `pss_bytes` counts shared pages in equal parts."""

    pid: int
    role: str
    rss_bytes: int
    pss_bytes: int
    descriptors: int
    threads: int


def _children(pid: int) -> Iterator[int]:
    for task in (PROC / str(pid) / "task").glob("*/children"):
        with suppress(OSError):
            yield from map(int, task.read_text().split())


def tree(pid: int) -> list[int]:
    """`pid` and what it started, and what those started."""
    found = [pid]
    for each in found:
        found += [child for child in _children(each) if child not in found]
    return found


def _role(pid: int, supervisor: int) -> str:
    command = (PROC / str(pid) / "cmdline").read_bytes().replace(b"\0", b" ").decode()
    if pid == supervisor:
        return "supervisor"
    if "app.py worker" in command:
        return "worker"
    if "sandbox.server" in command:
        return "sandbox"
    return "web" if "multiprocessing" not in command else "helper"


def _kilobytes(text: str, name: str) -> int:
    found = re.search(rf"^{name}:\s+(\d+) kB", text, re.MULTILINE)
    return int(found.group(1)) * 1024 if found else 0


def use(pid: int, supervisor: int) -> Use:
    """What `pid` uses now. Raises OSError when it has ended."""
    folder = PROC / str(pid)
    memory = (folder / "smaps_rollup").read_text()
    return Use(
        pid,
        _role(pid, supervisor),
        _kilobytes(memory, "Rss"),
        _kilobytes(memory, "Pss"),
        sum(1 for _ in (folder / "fd").iterdir()),
        sum(1 for _ in (folder / "task").iterdir()),
    )


def uses(supervisor: int) -> list[Use]:
    """What each process of a served portal uses; those that have just ended are left out."""
    found = []
    for pid in tree(supervisor):
        with suppress(OSError):
            found.append(use(pid, supervisor))
    return found
