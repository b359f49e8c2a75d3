"""The saved methods that somebody may plan a payment with."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date

from sqlalchemy import ColumnElement, and_, or_, select
from sqlalchemy.orm import Session

from blueprints.billing import gateway_words
from blueprints.billing.methods import keeping
from blueprints.billing.planned.errors import MethodUnusable
from models import Membership, MethodKind, MethodState, PaymentMethod, Role

_PAY = (Role.OWNER.value, Role.PAYER.value)


@dataclass(frozen=True, slots=True)
class SavedMethod:
    """A card or bank account; `title` is the gateway's, `name` what its owner calls it."""

    id: int
    public_id: str
    kind: str
    title: str
    name: str
    expires_on: date | None

    @property
    def label(self) -> str:
        """What it is called, in the language of the answer."""
        title = gateway_words.translate(self.title)
        return f"{self.name} ({title})" if self.name else title

    @property
    def is_bank(self) -> bool:
        return self.kind == MethodKind.BANK


def is_usable_on(day: date) -> ColumnElement[bool]:
    """Whether a method can be used on `day`, as far as is known today, by whoever saved it."""
    return and_(
        PaymentMethod.state == MethodState.USABLE.value,
        keeping.is_kept(),
        or_(PaymentMethod.expires_on.is_(None), PaymentMethod.expires_on >= day),
        select(Membership.customer_id)
        .where(
            Membership.customer_id == PaymentMethod.customer_id,
            Membership.account_id == PaymentMethod.account_id,
            Membership.role.in_(_PAY),
        )
        .exists(),
    )


def list_usable(
    session: Session, account_id: int, customer_id: int, day: date
) -> list[SavedMethod]:
    """What the customer saved for the account and can use on `day`, the default first."""
    rows = session.execute(
        select(
            PaymentMethod.id,
            PaymentMethod.public_id,
            PaymentMethod.kind,
            PaymentMethod.title,
            PaymentMethod.name,
            PaymentMethod.expires_on,
        )
        .where(
            PaymentMethod.account_id == account_id,
            PaymentMethod.customer_id == customer_id,
            is_usable_on(day),
        )
        .order_by(PaymentMethod.is_default.desc(), PaymentMethod.id)
    )
    return [SavedMethod(*row) for row in rows]


def get_usable(
    session: Session, account_id: int, customer_id: int, public_id: str, day: date
) -> SavedMethod:
    """One of them. Raises MethodUnusable."""
    for method in list_usable(session, account_id, customer_id, day):
        if method.public_id == public_id:
            return method
    raise MethodUnusable
