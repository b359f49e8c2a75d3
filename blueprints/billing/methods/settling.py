"""Learning what became of a method that is being saved, or was.

It is asked, never told: the return page, the notice and the worker all come to `settle`.
"""

from __future__ import annotations

import logging
from datetime import timedelta

from sqlalchemy import select
from sqlalchemy.orm import Session

from blueprints.billing import payments
from blueprints.billing.methods import noting, removing
from blueprints.billing.methods.listing import SHOWN_FOR
from core import clock, due_work
from core.db import db, unit_of_work
from core.isp import current_isp
from gateways.payments.base import GatewayState, MethodTruth, Notice, PaymentGateway
from gateways.payments.errors import GatewayError, GatewayUnknownKey
from models import (
    GatewayCustomer,
    GatewayNotice,
    MethodKind,
    MethodState,
    PaymentMethod,
    PaymentState,
)

log = logging.getLogger("lastmile.payments")


def settle(method_id: int, gateway: PaymentGateway, notice_id: str | None = None) -> MethodState:
    """Ask the gateway about a method and make ours say the same; the state afterwards.

    `notice_id` is stored in the same transaction as its effect.
    """
    current_isp()  # read now: asking within the unit would take a second connection meanwhile
    row = db.session.execute(
        select(
            PaymentMethod.key,
            PaymentMethod.account_id,
            PaymentMethod.state,
            PaymentMethod.gateway,
        ).where(PaymentMethod.id == method_id)
    ).one()
    if row.gateway != gateway.name or (row.state == MethodState.REMOVED and notice_id is None):
        return MethodState(row.state)  # what another gateway keeps, this one does not know
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
        if truth is not None and _is_of(truth, noting.account_reference(session, method)):
            _take_over(session, method, truth)
        elif truth is not None:
            log.critical(
                "gateway truth differs from our intent", extra={"method": method.public_id}
            )
            _ask_later(method)
        elif is_denied and clock.now() - method.created_at >= _grace(method):
            if method.state == MethodState.ADDING:
                noting.end(method, MethodState.FAILED)
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


def _ask_later(method: PaymentMethod) -> None:
    if method.state == MethodState.ADDING:
        wait = payments.ask_after(PaymentState.SENT, method.ask_count)
        method.ask_at = clock.now() + (wait or SHOWN_FOR)
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
        noting.end(method, MethodState.FAILED, truth.decline_reason)
    elif method.state == MethodState.USABLE:
        removing.take_away(session, method)


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
        _become_default(session, method)
        _keep_customer(session, method, truth)
        noting.note(session, method, "method_added")
    noting.touch(session, method)


def _become_default(session: Session, method: PaymentMethod) -> None:
    """Offer it first where nothing else is, or only what the ISP's former gateway keeps."""
    before = session.scalar(
        select(PaymentMethod).where(
            PaymentMethod.account_id == method.account_id,
            PaymentMethod.customer_id == method.customer_id,
            PaymentMethod.is_default,
        )
    )
    if before is not None and before.gateway == method.gateway:
        return
    if before is not None:
        before.is_default = False
        session.flush()
    method.is_default = True


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


def ask_due(gateway: PaymentGateway | None) -> int:
    """Ask about methods being saved, and have removed ones forgotten; returns how many."""
    if gateway is None:
        return 0

    def ask(method_id: int) -> None:
        state = db.session.scalar(select(PaymentMethod.state).where(PaymentMethod.id == method_id))
        if state == MethodState.REMOVED:
            removing.forget(method_id, gateway)
        else:
            settle(method_id, gateway)

    return due_work.do(
        PaymentMethod, PaymentMethod.ask_at, ask, PaymentMethod.gateway == gateway.name
    )
