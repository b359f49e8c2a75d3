"""Saved payment methods: adding one on the gateway's page, naming, choosing, removing.

As with payments the row with its key is committed before the gateway hears of it, and whether it
was saved is asked, never told: the return page, the notice and the worker all come to `settle`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any

from sqlalchemy import Row, func, or_, select, update
from sqlalchemy.orm import Session

from blueprints.auth import reach
from blueprints.billing import payments, telling
from blueprints.billing.methods.errors import (
    MethodNotFound,
    SavingDenied,
    SavingSilent,
    TooManyMethods,
)
from core import activity, clock, due_work, form_keys, ids, revisions
from core.db import db, unit_of_work
from core.form_keys import ArrivedKey
from core.isp import current_isp
from gateways.payments.base import (
    GatewayState,
    MethodOrder,
    MethodTruth,
    Notice,
    PaymentGateway,
)
from gateways.payments.errors import GatewayError, GatewayRefused, GatewayTimeout, GatewayUnknownKey
from models import (
    Account,
    AutopayMandate,
    Customer,
    GatewayCustomer,
    GatewayNotice,
    MethodKind,
    MethodState,
    PaymentMethod,
    PaymentState,
    PlannedPayment,
    PlannedState,
)

log = logging.getLogger("lastmile.payments")

MOST_SAVED = 20
MOST_BEGUN_AN_HOUR = 6
_SHOWN_FOR = timedelta(days=1)
_FORGET_AGAIN = timedelta(minutes=10)
_WATCH_EVERY = timedelta(hours=1)

on_removed: list[Callable[[Session, int, int], None]] = []
"""What else follows when a method is gone, in the same unit of work: each is called with the ids
of the method and of its account."""


@dataclass(frozen=True, slots=True)
class MethodRow:
    """A method as its customer sees it. `title` is the gateway's ("Visa ending 4242"), `name`
    their own."""

    public_id: str
    kind: str
    title: str
    name: str
    expires_on: date | None
    is_default: bool
    state: str
    failure: str
    created_at: datetime
    is_expired: bool
    expires_soon: bool

    @property
    def label(self) -> str:
        return f"{self.name} ({self.title})" if self.name else self.title


_COLUMNS = (
    PaymentMethod.public_id,
    PaymentMethod.kind,
    PaymentMethod.title,
    PaymentMethod.name,
    PaymentMethod.expires_on,
    PaymentMethod.is_default,
    PaymentMethod.state,
    PaymentMethod.failure,
    PaymentMethod.created_at,
)


def list_methods(account_id: int, customer_id: int) -> list[MethodRow]:
    """What the customer has saved, the default first, then what is being saved or lately failed."""
    since = clock.now() - _SHOWN_FOR
    rows = db.session.execute(
        select(*_COLUMNS)
        .where(
            PaymentMethod.account_id == account_id,
            PaymentMethod.customer_id == customer_id,
            or_(
                PaymentMethod.state == MethodState.USABLE.value,
                PaymentMethod.state.in_((MethodState.ADDING.value, MethodState.FAILED.value))
                & (PaymentMethod.created_at >= since),
            ),
        )
        .order_by(
            PaymentMethod.state != MethodState.USABLE.value,
            PaymentMethod.is_default.desc(),
            PaymentMethod.id.desc(),
        )
        .limit(MOST_SAVED + MOST_BEGUN_AN_HOUR)
    )
    return [_row(row) for row in rows]


def list_chargeable(account_id: int, customer_id: int, gateway_name: str) -> list[MethodRow]:
    """The methods that the customer can pay with now, the default first."""
    rows = db.session.execute(
        select(*_COLUMNS)
        .where(
            PaymentMethod.account_id == account_id,
            PaymentMethod.customer_id == customer_id,
            PaymentMethod.gateway == gateway_name,
            PaymentMethod.state == MethodState.USABLE.value,
        )
        .order_by(PaymentMethod.is_default.desc(), PaymentMethod.id.desc())
    )
    return [method for row in rows if not (method := _row(row)).is_expired]


def get_method(account_id: int, customer_id: int, public_id: str) -> MethodRow:
    """A saved method of this customer. Raises MethodNotFound."""
    row = db.session.execute(
        select(*_COLUMNS).where(
            PaymentMethod.account_id == account_id,
            PaymentMethod.customer_id == customer_id,
            PaymentMethod.public_id == public_id,
            PaymentMethod.state == MethodState.USABLE.value,
        )
    ).one_or_none()
    if row is None:
        raise MethodNotFound
    return _row(row)


def _row(row: Row[*tuple[Any, ...]]) -> MethodRow:
    values = dict(row._mapping)
    isp = current_isp()
    today = clock.today(isp.timezone)
    expires_on = values["expires_on"]
    soon_on = today + timedelta(days=isp.billing_rules.expiring_days)
    is_expired = expires_on is not None and expires_on < today
    return MethodRow(
        **values,
        is_expired=is_expired,
        expires_soon=expires_on is not None and not is_expired and expires_on <= soon_on,
    )


@dataclass(frozen=True, slots=True)
class Used:
    """What ends when a method is removed."""

    has_autopay: bool
    planned: int


def find_use(account_id: int, public_id: str) -> Used:
    """Whether autopay and how many planned payments rest on the method."""
    method_id = (
        select(PaymentMethod.id)
        .where(PaymentMethod.account_id == account_id, PaymentMethod.public_id == public_id)
        .scalar_subquery()
    )
    row = db.session.execute(
        select(
            select(AutopayMandate.id)
            .where(AutopayMandate.method_id == method_id, AutopayMandate.ended_at.is_(None))
            .exists(),
            select(func.count(PlannedPayment.id))
            .where(
                PlannedPayment.method_id == method_id,
                PlannedPayment.state.in_((PlannedState.WAITING.value, PlannedState.ASKING.value)),
            )
            .scalar_subquery(),
        )
    ).one()
    return Used(bool(row[0]), int(row[1]))


# Adding ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Saving:
    """A method that is being saved, and its hosted page while that is open."""

    public_id: str
    hosted_url: str | None


def add(
    account_id: int,
    customer_id: int,
    key: ArrivedKey,
    path: str,
    gateway: PaymentGateway,
    return_url: str,
) -> Saving:
    """Begin to save a method, or find what an earlier arrival of `key` began. `path` shows what
    became of it; `return_url` contains `{id}`.

    Raises TooManyMethods, KeyReused before anything is stored; SavingDenied, SavingSilent with the
    method stored.
    """

    def work(session: Session) -> int:
        if form_keys.find_result(session, key) is not None:
            return session.execute(
                select(PaymentMethod.id).where(PaymentMethod.key == key.intent)
            ).scalar_one()
        _check_count(session, account_id, customer_id)
        method = PaymentMethod(
            public_id=ids.public_id(),
            key=key.intent,
            account_id=account_id,
            customer_id=customer_id,
            gateway=gateway.name,
            state=MethodState.ADDING.value,
            created_at=clock.now(),
            ask_at=clock.now() + payments.START_GRACE,
        )
        session.add(method)
        session.flush()
        form_keys.consume(session, key, path)
        return method.id

    return _send(unit_of_work(work, account_id), gateway, return_url)


def _check_count(session: Session, account_id: int, customer_id: int) -> None:
    mine = (PaymentMethod.account_id == account_id, PaymentMethod.customer_id == customer_id)
    an_hour_ago = clock.now() - timedelta(hours=1)
    usable = session.scalar(
        select(func.count(PaymentMethod.id)).where(
            *mine, PaymentMethod.state == MethodState.USABLE.value
        )
    )
    begun = session.scalar(
        select(func.count(PaymentMethod.id)).where(
            *mine,
            PaymentMethod.state != MethodState.USABLE.value,
            PaymentMethod.created_at > an_hour_ago,
        )
    )
    if (usable or 0) >= MOST_SAVED or (begun or 0) >= MOST_BEGUN_AN_HOUR:
        raise TooManyMethods


def _send(method_id: int, gateway: PaymentGateway, return_url: str) -> Saving:
    row = db.session.execute(
        select(
            PaymentMethod.public_id,
            PaymentMethod.key,
            PaymentMethod.account_id,
            PaymentMethod.state,
            PaymentMethod.hosted_url,
            Account.public_id.label("account_public_id"),
            Customer.language,
            GatewayCustomer.reference,
        )
        .join(Account, Account.id == PaymentMethod.account_id)
        .join(Customer, Customer.id == PaymentMethod.customer_id)
        .outerjoin(
            GatewayCustomer,
            (GatewayCustomer.gateway == PaymentMethod.gateway)
            & (GatewayCustomer.customer_id == PaymentMethod.customer_id)
            & (GatewayCustomer.account_id == PaymentMethod.account_id),
        )
        .where(PaymentMethod.id == method_id)
    ).one()
    if row.hosted_url is not None or row.state != MethodState.ADDING:
        is_open = row.state == MethodState.ADDING
        return Saving(row.public_id, row.hosted_url if is_open else None)
    order = MethodOrder(
        key=row.key,
        return_url=return_url.format(id=row.public_id),
        customer_reference=row.account_public_id,
        gateway_customer=row.reference,
        language=row.language,
    )
    try:
        started = gateway.save_method(order)
    except GatewayTimeout:
        raise SavingSilent from None
    except GatewayRefused as refusal:
        _fail(method_id, row.account_id, refusal.customer_message)
        raise SavingDenied(refusal.customer_message) from refusal

    def work(session: Session) -> None:
        session.execute(
            update(PaymentMethod)
            .where(PaymentMethod.id == method_id, PaymentMethod.state == MethodState.ADDING.value)
            .values(
                hosted_url=started.hosted_url,
                ask_count=1,
                ask_at=clock.now() + payments.ASK_SENT[0],
            )
        )

    unit_of_work(work, row.account_id)
    return Saving(row.public_id, started.hosted_url)


def _fail(method_id: int, account_id: int, reason: str) -> None:
    def work(session: Session) -> None:
        method = session.get_one(PaymentMethod, method_id)
        if method.state == MethodState.ADDING:
            _end(method, MethodState.FAILED, reason)

    unit_of_work(work, account_id)


def _end(method: PaymentMethod, state: MethodState, reason: str = "") -> None:
    method.state = state.value
    method.failure = reason[:300]
    method.ended_at = clock.now()
    method.ask_at = method.claimed_until_at = None


# Learning how it ended ------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Returned:
    """A method whose browser comes back from the gateway."""

    method_id: int
    account_public_id: str
    customer_id: int
    state: MethodState


def find_for_return(public_id: str) -> Returned:
    """The method of a return address, whoever asks. Raises MethodNotFound."""
    row = db.session.execute(
        select(
            PaymentMethod.id,
            Account.public_id,
            PaymentMethod.customer_id,
            PaymentMethod.state,
        )
        .join(Account, Account.id == PaymentMethod.account_id)
        .where(PaymentMethod.public_id == public_id)
    ).one_or_none()
    if row is None:
        raise MethodNotFound
    return Returned(row.id, row.public_id, row.customer_id, MethodState(row.state))


def settle(method_id: int, gateway: PaymentGateway, notice_id: str | None = None) -> MethodState:
    """Ask the gateway about a method and make ours say the same; the state afterwards.

    `notice_id` is stored in the same transaction as its effect.
    """
    current_isp()  # read now: asking within the unit would take a second connection meanwhile
    row = db.session.execute(
        select(PaymentMethod.key, PaymentMethod.account_id, PaymentMethod.state).where(
            PaymentMethod.id == method_id
        )
    ).one()
    if row.state == MethodState.REMOVED and notice_id is None:
        return MethodState.REMOVED
    truth: MethodTruth | None = None
    is_denied = False
    try:
        truth = gateway.ask_method(row.key)
    except GatewayUnknownKey:
        is_denied = True
    except GatewayError:
        # Not told of yet: the notice comes again, or the worker asks.
        notice_id = None

    def work(session: Session) -> MethodState:
        method = session.get_one(PaymentMethod, method_id)
        if notice_id is not None and session.get(GatewayNotice, (gateway.name, notice_id)) is None:
            session.add(
                GatewayNotice(gateway=gateway.name, event_id=notice_id, received_at=clock.now())
            )
            session.flush()
        if truth is not None and _is_of(truth, _reference_of(session, method)):
            _take_over(session, method, truth)
        elif truth is not None:
            log.critical(
                "gateway truth differs from our intent", extra={"method": method.public_id}
            )
            _ask_later(method)
        elif is_denied and clock.now() - method.created_at >= _grace(method):
            if method.state == MethodState.ADDING:
                _end(method, MethodState.FAILED)
        else:
            _ask_later(method)
        session.flush()
        return MethodState(method.state)

    return unit_of_work(work, row.account_id)


def _is_of(truth: MethodTruth, reference: str | None) -> bool:
    """Whether the truth is of our intent (bar 57); of what was forgotten a gateway may not know
    any more whose it was."""
    is_forgotten = truth.state is GatewayState.CANCELLED and not truth.customer_reference
    return is_forgotten or truth.customer_reference == reference


def _grace(method: PaymentMethod) -> timedelta:
    return payments.START_GRACE if method.hosted_url is None else payments.DENIAL_GRACE


def _reference_of(session: Session, method: PaymentMethod) -> str | None:
    return session.scalar(select(Account.public_id).where(Account.id == method.account_id))


def _ask_later(method: PaymentMethod) -> None:
    if method.state == MethodState.ADDING:
        wait = payments.ask_after(PaymentState.SENT, method.ask_count)
        method.ask_at = clock.now() + (wait or _SHOWN_FOR)
        method.ask_count += 1
    method.claimed_until_at = None


def _take_over(session: Session, method: PaymentMethod, truth: MethodTruth) -> None:
    if method.state == MethodState.REMOVED:
        if truth.reference is not None:  # saved after it was removed here
            method.gateway_reference = truth.reference
            method.ask_at = clock.now()
    elif truth.state is GatewayState.SUCCEEDED:
        _keep(session, method, truth)
    elif truth.state in (GatewayState.PENDING, GatewayState.PROCESSING):
        _ask_later(method)
    elif method.state == MethodState.ADDING:
        _end(method, MethodState.FAILED, truth.decline_reason)
    elif method.state == MethodState.USABLE:
        _take_away(session, method)


def _keep(session: Session, method: PaymentMethod, truth: MethodTruth) -> None:
    is_new = method.state != MethodState.USABLE
    if truth.expires_on != method.expires_on:
        method.told_on = None
    method.gateway_reference = truth.reference
    method.kind = MethodKind(truth.kind).value
    method.title = truth.title[:120]
    method.expires_on = truth.expires_on
    method.ask_at = method.claimed_until_at = None
    if is_new:
        method.state = MethodState.USABLE.value
        method.failure = ""
        session.flush()
        if not _has_default(session, method):
            method.is_default = True
        _keep_customer(session, method, truth)
        _note(session, method, "method_added")
    _touch(session, method)


def _has_default(session: Session, method: PaymentMethod) -> bool:
    found = session.scalar(
        select(PaymentMethod.id).where(
            PaymentMethod.account_id == method.account_id,
            PaymentMethod.customer_id == method.customer_id,
            PaymentMethod.is_default,
        )
    )
    return found is not None


def _keep_customer(session: Session, method: PaymentMethod, truth: MethodTruth) -> None:
    if truth.gateway_customer is None:
        return
    key = (method.gateway, method.customer_id, method.account_id)
    known = session.get(GatewayCustomer, key)
    if known is None:
        session.add(
            GatewayCustomer(
                gateway=key[0],
                customer_id=key[1],
                account_id=key[2],
                reference=truth.gateway_customer,
            )
        )
    else:
        known.reference = truth.gateway_customer


def _note(session: Session, method: PaymentMethod, kind: str) -> None:
    activity.record(
        session,
        [
            activity.Event(
                kind,
                clock.now(),
                account_id=method.account_id,
                customer_id=method.customer_id,
                facts={"method": method.public_id},
            )
        ],
    )
    reach.announce(session, method.customer_id, kind, account_id=method.account_id)


def _touch(session: Session, method: PaymentMethod) -> None:
    revisions.raise_customer(session, method.customer_id)
    revisions.raise_account(session, method.account_id)


def take_notice(gateway: PaymentGateway, notice: Notice) -> bool:
    """Let a believed notice about a method have its effect, once. False when it names none."""
    named = (
        PaymentMethod.key == notice.key
        if notice.key is not None
        else PaymentMethod.gateway_reference == notice.reference
    )
    method_id = db.session.scalar(
        select(PaymentMethod.id).where(named, PaymentMethod.gateway == gateway.name).limit(1)
    )
    if method_id is None:
        return False
    settle(method_id, gateway, notice.event_id)
    return True


# Naming, choosing, removing -------------------------------------------------------------------


def rename(
    account_id: int, customer_id: int, public_id: str, name: str, key: ArrivedKey, path: str
) -> str:
    """Give a method a name of the customer's own. Raises MethodNotFound."""

    def work(session: Session) -> str:
        method = _own(session, account_id, customer_id, public_id)
        method.name = name
        _touch(session, method)
        return path

    return form_keys.once(key, work, account_id)


