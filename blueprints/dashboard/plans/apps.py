"""The streaming apps that come with a plan: how the catalog names them, and where each is
activated."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

StoredApp = str | dict[str, str]


@dataclass(frozen=True, slots=True)
class App:
    """An app; `url`, where there is one, is the page at which its maker activates it."""

    name: str
    url: str = ""


def read(stored: Sequence[StoredApp] | None) -> list[App]:
    """The apps of a plan's `streaming`: of each the name, or name and `url`."""
    return [
        App(each) if isinstance(each, str) else App(each["name"], each.get("url", ""))
        for each in stored or ()
    ]
