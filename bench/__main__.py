"""`make bench`: run parts of the bench, print what they found, fail when a bar is missed.

python -m bench [PART ...] [--size small|full] [--tolerance X] [--write]
"""

from __future__ import annotations

import argparse
import importlib
import sys
import time

from bench import calibration, report

# In this order. Each is a module bench/<name>.py with `run(size) -> report.Result`.
PARTS: dict[str, str] = {
    "pages": "Pages against a bare Flask route",
    "scale": "Two processes, few and many accounts",
    "profile": "Where the time of a page goes",
    "load": "Pages at a fixed rate",
    "postings": "Payments posted, and notices of the gateway",
    "bulk": "Import, demo, verification, copies",
    "billing_run": "The bill run",
    "accounting": "The network's accounting taken in",
    "usage": "Much data use",
    "thin_line": "The thin line",
    "sign_in": "Signing in, and pages while somebody guesses",
    "timing": "Whether time tells who is a customer",
    "slow_clients": "Beside slow clients",
    "restarts": "Restarts and reloads",
    "writers": "Writers in line",
    "search": "Staff find an account",
}
TRIES = 3


def main() -> int:
    """Exit 1 when a bar is missed, after up to three tries of its part."""
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help=", ".join(PARTS))
    parser.add_argument("--size", choices=("small", "full"), default="full")
    parser.add_argument("--tolerance", type=float, default=1.0, help="2 accepts half as good")
    parser.add_argument("--write", action="store_true", help="put tables into docs/performance.md")
    options = parser.parse_args()
    unknown = [part for part in options.parts if part not in PARTS]
    if unknown:
        parser.error(f"no part {', '.join(unknown)}; there are {', '.join(PARTS)}")
    print(f"{report.machine()}; calibration {calibration.factor():.2f}", flush=True)
    missed = []
    for part in options.parts or PARTS:
        result = _tried(part, options.size, options.tolerance)
        missed += [bar for bar in result.bars if not bar.holds_within(options.tolerance)]
        if options.write:
            size = "" if options.size == "full" else f" --size {options.size}"
            report.write(part, f"make bench ARGS='{part}{size} --write'", result)
    for bar in missed:
        print(f"missed: {bar.what}: {' '.join(bar.cells()[1:3])}")
    return 1 if missed else 0


def _tried(part: str, size: str, tolerance: float) -> report.Result:
    module = importlib.import_module(f"bench.{part}")
    for attempt in range(TRIES):
        calibration.factor.cache_clear()  # the machine may be busier than a part ago
        began = time.monotonic()
        result: report.Result = module.run(size)
        print(f"\n## {PARTS[part]} ({time.monotonic() - began:.0f} s)\n", flush=True)
        print(result.markdown(), flush=True)
        if all(bar.holds_within(tolerance) for bar in result.bars):
            break
        if attempt < TRIES - 1:
            print("\na bar was missed: measured again", flush=True)
    return result


if __name__ == "__main__":
    sys.exit(main())
