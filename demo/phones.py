"""The telephone numbers of the demo, and what its people have them do with calls."""

from __future__ import annotations

import csv
import random
from collections.abc import Iterator, Sequence
from datetime import date, datetime, time, timedelta
from functools import partial
from pathlib import Path

from flask import current_app
from sqlalchemy import select, update
from sqlalchemy.orm import Session

from blueprints.lines.phone import choosing, numbers
from blueprints.staff.phone import call_importing
from blueprints.staff.phone.call_reader import COLUMNS
from core.db import db, unit_of_work
from core.form_keys import ArrivedKey
from core.isp import current_isp
from gateways.voice.base import Feature, ForwardWhen, NumberSettings
from gateways.voice.simulated import SimulatedVoice
from models import Account, PhoneNumber, Plan, PlanKind, Subscription

AT_ONCE = 60
FIRST = 5_415_552_000
FRIENDS = (
    "+15414166120", "+15416357813", "+15417349076", "+15032267767", "+18002530000", "",
)  # fmt: skip
ABROAD = ("+442079460958", "+33142345678", "+525555550123")
ABROAD_MINOR = 12
"""What a minute abroad costs."""
USUAL = (Feature.VOICEMAIL, Feature.CALLER_ID, Feature.CALL_WAITING)


def give_out(seed: int) -> None:
    """Give every phone subscription its number, with what is usual switched on."""
    current_isp()
    rows = db.session.execute(
        select(Subscription.account_id, Account.number)
        .join(Plan, Plan.id == Subscription.plan_id)
        .join(Account, Account.id == Subscription.account_id)
        .where(Plan.kind == PlanKind.PHONE.value, Subscription.ended_on.is_(None))
        .order_by(Account.number)
    ).all()
    given = []
    for place, (account_id, number) in enumerate(rows):
        dice = random.Random(f"{seed} phone {number}")
        on = " ".join(feature.value for feature in USUAL if dice.random() < 0.7)
        given.append((account_id, f"+1{FIRST + place}", on))
    for start in range(0, len(given), AT_ONCE):
        batch = given[start : start + AT_ONCE]
        unit_of_work(partial(_give, batch=batch), *(each[0] for each in batch))


def _give(session: Session, batch: list[tuple[int, str, str]]) -> None:
    for account_id, number, on in batch:
        numbers.give(session, account_id, None, number, on, date.min)


def choose(account_id: int, customer_id: int, key: ArrivedKey) -> None:
    """Let the owner of an account forward calls that nobody answers to the phone on file, and rest
    at night."""
    [having] = choosing.list_having(db.session(), account_id)
    chosen = NumberSettings(
        frozenset(Feature) - {Feature.ANONYMOUS_CALL_REJECTION, Feature.INTERNATIONAL_BLOCK},
        "+15414166117",
        ForwardWhen.NO_ANSWER,
        "22:00",
        "07:00",
    )
    stamp = choosing.stamp_of(NumberSettings.of(having.number.wanted))
    choosing.choose(account_id, having.number.public_id, chosen, stamp, customer_id, "/", key)


def import_calls(folder: Path, account_ids: Sequence[int], month: date, until: date) -> None:
    """Take the calls of these accounts in a month, before the day `until`, from a file of the
    switch."""
    rows = db.session.execute(
        select(PhoneNumber.number).where(PhoneNumber.account_id.in_(account_ids))
    )
    path = folder / f"calls-{month:%Y-%m}.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        for number in sorted(rows.scalars()):
            writer.writerows(_calls(number, month, until))
    call_importing.run(path)


def _calls(number: str, month: date, until: date) -> Iterator[tuple[str, ...]]:
    dice = random.Random(f"calls {number} {month}")
    for count in range(dice.randint(30, 70)):
        day = month + timedelta(days=dice.randrange(28))
        at = datetime.combine(day, time(dice.randint(8, 20), dice.randrange(60)))
        is_out, is_far = dice.random() < 0.55, dice.random() < 0.12
        other = dice.choice(ABROAD if is_out and is_far else FRIENDS)
        seconds = 0 if dice.random() < 0.15 else int(dice.expovariate(1 / 240)) + 4
        cents = -(-seconds // 60) * ABROAD_MINOR if is_out and is_far else 0
        if day < until and (other or not is_out):
            yield (
                number,
                "out" if is_out else "in",
                other,
                at.isoformat(),
                str(seconds),
                f"{cents // 100}.{cents % 100:02}",
                f"{number}-{month:%Y%m}-{count}",
            )


def connect() -> None:
    """Have the simulated switch do for every number what is wanted."""
    switch = current_app.extensions["voice_gateway"]
    if not isinstance(switch, SimulatedVoice):
        return
    rows = db.session.execute(
        select(PhoneNumber.id, PhoneNumber.number, PhoneNumber.wanted).where(
            PhoneNumber.ended_on.is_(None)
        )
    ).all()
    wanted = [(row.number, NumberSettings.of(row.wanted)) for row in rows]
    switch.set_numbers(wanted, current_isp().timezone)
    unit_of_work(
        lambda session: session.execute(
            update(PhoneNumber).values(reached=PhoneNumber.wanted, pending_at=None, sync_at=None)
        )
    )
