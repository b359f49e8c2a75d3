"""How fast this machine is: time bars fail for slow code and not for slow hosts (bar 93)."""

from __future__ import annotations

import hashlib
import json
import sqlite3
import time
from functools import lru_cache

# Seconds that `_work` took on the machine for which the bars were set (2 cores, SSD).
REFERENCE_SECONDS = 0.155
ROUNDS = 5


def _work() -> None:
    database = sqlite3.connect(":memory:")
    database.execute("CREATE TABLE t (a INTEGER PRIMARY KEY, b TEXT)")
    for number in range(20_000):
        text = json.dumps({"number": number, "words": ["a", "b", "c"] * 4})
        database.execute("INSERT INTO t VALUES (?, ?)", (number, text))
        hashlib.sha256(text.encode()).digest()
    for number in range(20_000):
        row = database.execute("SELECT b FROM t WHERE a = ?", (number,)).fetchone()
        json.loads(row[0])
    database.close()


@lru_cache(maxsize=1)
def factor() -> float:
    """How many times slower than the reference this machine is at the moment (1.0 = as fast)."""
    best = float("inf")
    for _ in range(ROUNDS):
        began = time.perf_counter()
        _work()
        best = min(best, time.perf_counter() - began)
    return best / REFERENCE_SECONDS