def make_default(
    account_id: int, customer_id: int, public_id: str, key: ArrivedKey, path: str
) -> str:
    """Offer this method first from now on. Raises MethodNotFound."""

    def work(session: Session) -> str:
        method = _own(session, account_id, customer_id, public_id)
        session.execute(
            update(PaymentMethod)
            .where(
                PaymentMethod.account_id == account_id,
                PaymentMethod.customer_id == customer_id,
                PaymentMethod.is_default,
            )
            .values(is_default=False)
        )
        session.flush()
        session.refresh(method)
        method.is_default = True
        _touch(session, method)
        return path

    return form_keys.once(key, work, account_id)


def remove(account_id: int, customer_id: int, public_id: str, key: ArrivedKey, path: str) -> str:
    """Take nothing from this method any more; the worker has the gateway forget it.

    Raises MethodNotFound.
    """

    def work(session: Session) -> str:
        _take_away(session, _own(session, account_id, customer_id, public_id))
        return path

    return form_keys.once(key, work, account_id)


def remove_all(session: Session, account_ids: Sequence[int], customer_id: int) -> None:
    """Remove what the customer saved for these accounts, within the running unit of work over
    them: they use them no more."""
    for method in session.scalars(
        select(PaymentMethod).where(
            PaymentMethod.account_id.in_(account_ids),
            PaymentMethod.customer_id == customer_id,
            PaymentMethod.state.in_((MethodState.USABLE.value, MethodState.ADDING.value)),
        )
    ):
        _take_away(session, method, is_told=False)


