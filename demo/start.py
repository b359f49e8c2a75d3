"""Building the demo once, when the portal starts in demo mode and has none yet."""

from __future__ import annotations

import fcntl
import sys

import click

from core.settings import Settings
from demo.build import build, discard_unfinished, is_complete


def ensure_built(settings: Settings) -> None:
    """Build the demo in the migrated database of `settings` unless it is there already.

    A build that was interrupted is thrown away and begun anew. Shows a progress bar.
    """
    with (settings.data / "demo-build.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # a second start waits for the first and finds it done
        if not is_complete():
            discard_unfinished(settings)
            _build()


def _build() -> None:
    with click.progressbar(length=1000, label="Building the demo", file=sys.stderr) as bar:

        def show(done: int, total: int, _what: str) -> None:
            bar.update(done * 1000 // total - bar.pos)

        build(show)
