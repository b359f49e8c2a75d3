"""How often the disk makes a write last: no database commits more often, one writer at a time."""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path

BLOCK = 4_096
BLOCKS = 1_000


def syncs_per_second(folder: Path, seconds: float = 1.0) -> float:
    """Writes of one block to a file in `folder`, each made to last, in a second."""
    with tempfile.TemporaryFile(dir=folder) as file:
        done = 0
        began = time.perf_counter()
        while (passed := time.perf_counter() - began) < seconds:
            os.pwrite(file.fileno(), os.urandom(BLOCK), done % BLOCKS * BLOCK)
            os.fdatasync(file.fileno())
            done += 1
    return done / passed
