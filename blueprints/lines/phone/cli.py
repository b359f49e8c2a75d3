"""`flask phone`: which subscriptions have which numbers."""

from __future__ import annotations

import csv
import sys
from datetime import date
from pathlib import Path

import click
from flask import current_app
from sqlalchemy import select
from sqlalchemy.orm import Session

from blueprints.lines.phone import choosing, numbers
from blueprints.lines.phone.errors import NumberRefused
from core.commands import Commands
from core.db import db, unit_of_work
from core.isp import current_isp
from gateways.voice.base import Feature, features_of
from models import Account, PhoneNumber, Plan, Subscription

COLUMNS = ("account_number", "number", "plan_code", "features")

phone_cli = Commands("phone", help="The telephone numbers of subscribers.")


class _Refused(Exception):
    """A row cannot be taken; the text says why."""


@phone_cli.command("give")
@click.argument("account")
@click.argument("number")
@click.option("--plan", default="", help="The code of the phone plan, where there are several.")
@click.option(
    "--on",
    default="",
    help="What the switch does for it already, like 'voicemail caller_id'.",
)
def give(account: str, number: str, plan: str, on: str) -> None:
    """Give NUMBER to a phone plan of the account with the number ACCOUNT."""
    try:
        given = _give(account, number, plan, on)
    except _Refused as refusal:
        raise click.ClickException(str(refusal)) from None
    click.echo(f"{given} is given to account {account}.")


@phone_cli.command("import")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
def import_numbers(file: Path) -> None:
    """Give out the numbers of a CSV with the columns account_number and number, and perhaps
    plan_code and features (what is on at the switch, in words with spaces between).

    A row that stands in the portal already is passed over, so a file can be read again. Rows that
    cannot be taken are told with their line; the others count. Exit 1 if there was one.
    """
    given = known = refused = 0
    try:
        with file.open(encoding="utf-8-sig", newline="") as opened:
            rows = csv.DictReader(opened)
            missing = {"account_number", "number"} - set(rows.fieldnames or ())
            if missing:
                raise click.ClickException(f"the first line lacks {', '.join(sorted(missing))}")
            for row in rows:
                texts = {name: (row.get(name) or "").strip() for name in COLUMNS}
                try:
                    if _is_known(texts["account_number"], texts["number"]):
                        known += 1
                        continue
                    _give(*(texts[name] for name in COLUMNS))
                    given += 1
                except _Refused as refusal:
                    refused += 1
                    click.echo(f"line {rows.line_num}: {refusal}", err=True)
    except (UnicodeDecodeError, csv.Error) as error:
        raise click.ClickException(f"{file}: {error}") from None
    except OSError as error:
        raise click.ClickException(f"{file} cannot be read: {error.strerror}") from None
    click.echo(f"{given} given, {known} known before, {refused} refused.")
    if refused:
        sys.exit(1)


@phone_cli.command("sync")
def sync() -> None:
    """Have the switch told of every number anew.

    For after a restore, when the switch has forgotten, or when the catalog gives plans other
    features.
    """

    def work(session: Session) -> int:
        rows = session.execute(
            select(PhoneNumber, Plan.features)
            .join(Subscription, Subscription.id == PhoneNumber.subscription_id)
            .join(Plan, Plan.id == Subscription.plan_id)
            .where(PhoneNumber.ended_on.is_(None))
        ).all()
        for number, features in rows:
            choosing.settle(number, features_of(features))
        return len(rows)

    count = unit_of_work(work)
    who = "staff" if current_app.extensions["voice_gateway"] is None else "the worker"
    click.echo(f"{count} numbers; what the switch does not do yet waits for {who}.")


def _give(account_number: str, typed: str, plan_code: str, on: str) -> str:
    """The number as it was given out. Raises _Refused."""
    strange = set(on.split()) - set(Feature)
    if strange:
        raise _Refused(f"there is no feature {', '.join(sorted(strange))}")
    account_id = _account_id(account_number)
    try:
        number = numbers.read(typed)

        def work(session: Session) -> None:
            # What a command gives out was had before: from the beginning of the plan.
            numbers.give(
                session,
                account_id,
                _subscription_id(session, account_id, plan_code),
                number,
                on,
                date.min,
            )

        unit_of_work(work, account_id)
    except NumberRefused as refusal:
        raise _Refused(f"{typed}: {refusal.customer_message}") from None
    return number


def _subscription_id(session: Session, account_id: int, plan_code: str) -> int | None:
    """The subscription without a number that is to this plan; None: to whichever."""
    if not plan_code:
        return None
    plan_id = session.scalar(select(Plan.id).where(Plan.code == plan_code))
    found = [
        each.id for each in numbers.list_without(session, account_id) if each.plan_id == plan_id
    ]
    return found[0] if found else 0


def _is_known(account_number: str, typed: str) -> bool:
    """Whether the account has the number already. Raises _Refused."""
    try:
        number = numbers.read(typed)
    except NumberRefused as refusal:
        raise _Refused(f"{typed}: {refusal.customer_message}") from None
    found = db.session.scalar(
        select(PhoneNumber.id).where(
            PhoneNumber.number == number,
            PhoneNumber.account_id == _account_id(account_number),
            PhoneNumber.ended_on.is_(None),
        )
    )
    return found is not None


def _account_id(number: str) -> int:
    current_isp()  # read now: asking within a unit of work would take a second connection
    found = db.session.scalar(select(Account.id).where(Account.number == number))
    if found is None:
        raise _Refused(f"there is no account {number!r}")
    return found
