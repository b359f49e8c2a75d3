"""Cash and cheques that staff take at the counter: booked in the moment they are taken."""

from __future__ import annotations

from sqlalchemy.orm import Session

from blueprints.billing import booking
from blueprints.billing.errors import AmountOutOfBounds, AmountUnusual
from core import form_keys
from core.form_keys import ArrivedKey
from core.isp import current_isp
from core.money import Money, format_money
from models import Account

KINDS = (booking.CASH, booking.CHEQUE)
MAXIMUM_MINOR = 10_000_000


def take(
    account_id: int,
    amount_minor: int,
    kind: str,
    note: str,
    taken_by_id: int,
    key: ArrivedKey,
    path_of_receipt: str,
    *,
    is_sure: bool,
) -> str:
    """Book money that was handed over: it settles what is open, the rest is credit. The same form
    twice counts once. Returns the path of the receipt: `path_of_receipt` with the payment's public
    id for `{id}`. Raises AmountOutOfBounds, and AmountUnusual unless whoever enters it `is_sure`.
    """
    isp = current_isp()
    if not 1 <= amount_minor <= MAXIMUM_MINOR:
        raise AmountOutOfBounds(
            format_money(Money(1, isp.currency), isp.language),
            format_money(Money(MAXIMUM_MINOR, isp.currency), isp.language),
        )

    def work(session: Session) -> str:
        account = session.get_one(Account, account_id)
        usual_minor = max(account.balance_minor, 0) + isp.billing_rules.adjustment_limit_minor
        if amount_minor > usual_minor and not is_sure:
            raise AmountUnusual
        payment = booking.book_arrival(
            session,
            booking.Arrival(
                key=key.intent,
                account_id=account_id,
                gateway=booking.COUNTER,
                amount_minor=amount_minor,
                method=kind,
                taken_by_id=taken_by_id,
                note=note,
            ),
        )
        return path_of_receipt.format(id=payment.public_id)

    return form_keys.once(key, work, account_id)
