"""Whether the time of an answer tells who is a customer (bar 14).

Wrong passwords for names of several kinds take turns, each from an address of its own and with the
clock stepped past every limit in between. The application runs in this process: what is compared
are milliseconds, of the clock on the wall, as a visitor sees them, and of the processor, which
other programs on the machine do not disturb. Two known names say how much it disturbs the former.
"""

from __future__ import annotations

import json
import os
import random
import statistics
import subprocess
import sys
import time
from datetime import timedelta
from urllib.parse import urlencode

from bench.report import Bar, Result, Table
from bench.sign_in import HOST, address, environment, prepare
from core.settings import ROOT

SAMPLES = {"small": 60, "full": 200}
STEP = timedelta(minutes=20)
MOST_SHARE, MOST_SECONDS = 0.05, 0.002
KINDS = {
    "known by ID": "bench7",
    "another known ID": "bench6",
    "known by e-mail address": "bench8@example.net",
    "disabled": "bench9",
    "unknown ID": "nobody",
    "unknown e-mail address": "nobody@example.net",
    "an ID as it cannot be": "no body at all",
}
KNOWN, CONTROL = "known by ID", "another known ID"
_MEASURE = """
import json, sys
from bench.timing import measure
print("TIMES " + json.dumps(measure(int(sys.argv[1]))))
"""


def measure(samples: int) -> dict[str, list[tuple[float, float]]]:
    """Seconds of each answer on the wall and of the processor, by kind, in the deployment of the
    environment."""
    from sqlalchemy import update
    from sqlalchemy.orm import Session

    from app import create_app
    from core import clock
    from core.db import unit_of_work
    from core.settings import read_settings
    from models import Customer

    def disable(session: Session) -> None:
        session.execute(
            update(Customer).where(Customer.sign_in_id == "bench9").values(is_disabled=True)
        )

    app = create_app(read_settings())
    with app.app_context():
        unit_of_work(disable)
    client = app.test_client()
    client.set_cookie("here", "1", domain="127.0.0.1")
    seed = random.SystemRandom().randrange(10**6)
    print(f"seed {seed}", file=sys.stderr)
    dice = random.Random(seed)
    found: dict[str, list[tuple[float, float]]] = {kind: [] for kind in KINDS}
    for number in range(-3, samples):
        clock.shift_by(STEP * (number + 4))
        for place, kind in enumerate(dice.sample(list(KINDS), len(KINDS))):
            body = urlencode({"sign_in_id": KINDS[kind], "password": "wrong-lantern-orbit-47"})
            come_from = address((number + 3) * len(KINDS) + place)
            began, began_work = time.perf_counter(), time.process_time()
            answer = client.post(
                "/sign-in",
                base_url=f"http://{HOST}",
                data=body,
                content_type="application/x-www-form-urlencoded",
                headers={"X-Forwarded-For": come_from},
            )
            took = time.perf_counter() - began, time.process_time() - began_work
            if answer.status_code != 422:
                raise RuntimeError(f"{kind}: {answer.status_code}")
            if number >= 0:  # the first ones warm up
                found[kind].append(took)
    return found


def run(size: str) -> Result:
    """Medians by kind, and how far each lies from that of a known name."""
    prepare()
    said = subprocess.run(
        [sys.executable, "-c", _MEASURE, str(SAMPLES[size])],
        cwd=ROOT,
        env=dict(os.environ) | environment(),
        check=True,
        capture_output=True,
        text=True,
    )
    found = json.loads(said.stdout.split("TIMES ", 1)[1])
    rows = []
    medians: dict[str, tuple[float, float]] = {}
    for kind, times in found.items():
        wall, work = (statistics.median(each) for each in zip(*times, strict=True))
        medians[kind] = wall, work
        rows.append([kind, str(len(times)), f"{wall * 1000:.2f} ms", f"{work * 1000:.2f} ms"])
    shares = {
        kind: [_share(median, known) for median, known in zip(both, medians[KNOWN], strict=True)]
        for kind, both in medians.items()
        if kind != KNOWN
    }
    bars = [Bar(f"{kind}, processor", share[1], 1.0) for kind, share in shares.items()]
    is_calm = shares[CONTROL][0] <= 0.5
    if is_calm:
        bars += [Bar(f"{kind}, wall", share[0], 1.0) for kind, share in shares.items()]
    note = (
        "The bars are shares of the difference allowed from a known ID: 5 %, but at least 2 ms."
        + ("" if is_calm else " Two known names differed by more than half of that on the wall:")
        + ("" if is_calm else " the machine was too busy to compare times of the wall.")
    )
    header = ("wrong password for a name that is", "answers", "wall", "processor")
    return Result([Table("", header, rows, note)], bars)


def _share(median: float, known: float) -> float:
    return abs(median - known) / max(MOST_SHARE * known, MOST_SECONDS)
