"""Taking a payment from a saved method, while its customer is away or with one press of theirs.

The row with its key is committed before. The gateway takes the money once for each key; when it
does not answer, the payment is `unknown` and the worker asks.
"""

from __future__ import annotations

import logging
from datetime import timedelta

from flask import current_app
from sqlalchemy import and_, select

from blueprints.billing import payments, settling
from core import clock
from core.db import db
from core.isp import current_isp
from gateways.payments.base import ChargeOrder, PaymentGateway
from gateways.payments.errors import KEY_REUSED, GatewayRefused, GatewayTimeout
from models import Account, GatewayCustomer, Payment, PaymentMethod, PaymentState

log = logging.getLogger("lastmile.payments")

# Sent only while nobody can have been told yet that the gateway never saw it: a call lasts twenty
# seconds at most, and after START_GRACE its absence is believed.
_SEND_WITHIN = payments.START_GRACE - timedelta(seconds=25)


def charge(payment_id: int, gateway: PaymentGateway) -> PaymentState:
    """Take a committed payment from its saved method (`Payment.method_id`); the state afterwards.

    Safe to repeat: what may have been sent before is asked about instead. `sent` means that the
    customer has to confirm it on the page at `Payment.hosted_url`.
    """
    row = db.session.execute(
        select(
            Payment.public_id,
            Payment.key,
            Payment.account_id,
            Payment.state,
            Payment.amount_minor,
            Payment.currency,
            Payment.created_at,
            Account.public_id.label("account_public_id"),
            Account.number,
            Account.language,
            PaymentMethod.gateway_reference,
            Payment.gateway,
            GatewayCustomer.reference.label("gateway_customer"),
        )
        .join(Account, Account.id == Payment.account_id)
        .join(PaymentMethod, PaymentMethod.id == Payment.method_id)
        .outerjoin(
            GatewayCustomer,
            and_(
                GatewayCustomer.gateway == PaymentMethod.gateway,
                GatewayCustomer.customer_id == PaymentMethod.customer_id,
                GatewayCustomer.account_id == PaymentMethod.account_id,
            ),
        )
        .where(Payment.id == payment_id)
    ).one()
    state = PaymentState(row.state)
    is_ours = row.gateway == gateway.name  # else only the one it was begun with knows
    if not is_ours or state not in (PaymentState.CREATED, PaymentState.UNKNOWN):
        return state
    is_fresh = clock.now() - row.created_at < _SEND_WITHIN
    if state is PaymentState.UNKNOWN or not is_fresh or row.gateway_reference is None:
        return settling.settle(payment_id, gateway)
    order = ChargeOrder(
        key=row.key,
        amount_minor=row.amount_minor,
        currency=row.currency,
        description=f"{current_isp().name} {row.number}",
        method_reference=row.gateway_reference,
        gateway_customer=row.gateway_customer,
        customer_reference=row.account_public_id,
        language=row.language,
        return_url=f"{current_app.config['PORTAL'].public_url}/pay/{row.public_id}/return",
    )
    try:
        truth = gateway.charge(order)
    except GatewayTimeout:
        payments.mark_unknown(payment_id, row.account_id)
        return PaymentState.UNKNOWN
    except GatewayRefused as refusal:
        if refusal.code == KEY_REUSED:
            # It is there in other words, say under another name of ours, since an answer was lost.
            return settling.settle(payment_id, gateway)
        log.warning("a charge was refused", extra={"payment": row.public_id, "code": refusal.code})
        payments.end(payment_id, row.account_id, PaymentState.DECLINED, refusal.customer_message)
        return PaymentState.DECLINED
    return settling.apply_one(payment_id, row.account_id, truth, gateway.name, None)
