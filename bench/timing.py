"""Whether the time of an answer tells who is a customer (bar 14).

Wrong passwords, and the first forms of registering, recovering a password and finding an ID, for
names of several kinds take turns, each from an address of its own and with the clock stepped past
every limit in between. Afterwards the portal is closed, and the way in of staff asked, where a
customer's right password is as wrong as any. The application runs in this process: what is compared
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

from flask import Flask

from bench.report import Bar, Result, Table
from bench.sign_in import HOST, PASSWORD, address, environment, prepare
from core.settings import ROOT, Settings

SAMPLES = {"small": 60, "full": 200}
WARM_UP = 3
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
    "/staff/sign-in": (
        503,
        {
            KNOWN: {"sign_in_id": "bench2"},
            CONTROL: {"sign_in_id": "bench1"},
            "a customer": {"sign_in_id": "bench6"},
            "a customer, with the right password": {"sign_in_id": "bench8", "password": PASSWORD},
            "disabled": {"sign_in_id": "bench9"},
            "unknown ID": {"sign_in_id": "nobody"},
        },
    ),
}
"""Status and what is typed, by form and kind; {bench5} stands for the number of that account."""
WHILE_CLOSED = ("/staff/sign-in",)
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

    settings = read_settings()
    app = create_app(settings)
    with app.app_context():
        numbers = _set_scene()
    seed = random.SystemRandom().randrange(10**6)
    print(f"seed {seed}", file=sys.stderr)
    dice = random.Random(seed)
    found: dict[str, dict[str, list[tuple[float, float]]]] = {
        form: {kind: [] for kind in kinds} for form, (_status, kinds) in FORMS.items()
    }
    rounds = samples + WARM_UP
    for is_closed in (False, True):
        asked = [
            (form, kind)
            for form, kinds in found.items()
            for kind in kinds
            if (form in WHILE_CLOSED) is is_closed
        ]
        if is_closed:
            with app.app_context():
                _close(settings, STEP * (rounds + 1))
        for number in range(rounds):
            clock.shift_by(STEP * (number + 1 + rounds * is_closed))
            for place, (form, kind) in enumerate(dice.sample(asked, len(asked))):
                took = _ask(app, form, kind, numbers, address(number * len(asked) + place))
                if number >= WARM_UP:
                    found[form][kind].append(took)
    return found


def _ask(
    app: Flask, form: str, kind: str, numbers: dict[str, str], come_from: str
) -> tuple[float, float]:
    """Send a form once; the seconds that its answer took."""
    status, kinds = FORMS[form]
    typed = {name: value.format(**numbers) for name, value in kinds[kind].items()}
    body = urlencode({"password": "wrong-lantern-orbit-47"} | typed)
    client = app.test_client()  # without the cookie of an earlier flow
    client.set_cookie("here", "1", domain="127.0.0.1")
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
    return took


def _close(settings: Settings, lasts: timedelta) -> None:
    """Close the portal by a row, as on a node where the command did not run."""
    from core import clock, maintenance
    from core.isp import MaintenanceWindow

    now = clock.now()
    maintenance.set_window(MaintenanceWindow(True, now, now + lasts, ()), settings.data)
    (settings.data / maintenance.FILE).unlink()
    maintenance.forget_file()


def _set_scene() -> dict[str, str]:
    """One customer is disabled, two are staff, three accounts lose their owner, and of those one is
    closed; the account numbers by customer."""
    from sqlalchemy import delete, select, update
    from sqlalchemy.orm import Session

    from core import clock
    from core.db import db, unit_of_work
    from models import Account, AccountStatus, Customer, Membership, StaffMember, StaffRole

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
        for customer_id in session.scalars(
            select(Customer.id).where(Customer.sign_in_key.in_(["bench1", "bench2"]))
        ).all():
            session.add(
                StaffMember(
                    customer_id=customer_id, role=StaffRole.SUPPORT.value, added_at=clock.now()
                )
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
