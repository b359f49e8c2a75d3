"""A process of its own that begins twelve tries for one account and for twelve from one address,
for the tests of limits that hold over processes. Prints how many of each were let through.

    python -m tests.auth.guesser DATA_FOLDER DATABASE_URL NAME
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from app import create_app
from core import clock, throttle
from tests.conftest import _settings, together
from tests.world import NOW

TRIES = 12


def is_let_through(subject: str, address: str) -> bool:
    try:
        throttle.begin(throttle.subject_of(b"k" * 64, subject), address, (), is_known_device=False)
    except throttle.TooManyAttempts:
        return False
    return True


def main(folder: str, url: str, name: str) -> None:
    app = create_app(_settings(Path(folder), url))

    def one_account(number: int) -> bool:
        with app.app_context():
            return is_let_through("alice", f"{name}.{number}")

    def one_address(number: int) -> bool:
        with app.app_context():
            return is_let_through(f"customer-{name}-{number}", "203.0.113.1")

    sys.stdout.write("ready\n")
    sys.stdout.flush()
    sys.stdin.readline()
    with clock.set_to(NOW):
        counts = [sum(together(TRIES, work)) for work in (one_account, one_address)]  # type: ignore[arg-type]
    sys.stdout.write(json.dumps(counts) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
