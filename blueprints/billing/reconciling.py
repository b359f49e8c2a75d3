"""Making our books know what the gateway has taken and given back, also what we have never heard
of, and naming what is on one side alone.

After yesterday's backup was restored, the payments made since are at the gateway alone. Its list
names each with our own key, so that it is booked once: a second run, the worker and the gateway's
notices all meet the same unique key.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from sqlalchemy import insert, select
from sqlalchemy.orm import Session

from blueprints.billing import reversing, settling, taken_back
from blueprints.billing.errors import TruthMismatch
from core import clock, ids
from core.db import DatabaseBusy, db, unit_of_work
from core.due_work import ROUND_SECONDS
from core.money import Money
from gateways.payments.base import GatewayState, Listed, PaymentGateway
from gateways.payments.errors import GatewayError, GatewayUnknownKey
from models import Account, Payment, PaymentState

log = logging.getLogger("lastmile.payments")

_MONEY = (GatewayState.SUCCEEDED, GatewayState.PROCESSING)
_OUR_RETURN = re.compile(r"/pay/([0-9a-hjkmnp-tv-z]{16})/return")
_FIRST_LOOK_AFTER = timedelta(minutes=30)
_LOOK_EVERY = timedelta(days=1)
_LOOK_BACK = timedelta(days=3)
_MAX_KEY_LENGTH = Payment.key.type.length or 0


class Finding(StrEnum):
    """What was found out about one payment of the gateway's list."""

    BOOKED = "booked"
    ON_ITS_WAY = "on its way"
    KNOWN = "known"
    STILL_OPEN = "still open"
    NO_ACCOUNT = "no account"
    DIFFERS = "differs"
    BACK = "back"
    BACK_DIFFERS = "back differs"


_WORTH_SAYING = (
    Finding.BOOKED,
    Finding.BACK,
    Finding.NO_ACCOUNT,
    Finding.DIFFERS,
    Finding.BACK_DIFFERS,
)


@dataclass(frozen=True, slots=True)
class Reconciled:
    """One payment of the list, and what was done about it; `account_number` is empty without an
    account. `BACK`: money that went back was booked; `BACK_DIFFERS`: `ours` is not what they say.
    """

    finding: Finding
    listed: Listed
    account_number: str
    ours: reversing.WentBack | None = None


@dataclass(frozen=True, slots=True)
class OnlyOurs:
    """A payment that our books have as paid and the gateway has not."""

    public_id: str
    amount: Money
    account_number: str


def reconcile(gateway: PaymentGateway, since: datetime) -> Iterator[Reconciled]:
    """Book what the gateway has taken since and we do not know; yields each once it is committed.

    Repeating it changes nothing. Raises GatewayTimeout when the list breaks off; what was yielded
    stays. Payments that moved no money are not yielded.
    """
    began_at = clock.now()
    for listed in gateway.list_since(since):
        is_open = listed.truth.state is GatewayState.PENDING
        if is_open or listed.truth.state in _MONEY:
            yield _reconcile_one(gateway, listed)
        if listed.truth.state is GatewayState.SUCCEEDED:
            yield from _compare_back(gateway, listed, began_at)


def _compare_back(
    gateway: PaymentGateway, listed: Listed, began_at: datetime
) -> Iterator[Reconciled]:
    """Book what went back of a payment, and say where both sides still differ."""
    known = db.session.execute(
        select(Payment.id, Account.number)
        .join(Account, Account.id == Payment.account_id)
        .where(Payment.key == listed.key, Payment.state == PaymentState.SUCCEEDED.value)
    ).one_or_none()
    if known is None:
        return
    ours = reversing.went_back(db.session(), known.id)
    if _is_alike(ours, listed):
        return
    taken_back.learn(known.id, gateway)
    after = reversing.went_back(db.session(), known.id)
    if after != ours:
        yield Reconciled(Finding.BACK, listed, known.number, after)
    # What went back while the list was read is in the books and not in the list.
    before = reversing.went_back(db.session(), known.id, began_at)
    if not (_is_alike(after, listed) or _is_alike(before, listed) or after.is_under_way):
        yield Reconciled(Finding.BACK_DIFFERS, listed, known.number, after)


def _is_alike(ours: reversing.WentBack, listed: Listed) -> bool:
    theirs = (listed.refunded_minor, listed.reversed_minor)
    return (ours.refunded_minor, ours.reversed_minor) == theirs


def find_only_ours(gateway: PaymentGateway, since: datetime) -> Iterator[OnlyOurs]:
    """The payments that arrived since by our books and that the gateway, asked, has not as paid.

    Raises GatewayTimeout.
    """
    listed = {
        each.key for each in gateway.list_since(since) if each.truth.state is GatewayState.SUCCEEDED
    }
    rows = db.session.execute(
        select(
            Payment.key,
            Payment.public_id,
            Payment.amount_minor,
            Payment.currency,
            Account.number,
        )
        .join(Account, Account.id == Payment.account_id)
        .where(
            Payment.gateway == gateway.name,
            Payment.state == PaymentState.SUCCEEDED.value,
            Payment.ended_at >= since,
        )
        .order_by(Payment.id)
    ).all()
    for row in rows:
        if row.key not in listed and not _is_paid(gateway, row.key):
            yield OnlyOurs(row.public_id, Money(row.amount_minor, row.currency), row.number)


