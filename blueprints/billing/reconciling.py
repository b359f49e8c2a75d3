"""Making our books know what the gateway has taken, also what we have never heard of.

After yesterday's backup was restored, the payments made since are at the gateway alone. Its list
names each with our own key, so that it is booked once: a second run, the worker and the gateway's
notices all meet the same unique key.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from sqlalchemy import insert, select
from sqlalchemy.orm import Session

from blueprints.billing import settling
from blueprints.billing.errors import TruthMismatch
from core import clock, ids
from core.db import db, unit_of_work
from gateways.payments.base import GatewayState, Listed, PaymentGateway
from models import Account, Payment, PaymentState

_MONEY = (GatewayState.SUCCEEDED, GatewayState.PROCESSING)
_OUR_RETURN = re.compile(r"/pay/([0-9a-hjkmnp-tv-z]{16})/return")
_MAX_KEY_LENGTH = Payment.key.type.length or 0


class Finding(StrEnum):
    """What was found out about one payment of the gateway's list."""

    BOOKED = "booked"
    ON_ITS_WAY = "on its way"
    KNOWN = "known"
    STILL_OPEN = "still open"
    NO_ACCOUNT = "no account"
    DIFFERS = "differs"


@dataclass(frozen=True, slots=True)
class Reconciled:
    """One payment of the list, and what was done about it; `account_number` is empty without an
    account."""

    finding: Finding
    listed: Listed
    account_number: str


def reconcile(gateway: PaymentGateway, since: datetime) -> Iterator[Reconciled]:
    """Book what the gateway has taken since and we do not know; yields each once it is committed.

    Repeating it changes nothing. Raises GatewayTimeout when the list breaks off; what was yielded
    stays. Payments that moved no money are not yielded.
    """
    for listed in gateway.list_since(since):
        is_open = listed.truth.state is GatewayState.PENDING
        if is_open or listed.truth.state in _MONEY:
            yield _reconcile_one(gateway, listed)


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
