"""Starting a payment: from the button to the gateway's page, or from a saved method at once.

The row with its key is committed before the gateway hears of it. A time-out is `unknown`, never
`declined`.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum

from sqlalchemy import select
from sqlalchemy.orm import Session

from blueprints.billing import charging, payments, settling
from blueprints.billing.errors import (
    AmountChanged,
    AmountOutOfBounds,
    GatewaySaysNo,
    GatewaySilent,
    InvoiceNotFound,
    MethodGone,
    NoGateway,
    NothingToPay,
    PaymentNotFound,
    PaymentUnderWay,
)
from blueprints.lines import opening
from core import clock, form_keys
from core.db import db, unit_of_work
from core.form_keys import ArrivedKey
from core.isp import current_isp
from core.money import Money, format_money
from gateways.payments.base import PaymentGateway, StartOrder
from gateways.payments.errors import (
    KEY_REUSED,
    GatewayError,
    GatewayRefused,
    GatewayTimeout,
)
from models import (
    UNDER_WAY,
    Account,
    Invoice,
    InvoiceBalance,
    MethodState,
    Payment,
    PaymentMethod,
    PaymentState,
)

log = logging.getLogger("lastmile.payments")

# Gateways keep idempotency keys for a day; after that a start could make a second payment.
_RESEND_WITHIN = timedelta(hours=23)


class Choice(StrEnum):
    """What the customer chose to pay."""

    BALANCE = "balance"
    INVOICE = "invoice"
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class Order:
    """A wish to pay. `amount_minor` counts for `Choice.OTHER`, `invoice_public_id` for INVOICE.

    `shown_minor` is what the page said would be paid for BALANCE and INVOICE; it is compared with
    what is owed now and never used as the amount. `method_public_id`: the customer's saved method
    that it is taken from, without the hosted page.
    """

    account_id: int
    customer_id: int | None
    choice: Choice
    amount_minor: int | None = None
    invoice_public_id: str | None = None
    shown_minor: int | None = None
    method_public_id: str | None = None


@dataclass(frozen=True, slots=True)
class OnItsWay:
    """A payment as the start leaves it: where its page is and, when known, the hosted page."""

    payment_id: int
    public_id: str
    hosted_url: str | None


def start(
    order: Order,
    key: ArrivedKey,
    path_of_payment: str,
    gateway: PaymentGateway | None,
    return_url: str,
) -> OnItsWay:
    """Start the payment, or find the one that an earlier arrival of `key` started.

    `path_of_payment` and `return_url` contain `{id}` for the payment's public id. Raises
    PaymentUnderWay, AmountOutOfBounds, NothingToPay, InvoiceNotFound, MethodGone, NoGateway,
    KeyReused before anything is stored; GatewaySaysNo when the gateway refuses and GatewaySilent
    when it does not answer, both with the payment stored.
    """
    if gateway is None:
        raise NoGateway

    def work(session: Session) -> int:
        if form_keys.find_result(session, key) is not None:
            return session.execute(select(Payment.id).where(Payment.key == key.intent)).scalar_one()
        amount_minor, invoice_id = _amount_of(session, order)
        method_id = _method_of(session, order, gateway.name)
        under_way = session.scalar(
            select(Payment.public_id).where(
                Payment.account_id == order.account_id, Payment.state.in_(UNDER_WAY)
            )
        )
        if under_way is not None:
            raise PaymentUnderWay(under_way)
        new = payments.NewPayment(
            key.intent, order.account_id, order.customer_id, invoice_id, amount_minor, method_id
        )
        [(payment_id, public_id)] = payments.create(session, [new], gateway.name)
        form_keys.consume(session, key, path_of_payment.format(id=public_id))
        opening.open_to_pay(session, order.account_id)
        return payment_id

    return send(unit_of_work(work, order.account_id), gateway, return_url)


def _amount_of(session: Session, order: Order) -> tuple[int, int | None]:
    account = session.execute(
        select(Account.balance_minor, Account.currency).where(Account.id == order.account_id)
    ).one()
    if order.choice is Choice.OTHER:
        amount_minor = order.amount_minor or 0
        if not payments.MINIMUM_MINOR <= amount_minor <= payments.MAXIMUM_MINOR:
            language = current_isp().language
            raise AmountOutOfBounds(
                format_money(Money(payments.MINIMUM_MINOR, account.currency), language),
                format_money(Money(payments.MAXIMUM_MINOR, account.currency), language),
            )
        return amount_minor, None
    if order.choice is Choice.BALANCE:
        due_minor = account.balance_minor - payments.processing_minor(session, order.account_id)
        if due_minor <= 0:
            raise NothingToPay
        _check_shown(order, due_minor, account.currency)
        return due_minor, None
    invoice = session.execute(
        select(Invoice.id, InvoiceBalance.open_minor)
        .join(InvoiceBalance, InvoiceBalance.invoice_id == Invoice.id)
        .where(Invoice.account_id == order.account_id, Invoice.public_id == order.invoice_public_id)
    ).one_or_none()
    if invoice is None:
        raise InvoiceNotFound
    open_minor = min(
        invoice.open_minor,
        account.balance_minor - payments.processing_minor(session, order.account_id),
    )
    if open_minor <= 0:
        raise NothingToPay
    _check_shown(order, open_minor, account.currency)
    return open_minor, invoice.id


def _method_of(session: Session, order: Order, gateway_name: str) -> int | None:
    if order.method_public_id is None:
        return None
    method_id = session.scalar(
        select(PaymentMethod.id).where(
            PaymentMethod.public_id == order.method_public_id,
            PaymentMethod.account_id == order.account_id,
            PaymentMethod.customer_id == order.customer_id,
            PaymentMethod.gateway == gateway_name,
            PaymentMethod.state == MethodState.USABLE.value,
        )
    )
    if method_id is None:
        raise MethodGone
    return method_id


def _check_shown(order: Order, amount_minor: int, currency: str) -> None:
    """Nobody is sent to pay another sum than the button said."""
    if order.shown_minor not in (None, amount_minor):
        raise AmountChanged(format_money(Money(amount_minor, currency), current_isp().language))


def send(payment_id: int, gateway: PaymentGateway, return_url: str) -> OnItsWay:
    """Ask the gateway for the hosted page of a payment that may already have one, or take it from
    its saved method.

    Idempotent by the payment's key, so any number of copies end at the same page; after a day the
    payment is reconciled instead. Raises GatewaySaysNo when the gateway refuses, GatewaySilent
    when it does not answer.
    """
    payment = db.session.execute(
        select(
            Payment.public_id,
            Payment.account_id,
            Payment.state,
            Payment.hosted_url,
            Payment.key,
            Payment.amount_minor,
            Payment.currency,
            Payment.created_at,
            Payment.method_id,
            Account.public_id.label("account_public_id"),
            Account.number,
            Account.language,
        )
        .join(Account, Account.id == Payment.account_id)
        .where(Payment.id == payment_id)
    ).one()
    if payment.hosted_url is not None or payment.state not in UNDER_WAY:
        is_open = payment.state in UNDER_WAY
        return OnItsWay(payment_id, payment.public_id, payment.hosted_url if is_open else None)
    if payment.method_id is not None:
        return _charge(payment_id, payment.public_id, gateway)
    if clock.now() - payment.created_at >= _RESEND_WITHIN:
        settling.settle(payment_id, gateway)
        return OnItsWay(payment_id, payment.public_id, None)
    order = StartOrder(
        key=payment.key,
        amount_minor=payment.amount_minor,
        currency=payment.currency,
        description=f"{current_isp().name} {payment.number}",
        return_url=return_url.format(id=payment.public_id),
        customer_reference=payment.account_public_id,
        language=payment.language,
    )
    try:
        started = gateway.start(order)
    except GatewayTimeout:
        payments.mark_unknown(payment_id, payment.account_id)
        raise GatewaySilent(payment.public_id) from None
    except GatewayRefused as refusal:
        if refusal.code == KEY_REUSED:
            # It is there in other words, say in another language, since an answer was lost: nobody
            # was given its page, so it is taken back where it is, for the customer to start anew.
            _withdraw(payment_id, payment.account_id, payment.key, gateway)
            return OnItsWay(payment_id, payment.public_id, None)
        payments.end(
            payment_id, payment.account_id, PaymentState.DECLINED, refusal.customer_message
        )
        raise GatewaySaysNo(refusal.customer_message, payment.public_id) from refusal

    def work(session: Session) -> tuple[str, str | None]:
        payments.change(
            session,
            payment_id,
            (Payment.state.in_(UNDER_WAY), Payment.hosted_url.is_(None)),
            state=PaymentState.SENT.value,
            gateway_reference=started.reference,
            hosted_url=started.hosted_url,
            ask_count=1,
            ask_at=clock.now() + payments.ASK_SENT[0],
        )
        row = session.execute(
            select(Payment.state, Payment.hosted_url).where(Payment.id == payment_id)
        ).one()
        return row.state, row.hosted_url

    state, hosted_url = unit_of_work(work, payment.account_id)
    if state in UNDER_WAY:
        return OnItsWay(payment_id, payment.public_id, hosted_url)
    if hosted_url is None:
        _withdraw(payment_id, payment.account_id, payment.key, gateway)
    return OnItsWay(payment_id, payment.public_id, None)


def _charge(payment_id: int, public_id: str, gateway: PaymentGateway) -> OnItsWay:
    state = charging.charge(payment_id, gateway)
    if state is not PaymentState.SENT:
        return OnItsWay(payment_id, public_id, None)
    hosted_url = db.session.scalar(select(Payment.hosted_url).where(Payment.id == payment_id))
    return OnItsWay(payment_id, public_id, hosted_url)


def _withdraw(payment_id: int, account_id: int, key: str, gateway: PaymentGateway) -> None:
    """Take back a start that arrived after its payment had ended here.

    Nobody was given its page, so no money can move on it, whether or not this succeeds.
    """
    try:
        truth = gateway.cancel(key)
    except GatewayError as failure:
        log.warning("a late start could not be withdrawn", extra={"reason": str(failure)})
    else:
        settling.apply_one(payment_id, account_id, truth, gateway.name, None)


def resume(account_id: int, public_id: str, gateway: PaymentGateway, return_url: str) -> OnItsWay:
    """Go on with a payment that was started. Raises PaymentNotFound and what `send` raises."""
    payment_id = db.session.scalar(
        select(Payment.id).where(Payment.account_id == account_id, Payment.public_id == public_id)
    )
    if payment_id is None:
        raise PaymentNotFound
    if opening.list_openable(db.session(), account_id):
        unit_of_work(lambda session: opening.open_to_pay(session, account_id), account_id)
    return send(payment_id, gateway, return_url)
