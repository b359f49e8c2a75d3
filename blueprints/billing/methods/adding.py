"""Adding a saved method on the gateway's page.

As with payments the row with its key is committed before the gateway hears of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from blueprints.billing import payments
from blueprints.billing.methods import noting
from blueprints.billing.methods.errors import (
    MethodNotFound,
    SavingDenied,
    SavingSilent,
    TooManyMethods,
)
from blueprints.billing.methods.listing import MOST_BEGUN_AN_HOUR, MOST_SAVED
from core import clock, form_keys, ids
from core.db import db, unit_of_work
from core.form_keys import ArrivedKey
from gateways.payments.base import MethodOrder, PaymentGateway
from gateways.payments.errors import GatewayRefused, GatewayTimeout
from models import Account, Customer, GatewayCustomer, MethodState, PaymentMethod


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
            noting.end(method, MethodState.FAILED, reason)

    unit_of_work(work, account_id)


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