def _own(session: Session, account_id: int, customer_id: int, public_id: str) -> PaymentMethod:
    method = session.scalar(
        select(PaymentMethod).where(
            PaymentMethod.account_id == account_id,
            PaymentMethod.customer_id == customer_id,
            PaymentMethod.public_id == public_id,
            PaymentMethod.state == MethodState.USABLE.value,
        )
    )
    if method is None:
        raise MethodNotFound
    return method


def _take_away(session: Session, method: PaymentMethod, *, is_told: bool = True) -> None:
    was_default = method.is_default
    _end(method, MethodState.REMOVED)
    method.is_default = False
    method.name = ""
    method.ask_at = clock.now()
    method.ask_count = 0
    session.flush()
    heir = session.scalar(
        select(PaymentMethod)
        .where(
            PaymentMethod.account_id == method.account_id,
            PaymentMethod.customer_id == method.customer_id,
            PaymentMethod.state == MethodState.USABLE.value,
        )
        .order_by(PaymentMethod.id.desc())
        .limit(1)
    )
    if was_default and heir is not None:
        heir.is_default = True
    for follow in on_removed:
        follow(session, method.id, method.account_id)
    if is_told:
        _note(session, method, "method_removed")
    _touch(session, method)


# The worker's part ----------------------------------------------------------------------------


