"""Redeeming a voucher: once, whoever else tries at the same moment."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, timedelta
from ipaddress import IPv4Network, IPv6Network

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from blueprints.billing import booking
from blueprints.billing.vouchers import codes
from blueprints.billing.vouchers.errors import (
    CodeMistyped,
    CodeUnknown,
    VoucherExpired,
    VoucherUsed,
)
from core import clock, form_keys, throttle
from core.form_keys import ArrivedKey
from core.isp import current_isp
from models import Voucher, VoucherBatch

TRIES = ((timedelta(minutes=5), 5), (timedelta(days=1), 20))
"""How many codes that we do not know one customer may try."""


def redeem(
    account_id: int,
    customer_id: int,
    typed: str,
    key: ArrivedKey,
    path_of_payment: str,
    secret: bytes,
    address: str,
    shared_networks: Sequence[IPv4Network | IPv6Network],
) -> str:
    """Book the voucher's amount on the account; the same form twice counts once. Returns the path
    of the payment: `path_of_payment` with its public id for `{id}`.

    Raises CodeMistyped, which nothing counts; otherwise each try is counted for the customer and
    their network: TooManyAttempts, CodeUnknown, VoucherUsed, VoucherExpired.
    """
    code = codes.clean(typed)
    if not codes.is_whole(code):
        raise CodeMistyped
    code_hash = codes.hash_of(secret, code)
    today = clock.today(current_isp().timezone)
    subject = throttle.subject_of(secret, f"\0voucher {customer_id}")
    attempt = throttle.begin_within(subject, TRIES, address, shared_networks)

    is_first = False

    def work(session: Session) -> str:
        nonlocal is_first
        voucher_id, amount_minor = _take(session, code_hash, today)
        payment = booking.book_arrival(
            session,
            booking.Arrival(
                key=f"voucher:{voucher_id}",
                account_id=account_id,
                gateway=booking.VOUCHER,
                amount_minor=amount_minor,
                customer_id=customer_id,
            ),
        )
        session.execute(
            update(Voucher).where(Voucher.id == voucher_id).values(payment_id=payment.id)
        )
        throttle.note_passed(session, attempt)
        is_first = True
        return path_of_payment.format(id=payment.public_id)

    path = form_keys.once(key, work, account_id)
    if not is_first:
        throttle.withdraw(attempt)
    return path


def _take(session: Session, code_hash: bytes, today: date) -> tuple[int, int]:
    """The voucher that this unit of work alone has, and its amount."""
    voucher_id = session.scalar(
        update(Voucher)
        .where(Voucher.code_hash == code_hash, Voucher.redeemed_at.is_(None))
        .values(redeemed_at=clock.now())
        .returning(Voucher.id)
    )
    row = session.execute(
        select(VoucherBatch.amount_minor, VoucherBatch.expires_on, VoucherBatch.cancelled_at)
        .join(Voucher, Voucher.batch_id == VoucherBatch.id)
        .where(Voucher.code_hash == code_hash)
    ).one_or_none()
    if row is None:
        raise CodeUnknown
    if voucher_id is None:
        raise VoucherUsed
    if row.cancelled_at is not None or (row.expires_on is not None and row.expires_on < today):
        raise VoucherExpired
    return voucher_id, row.amount_minor
