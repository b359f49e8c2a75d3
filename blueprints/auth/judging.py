"""What a new password is held against: the words that are guessed first."""

from __future__ import annotations

from sqlalchemy import or_, select

from core.db import db
from core.isp import current_isp
from models import Account, Contact, Customer, Membership, Plan, Subscription


def words_of_customer(customer_id: int) -> list[str]:
    """What belongs to a customer, to their accounts and to the ISP: names, numbers, contacts,
    plans."""
    accounts = select(Membership.account_id).where(Membership.customer_id == customer_id)
    names = db.session.execute(
        select(Customer.name, Customer.sign_in_id, Customer.email_key).where(
            Customer.id == customer_id
        )
    ).one()
    of_accounts = db.session.execute(
        select(Account.name, Account.number).where(Account.id.in_(accounts))
    )
    contacts = db.session.scalars(
        select(Contact.value).where(
            or_(Contact.customer_id == customer_id, Contact.account_id.in_(accounts))
        )
    )
    plans = db.session.scalars(
        select(Plan.name)
        .join(Subscription, Subscription.plan_id == Plan.id)
        .where(Subscription.account_id.in_(accounts))
    )
    isp = current_isp()
    found = [
        isp.name,
        isp.id_name,
        *(value for value in names if value),
        *(value for row in of_accounts for value in row),
        *contacts,
        *plans,
    ]
    return [*found, *(part for text in found if "@" in text for part in text.split("@"))]