def _is_paid(gateway: PaymentGateway, key: str) -> bool:
    try:
        return gateway.ask(key).state is GatewayState.SUCCEEDED
    except GatewayUnknownKey:
        return False


def _reconcile_one(gateway: PaymentGateway, listed: Listed) -> Reconciled:
    known = db.session.execute(
        select(Payment.id, Payment.account_id, Payment.state, Account.number)
        .join(Account, Account.id == Payment.account_id)
        .where(Payment.key == listed.key)
    ).one_or_none()
    if known is not None and known.state in (PaymentState.SUCCEEDED, listed.truth.state):
        return Reconciled(Finding.KNOWN, listed, known.number)
    if listed.truth.state is GatewayState.PENDING:
        # One that we know is asked about by the worker.
        finding = Finding.STILL_OPEN if known is None else Finding.KNOWN
        return Reconciled(finding, listed, known.number if known is not None else "")
    account = db.session.execute(
        select(Account.id, Account.number, Account.currency).where(
            Account.public_id == listed.truth.customer_reference
        )
    ).one_or_none()
    if account is None or len(listed.key) > _MAX_KEY_LENGTH:
        return Reconciled(Finding.NO_ACCOUNT, listed, "")
    if account.currency != listed.truth.currency:
        return Reconciled(Finding.DIFFERS, listed, account.number)
    account_ids = {account.id} | ({known.account_id} if known is not None else set())
    try:
        state = unit_of_work(lambda session: _take(session, gateway, listed), *account_ids)
    except TruthMismatch:
        return Reconciled(Finding.DIFFERS, listed, account.number)
    finding = Finding.BOOKED if state is PaymentState.SUCCEEDED else Finding.ON_ITS_WAY
    return Reconciled(finding, listed, account.number)


def _take(session: Session, gateway: PaymentGateway, listed: Listed) -> PaymentState:
    payment_id = session.scalar(select(Payment.id).where(Payment.key == listed.key))
    if payment_id is None:
        payment_id = _adopt(session, gateway, listed)
    paid_at = {payment_id: min(listed.changed_at, clock.now())}
    return settling.apply(session, [(payment_id, listed.truth)], paid_at)[0]


def _adopt(session: Session, gateway: PaymentGateway, listed: Listed) -> int:
    """Write the payment that the gateway knows and we do not, as one that was given up here: money
    that arrives for such a one is booked, and it is in nobody's way meanwhile."""
    account_id = session.execute(
        select(Account.id).where(Account.public_id == listed.truth.customer_reference)
    ).scalar_one()
    return session.execute(
        insert(Payment).returning(Payment.id),
        {
            "public_id": _public_id(session, listed),
            "key": listed.key,
            "account_id": account_id,
            "amount_minor": listed.truth.amount_minor,
            "currency": listed.truth.currency,
            "state": PaymentState.EXPIRED.value,
            "gateway": gateway.name,
            "gateway_reference": listed.truth.reference,
            "created_at": listed.created_at,
            "ended_at": clock.now(),
            "ask_count": 0,
        },
    ).scalar_one()


def _public_id(session: Session, listed: Listed) -> str:
    """The id that the payment had, which stands in its return address: receipts are found again."""
    found = _OUR_RETURN.search(listed.return_url)
    if found is not None:
        is_taken = session.scalar(select(Payment.id).where(Payment.public_id == found[1]))
        if is_taken is None:
            return found[1]
    return ids.public_id()


# The worker's part ----------------------------------------------------------------------------


class DailyLook:
    """A duty of the worker: once a day it goes through what the gateway lists of the last days, so
    that also a chargeback is booked whose notice never came. It rests after a few seconds and goes
    on with the next round."""

    def __init__(self, gateway: PaymentGateway | None) -> None:
        self._gateway = gateway
        self._next_at = clock.now() + _FIRST_LOOK_AFTER
        self._rest: Iterator[Reconciled] | None = None

    def __call__(self) -> int:
        if self._gateway is None:
            return 0
        now = clock.now()
        if self._rest is None:
            if now < self._next_at:
                return 0
            self._next_at = now + _LOOK_EVERY
            self._rest = reconcile(self._gateway, now - _LOOK_BACK)
        end = time.monotonic() + ROUND_SECONDS
        count = 0
        try:
            for done in self._rest:
                count += 1
                if done.finding in _WORTH_SAYING:
                    log.warning(
                        "the gateway and the books differed",
                        extra={"finding": done.finding.value, "payment": done.listed.key},
                    )
                if time.monotonic() > end:
                    return count
        except (GatewayError, DatabaseBusy) as failure:
            log.warning("the daily look broke off", extra={"reason": str(failure)})
        self._rest = None
        return count
