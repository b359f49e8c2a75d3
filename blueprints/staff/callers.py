"""Verifying who calls: a code goes to a contact on file, the caller reads it back.

The code counts for this call alone, the staff member's session and the account, and opens nothing
else. Where it went is chosen by the masked form, so that nobody has to read a contact out.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import select
from sqlalchemy.orm import Session

from blueprints.auth import reach
from blueprints.staff.errors import CodeWrong, ContactUnfit
from blueprints.staff.looking import find_account_id
from blueprints.staff.roles import masked_email, masked_phone
from core import activity, clock, codes, data_access, outbox, revisions, throttle
from core.data_access import Reader
from core.db import db, unit_of_work
from core.form_keys import ArrivedKey, once
from core.outbox import Letter
from models import Account, Channel, CodePurpose

VALID = timedelta(minutes=10)


@dataclass(frozen=True, slots=True)
class Way:
    """A contact that a code may go to, as staff see it."""

    contact_id: int
    channel: str
    shown: str


@dataclass(frozen=True, slots=True)
class Call:
    """What the page of a call shows."""

    account_public_id: str
    account_number: str
    account_name: str
    ways: list[Way]


def find_call(account_public_id: str, reader: Reader) -> Call:
    """The ways to verify whoever calls about an account; the look is noted. Raises NotFound."""

    def work(session: Session) -> int:
        account_id = find_account_id(session, account_public_id)
        data_access.note(
            session, reader, ("name", "number", "contacts masked"), "call", account_id=account_id
        )
        return account_id

    account_id = unit_of_work(work)
    session = db.session()
    account = session.execute(
        select(Account.number, Account.name).where(Account.id == account_id)
    ).one()
    return Call(account_public_id, account.number, account.name, _ways(session, account_id))


def list_ways(account_public_id: str) -> list[Way]:
    """The contacts that a form may choose from. Raises NotFound."""
    session = db.session()
    return _ways(session, find_account_id(session, account_public_id))


def _ways(session: Session, account_id: int) -> list[Way]:
    return [
        Way(
            found.contact_id,
            found.channel.value,
            masked_email(found.value)
            if found.channel is Channel.EMAIL
            else masked_phone(found.value),
        )
        for found in reach.of_account(session, account_id)
        if found.may_have_codes and found.channel in (Channel.EMAIL, Channel.TEXT)
    ]


def _bound_to(account_id: int, desk: str) -> str:
    return f"call:{desk}:{account_id}"


def send_code(
    account_public_id: str,
    contact_id: int,
    reader: Reader,
    desk: str,
    secret: bytes,
    key: ArrivedKey,
) -> str:
    """Send the caller a code; the same form twice sends one. Returns the path of the page where it
    is typed. Raises NotFound, ContactUnfit, TooManyAttempts."""
    path = f"/staff/accounts/{account_public_id}/call?done=sent"

    def work(session: Session) -> str:
        account_id = find_account_id(session, account_public_id)
        chosen = [
            found
            for found in reach.of_account(session, account_id)
            if found.contact_id == contact_id and found.may_have_codes
        ]
        if not chosen or chosen[0].channel not in (Channel.EMAIL, Channel.TEXT):
            raise ContactUnfit
        to = chosen[0]
        throttle.count_within(
            session, codes.sendings_to(secret, account_id=account_id), throttle.SENDINGS
        )
        code = codes.make(
            session,
            secret,
            CodePurpose.CALLER,
            _bound_to(account_id, desk),
            to.channel,
            to.contact_id,
            valid=VALID,
        )
        language = session.scalar(select(Account.language).where(Account.id == account_id))
        outbox.queue(
            session,
            [
                Letter(
                    "caller_code",
                    to.value,
                    language or "en",
                    account_id=account_id,
                    channel=to.channel.value,
                    facts={"minutes": int(VALID.total_seconds()) // 60},
                    secrets={"code": code},
                    useless_at=clock.now() + VALID,
                )
            ],
        )
        _record(session, "caller_code_sent", account_id, reader)
        return path

    return once(key, work)


def check_code(
    account_public_id: str,
    typed: str,
    reader: Reader,
    desk: str,
    secret: bytes,
    key: ArrivedKey,
) -> str:
    """Take the code that the caller has read back; returns the path of the account's page, which
    shows that they are verified. Raises NotFound, CodeWrong, TooManyAttempts."""
    path = f"/staff/accounts/{account_public_id}?done=verified"
    account_id = find_account_id(db.session(), account_public_id)
    attempt = throttle.begin_within(codes.guesses_at(secret, account_id=account_id), throttle.CODES)

    def work(session: Session) -> str:
        used = codes.use(session, secret, CodePurpose.CALLER, _bound_to(account_id, desk), typed)
        if used is None:
            raise CodeWrong
        _record(session, "caller_verified", account_id, reader)
        return path

    result = once(key, work, account_id)
    throttle.end(attempt, has_passed=True)
    return result


def _record(session: Session, kind: str, account_id: int, reader: Reader) -> None:
    activity.record(
        session,
        [activity.Event(kind, clock.now(), account_id, facts={"by": reader.name})],
    )
    revisions.raise_account(session, account_id)
