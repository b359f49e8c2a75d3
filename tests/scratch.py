"""Where tests keep their files: in memory where there is room, else where Python's tempfile does.

The portal syncs each write to the disk, and tests write more than a portal does in a year. None of
them learns anything from a real disk: what one loses is simulated (`tests/faults/disk.py`).
"""

from __future__ import annotations

import functools
import os
import shutil
import tempfile
from pathlib import Path

MEMORY = Path("/dev/shm")
NEEDED_BYTES = 3 * 2**30


@functools.cache
def root() -> Path:
    """The folder for temporary files. A TMPDIR that is set is taken at its word."""
    return (
        MEMORY if "TMPDIR" not in os.environ and _is_good(MEMORY) else Path(tempfile.gettempdir())
    )


def _is_good(folder: Path) -> bool:
    """Whether the folder has room, and lets us write and start programs there."""
    if not (folder.is_dir() and os.access(folder, os.W_OK | os.X_OK)):
        return False
    may_start_programs = not os.statvfs(folder).f_flag & os.ST_NOEXEC
    return may_start_programs and shutil.disk_usage(folder).free >= NEEDED_BYTES