def ask_due(gateway: PaymentGateway | None) -> int:
    """Ask about methods being saved, and have removed ones forgotten; returns how many."""
    if gateway is None:
        return 0

    def ask(method_id: int) -> None:
        state = db.session.scalar(select(PaymentMethod.state).where(PaymentMethod.id == method_id))
        if state == MethodState.REMOVED:
            _forget(method_id, gateway)
        else:
            settle(method_id, gateway)

    return due_work.do(
        PaymentMethod, PaymentMethod.ask_at, ask, PaymentMethod.gateway == gateway.name
    )


def _forget(method_id: int, gateway: PaymentGateway) -> None:
    """Have the gateway forget a removed method. One that was never finished is asked about first:
    it may have been saved in another tab."""
    row = db.session.execute(
        select(PaymentMethod.key, PaymentMethod.account_id, PaymentMethod.gateway_reference).where(
            PaymentMethod.id == method_id
        )
    ).one()
    is_forgotten = False
    try:
        reference = row.gateway_reference or gateway.ask_method(row.key).reference
        if reference is not None:
            gateway.forget_method(reference)
        is_forgotten = True
    except GatewayUnknownKey:
        is_forgotten = True
    except GatewayError as failure:
        log.warning("a method is not forgotten yet", extra={"reason": str(failure)})

    def work(session: Session) -> None:
        method = session.get_one(PaymentMethod, method_id)
        if is_forgotten:
            method.gateway_reference = method.ask_at = None
            method.title = ""
        else:
            method.ask_at = clock.now() + _FORGET_AGAIN
        method.claimed_until_at = None

    unit_of_work(work, row.account_id)


