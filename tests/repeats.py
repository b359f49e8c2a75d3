"""How often random tests run (bar 92): LASTMILE_REPEATS is 20 at a desk, 50 in `.ci/run`, 200 in
`make nightly`. Every random test prints its seed."""

from __future__ import annotations

import os
import random
from typing import TypeVar

T = TypeVar("T")

REPEATS = int(os.environ.get("LASTMILE_REPEATS", "20"))


def sized(desk: T, ci: T, nightly: T) -> T:
    """The size of a test that does not grow in step with the repeats."""
    return nightly if REPEATS >= 200 else ci if REPEATS >= 50 else desk


def dice() -> random.Random:
    """A generator whose seed is printed. LASTMILE_SEED gives a failed run's seed again."""
    seed = int(os.environ.get("LASTMILE_SEED") or random.SystemRandom().randrange(10**6))
    print(f"seed {seed}")
    return random.Random(seed)
