"""Removing saved methods: nothing is taken with them any more, and the gateway forgets them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from datetime import timedelta

from sqlalchemy import not_, select
from sqlalchemy.orm import Session

from blueprints.billing.methods import keeping, noting
from blueprints.billing.methods.choosing import get_own
from core import clock, form_keys
from core.db import db, unit_of_work
from core.form_keys import ArrivedKey
from gateways.payments.base import PaymentGateway
from gateways.payments.errors import GatewayError, GatewayUnknownKey
from models import MethodState, PaymentMethod

log = logging.getLogger("lastmile.payments")

_FORGET_AGAIN = timedelta(minutes=10)


on_removed: list[Callable[[Session, int, int], None]] = []
"""What else follows when a method is gone, in the same unit of work: each is called with the ids
of the method and of its account."""


def remove(account_id: int, customer_id: int, public_id: str, key: ArrivedKey, path: str) -> str:
    """Take nothing from this method any more; the worker has the gateway forget it.

    Raises MethodNotFound.
    """

    def work(session: Session) -> str:
        take_away(session, get_own(session, account_id, customer_id, public_id))
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
        take_away(session, method, is_told=False)


def take_away(session: Session, method: PaymentMethod, *, is_told: bool = True) -> None:
    """Remove the method within the running unit of work; another becomes the default."""
    was_default = method.is_default
    noting.end(method, MethodState.REMOVED)
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
        .order_by(not_(keeping.is_kept()), PaymentMethod.id.desc())
        .limit(1)
    )
    if was_default and heir is not None:
        heir.is_default = True
    for follow in on_removed:
        follow(session, method.id, method.account_id)
    if is_told:
        noting.note(session, method, "method_removed")
    if keeping.is_moved(method.gateway):
        method.title = ""  # else it stays until that gateway says that it has forgotten
    noting.touch(session, method)


def forget(method_id: int, gateway: PaymentGateway) -> None:
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
