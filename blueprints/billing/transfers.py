"""Credit moved between two accounts of the same owner: out of one, into the other, at once."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.orm import Session

from blueprints.billing import ledger
from blueprints.billing.dunning import releasing
from blueprints.billing.errors import MoreThanCredit
from core import activity, clock, form_keys, ids
from core.db import db
from core.errors import NotFound
from core.form_keys import ArrivedKey
from core.isp import current_isp
from core.money import Money, format_money
from models import Account, EntryKind, Membership, Role

LEDGER = "transfer"


@dataclass(frozen=True, slots=True)
class OwnAccount:
    """Another account of the customer's own."""

    account_id: int
    public_id: str
    number: str
    name: str
    balance: Money


def list_others(session: Session, customer_id: int, account_id: int) -> list[OwnAccount]:
    """The other accounts that the customer owns."""
    rows = session.execute(
        select(
            Account.id,
            Account.public_id,
            Account.number,
            Account.name,
            Account.balance_minor,
            Account.currency,
        )
        .join(Membership, Membership.account_id == Account.id)
        .where(
            Membership.customer_id == customer_id,
            Membership.role == Role.OWNER.value,
            Account.id != account_id,
        )
        .order_by(Account.number)
    )
    return [
        OwnAccount(
            row.id, row.public_id, row.number, row.name, Money(row.balance_minor, row.currency)
        )
        for row in rows
    ]


def move(
    customer_id: int,
    account_id: int,
    to_public_id: str,
    amount_minor: int,
    key: ArrivedKey,
    path: str,
) -> str:
    """Move credit to another account that the customer owns, where it settles what is open; the
    same form twice counts once. Returns `path`. Raises NotFound when either account is not theirs,
    MoreThanCredit."""
    isp = current_isp()
    to_id = db.session.scalar(select(Account.id).where(Account.public_id == to_public_id))
    if to_id is None or to_id == account_id:
        raise NotFound

    def work(session: Session) -> str:
        owned = session.scalars(
            select(Membership.account_id).where(
                Membership.customer_id == customer_id,
                Membership.role == Role.OWNER.value,
                Membership.account_id.in_((account_id, to_id)),
            )
        ).all()
        if set(owned) != {account_id, to_id}:
            raise NotFound
        rows = session.execute(
            select(Account.id, Account.number, Account.balance_minor).where(
                Account.id.in_((account_id, to_id))
            )
        )
        numbers, balances = {}, {}
        for row in rows:
            numbers[row.id], balances[row.id] = row.number, row.balance_minor
        if not 0 < amount_minor <= -balances[account_id]:
            credit = Money(max(-balances[account_id], 0), isp.currency)
            raise MoreThanCredit(format_money(credit, isp.language))
        _book(session, (account_id, to_id), numbers, amount_minor, isp.currency)
        return path

    return form_keys.once(key, work, account_id, to_id)


def _book(
    session: Session,
    from_to: tuple[int, int],
    numbers: dict[int, str],
    amount_minor: int,
    currency: str,
) -> None:
    from_id, to_id = from_to
    now, name = clock.now(), ids.public_id()
    today = clock.today(current_isp().timezone)
    _out_id, in_id = ledger.post(
        session,
        [
            ledger.Posting(
                key=f"transfer:{name}:out",
                kind=EntryKind.TRANSFER,
                account_id=from_id,
                booked_on=today,
                description=f"Credit moved to {numbers[to_id]}",
                lines=((ledger.RECEIVABLE, amount_minor), (LEDGER, -amount_minor)),
            ),
            ledger.Posting(
                key=f"transfer:{name}:in",
                kind=EntryKind.TRANSFER,
                account_id=to_id,
                booked_on=today,
                description=f"Credit moved from {numbers[from_id]}",
                lines=((LEDGER, amount_minor), (ledger.RECEIVABLE, -amount_minor)),
            ),
        ],
        currency,
    )
    ledger.allocate(session, [ledger.Credit(to_id, in_id, amount_minor)], now)
    releasing.lift_unpaid(session, [to_id], today)
    facts = {"amount_minor": amount_minor, "currency": currency}
    activity.record(
        session,
        [
            activity.Event("credit_moved_out", now, from_id, facts=facts),
            activity.Event("credit_moved_in", now, to_id, facts=facts),
        ],
    )
