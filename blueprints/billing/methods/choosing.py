"""Naming a saved method, and offering one before the others."""

from __future__ import annotations

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from blueprints.billing.methods import noting
from blueprints.billing.methods.errors import MethodNotFound
from core import form_keys
from core.form_keys import ArrivedKey
from models import MethodState, PaymentMethod


def rename(
    account_id: int, customer_id: int, public_id: str, name: str, key: ArrivedKey, path: str
) -> str:
    """Give a method a name of the customer's own. Raises MethodNotFound."""

    def work(session: Session) -> str:
        method = get_own(session, account_id, customer_id, public_id)
        method.name = name
        noting.touch(session, method)
        return path

    return form_keys.once(key, work, account_id)


def make_default(
    account_id: int, customer_id: int, public_id: str, key: ArrivedKey, path: str
) -> str:
    """Offer this method first from now on. Raises MethodNotFound."""

    def work(session: Session) -> str:
        method = get_own(session, account_id, customer_id, public_id)
        session.execute(
            update(PaymentMethod)
            .where(
                PaymentMethod.account_id == account_id,
                PaymentMethod.customer_id == customer_id,
                PaymentMethod.is_default,
            )
            .values(is_default=False)
        )
        session.flush()
        session.refresh(method)
        method.is_default = True
        noting.touch(session, method)
        return path

    return form_keys.once(key, work, account_id)


def get_own(session: Session, account_id: int, customer_id: int, public_id: str) -> PaymentMethod:
    """A usable method of the customer's own. Raises MethodNotFound."""
    method = session.scalar(
        select(PaymentMethod).where(
            PaymentMethod.account_id == account_id,
            PaymentMethod.customer_id == customer_id,
            PaymentMethod.public_id == public_id,
            PaymentMethod.state == MethodState.USABLE.value,
        )
    )
    if method is None:
        raise MethodNotFound
    return method
