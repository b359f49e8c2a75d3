"""What a check found, in words, and what to do about it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Level(StrEnum):
    """How bad it is. A note may be meant so; something wrong makes the command exit 1."""

    OK = "ok"
    NOTE = "note"
    WRONG = "wrong"


@dataclass(frozen=True, slots=True)
class Finding:
    """What a check found. `remedy` is empty when there is nothing to do."""

    check: str
    level: Level
    words: str
    remedy: str = ""
