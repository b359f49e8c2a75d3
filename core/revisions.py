"""Revisions of what kept pages show, raised in the transaction that changes it."""

from __future__ import annotations

from sqlalchemy import update
from sqlalchemy.orm import Session

from models import Account, Customer


def raise_customer(session: Session, customer_id: int) -> None:
    """Outdate the pages that a device of this customer has kept."""
    session.execute(
        update(Customer).where(Customer.id == customer_id).values(revision=Customer.revision + 1)
    )


def raise_account(session: Session, account_id: int) -> None:
    """Outdate the pages about this account, whoever has kept them."""
    session.execute(
        update(Account).where(Account.id == account_id).values(revision=Account.revision + 1)
    )
