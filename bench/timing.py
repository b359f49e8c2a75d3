"""Whether the time of an answer tells who is a customer (bar 14).

Wrong passwords, and the first forms of registering, recovering a password and finding an ID, for
names of several kinds take turns, each from an address of its own and with the clock stepped past
every limit in between. The application runs in this process: what is compared are milliseconds, of
the clock on the wall, as a visitor sees them, and of the processor, which other programs on the
machine do not disturb. Two known names say how much it disturbs the former.
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
STEP = timedelta(hours=2)
MOST_SHARE, MOST_SECONDS = 0.05, 0.002
KNOWN, CONTROL = "known", "another known one"
FORMS: dict[str, tuple[int, dict[str, dict[str, str]]]] = {
    "/sign-in": (
        422,
        {
            KNOWN: {"sign_in_id": "bench7"},
            CONTROL: {"sign_in_id": "bench6"},
            "known by e-mail address": {"sign_in_id": "bench8@example.net"},
            "disabled": {"sign_in_id": "bench9"},
            "unknown ID": {"sign_in_id": "nobody"},
            "unknown e-mail address": {"sign_in_id": "nobody@example.net"},
            "an ID as it cannot be": {"sign_in_id": "no body at all"},
        },
    ),
    "/register": (
        303,
        {
            KNOWN: {"who": "{bench5}"},
            CONTROL: {"who": "{bench3}"},
            "registered": {"who": "{bench7}"},
            "closed": {"who": "{bench4}"},
            "unknown number": {"who": "99999999"},
            "unknown e-mail address": {"who": "nobody@example.net"},
        },
    ),
    "/recover": (
        303,
        {
            KNOWN: {"who": "bench7"},
            CONTROL: {"who": "bench6"},
            "known by number": {"who": "{bench8}"},
            "disabled": {"who": "bench9"},
            "unknown ID": {"who": "nobody"},
            "unknown number": {"who": "99999999"},
        },
    ),
    "/forgot-id": (
        303,
        {
            KNOWN: {"who": "{bench7}"},
            CONTROL: {"who": "{bench6}"},
            "without a customer": {"who": "{bench5}"},
            "unknown number": {"who": "99999999"},
            "unknown e-mail address": {"who": "nobody@example.net"},
        },
    ),
}
"""Status and what is typed, by form and kind; {bench5} stands for the number of that account."""
_MEASURE = """
import json, sys
from bench.timing import measure
print("TIMES " + json.dumps(measure(int(sys.argv[1]))))
"""


def measure(samples: int) -> dict[str, dict[str, list[tuple[float, float]]]]:
    """Seconds of each answer on the wall and of the processor, by form and kind, in the deployment
    of the environment."""
    from app import create_app
    from core import clock
    from core.settings import read_settings

    app = create_app(read_settings())
    with app.app_context():
        numbers = _set_scene()
    seed = random.SystemRandom().randrange(10**6)
    print(f"seed {seed}", file=sys.stderr)
    dice = random.Random(seed)
    found: dict[str, dict[str, list[tuple[float, float]]]] = {
        form: {kind: [] for kind in kinds} for form, (_status, kinds) in FORMS.items()
    }
    asked = [(form, kind) for form, kinds in found.items() for kind in kinds]
    for number in range(-3, samples):
        clock.shift_by(STEP * (number + 4))
        for place, (form, kind) in enumerate(dice.sample(asked, len(asked))):
            status, kinds = FORMS[form]
            typed = {name: value.format(**numbers) for name, value in kinds[kind].items()}
            body = urlencode(typed | {"password": "wrong-lantern-orbit-47"})
            client = app.test_client()  # without the cookie of an earlier flow
            client.set_cookie("here", "1", domain="127.0.0.1")
            come_from = address((number + 3) * len(asked) + place)
            began, began_work = time.perf_counter(), time.process_time()
            answer = client.post(
                form,
                base_url=f"http://{HOST}",
                data=body,
                content_type="application/x-www-form-urlencoded",
                headers={"X-Forwarded-For": come_from},
            )
            took = time.perf_counter() - began, time.process_time() - began_work
            if answer.status_code != status:
                raise RuntimeError(f"{form}, {kind}: {answer.status_code}")
            if number >= 0:  # the first ones warm up
                found[form][kind].append(took)
    return found


def _set_scene() -> dict[str, str]:
    """One customer is disabled, three accounts lose their owner, and of those one is closed; the
    account numbers by customer."""
    from sqlalchemy import delete, select, update
    from sqlalchemy.orm import Session

    from core.db import db, unit_of_work
    from models import Account, AccountStatus, Customer, Membership

    rows = db.session.execute(
        select(Customer.sign_in_id, Account.number, Account.id)
        .join(Membership, Membership.customer_id == Customer.id)
        .join(Account, Account.id == Membership.account_id)
        .where(Customer.sign_in_id.in_([f"bench{number}" for number in range(10)]))
    ).all()
    ids = {row.sign_in_id: row.id for row in rows}

    def work(session: Session) -> None:
        session.execute(
            update(Customer).where(Customer.sign_in_id == "bench9").values(is_disabled=True)
        )
        alone = [ids["bench3"], ids["bench4"], ids["bench5"]]
        session.execute(delete(Membership).where(Membership.account_id.in_(alone)))
        session.execute(
            update(Account)
            .where(Account.id == ids["bench4"])
            .values(status=AccountStatus.CLOSED.value)
        )

    unit_of_work(work)
    return {row.sign_in_id: row.number for row in rows}


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
    tables, bars = [], []
    for form, times in found.items():
        table, of_form = _compare(form, times)
        tables.append(table)
        bars += of_form
    return Result(tables, bars)


def _compare(form: str, found: dict[str, list[tuple[float, float]]]) -> tuple[Table, list[Bar]]:
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
    bars = [Bar(f"{form}: {kind}, processor", share[1], 1.0) for kind, share in shares.items()]
    is_calm = shares[CONTROL][0] <= 0.5
    if is_calm:
        bars += [Bar(f"{form}: {kind}, wall", share[0], 1.0) for kind, share in shares.items()]
    note = (
        "The bars are shares of the difference allowed from a known name: 5 %, but at least 2 ms."
        + ("" if is_calm else " Two known names differed by more than half of that on the wall:")
        + ("" if is_calm else " the machine was too busy to compare times of the wall.")
    )
    what = (
        "wrong password for a name that is" if form == "/sign-in" else f"{form} for a name that is"
    )
    return Table("", (what, "answers", "wall", "processor"), rows, note), bars


def _share(median: float, known: float) -> float:
    return abs(median - known) / max(MOST_SHARE * known, MOST_SECONDS)