class ExpiryWatch:
    """A duty of the worker: says once of each card that it expires soon."""

    def __init__(self) -> None:
        self._next_at: datetime | None = None

    def __call__(self) -> int:
        now = clock.now()
        if self._next_at is not None and now < self._next_at:
            return 0
        self._next_at = now + _WATCH_EVERY
        return tell_expiring()


def tell_expiring() -> int:
    """Tell the customers whose cards expire soon or have just expired; returns how many."""
    isp = current_isp()
    today = clock.today(isp.timezone)
    soon_on = today + timedelta(days=isp.billing_rules.expiring_days)
    which = (
        PaymentMethod.state == MethodState.USABLE.value,
        PaymentMethod.told_on.is_(None),
        PaymentMethod.expires_on <= soon_on,
    )
    rows = db.session.execute(
        select(PaymentMethod.id, PaymentMethod.account_id).where(*which)
    ).all()
    return sum(unit_of_work(_telling(row.id, today), row.account_id) for row in rows)


def _telling(method_id: int, today: date) -> Callable[[Session], int]:
    def work(session: Session) -> int:
        method = session.get_one(PaymentMethod, method_id)
        if method.told_on is not None or method.state != MethodState.USABLE:
            return 0
        method.told_on = today
        telling.tell(
            session,
            "method_expiring",
            method.account_id,
            method.customer_id,
            {
                "title": method.title,
                "expires_on": method.expires_on.isoformat() if method.expires_on else "",
                "account": _reference_of(session, method) or "",
            },
        )
        return 1

    return work
