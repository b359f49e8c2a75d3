"""How long before it takes money autopay says so."""

from __future__ import annotations

from sqlalchemy import select
from sqlalchemy.orm import Session

from core.isp import current_isp
from models import AutopayMandate, MethodKind, Payment, PaymentState, PlannedPayment


def days_before(
    session: Session, mandate: AutopayMandate, method_kind: str, amount_minor: int
) -> int:
    """The days between the notice and taking `amount_minor`.

    A debit that varies from the one before needs the longer notice, unless it lies in the range
    within which the customer wants none (12 CFR 1005.10(d)).
    """
    rules = current_isp().billing_rules
    if method_kind != MethodKind.BANK or _is_in_range(mandate, amount_minor):
        return rules.notice_days
    last_minor = session.scalar(
        select(Payment.amount_minor)
        .join(PlannedPayment, PlannedPayment.id == Payment.planned_id)
        .where(
            Payment.account_id == mandate.account_id,
            Payment.state.in_((PaymentState.SUCCEEDED.value, PaymentState.PROCESSING.value)),
            PlannedPayment.mandate_id == mandate.id,
        )
        .order_by(Payment.created_at.desc(), Payment.id.desc())
        .limit(1)
    )
    return rules.notice_days if last_minor == amount_minor else rules.debit_notice_days


def _is_in_range(mandate: AutopayMandate, amount_minor: int) -> bool:
    lowest, highest = mandate.range_from_minor, mandate.range_to_minor
    return lowest is not None and highest is not None and lowest <= amount_minor <= highest
