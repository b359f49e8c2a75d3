"""Choosing ID and password: what is refused, what is free, and the customer that comes of it."""

from __future__ import annotations

import re
import secrets
import unicodedata
from collections.abc import Sequence
from datetime import timedelta

from flask_babel import gettext as _
from sqlalchemy import or_, select, update
from sqlalchemy.orm import Session

from blueprints.auth import reach
from blueprints.auth.errors import AlreadyRegistered, PasswordWeak, SignInIdTaken
from core import activity, clock, ids, passwords, search_terms, throttle
from core.db import db
from core.isp import current_isp
from models import (
    Account,
    Contact,
    ContactKind,
    Customer,
    Membership,
    Plan,
    Role,
    Subscription,
)

SUGGESTED = 3
QUESTIONS = ((timedelta(hours=1), 60),)
"""How often one may ask whether an ID is free."""
_LETTERS = re.compile(r"[a-z0-9]+")


def fold(typed_id: str) -> str:
    """The form under which a sign-in ID or an e-mail address is looked up."""
    return typed_id.strip().casefold()


# Passwords ------------------------------------------------------------------------------------


def words_of_account(account_id: int) -> list[str]:
    """What belongs to the ISP and the account and so is guessed first: names, number, plans,
    contacts."""
    account = db.session.execute(
        select(Account.name, Account.number).where(Account.id == account_id)
    ).one()
    plans = (
        select(Plan.name)
        .join(Subscription, Subscription.plan_id == Plan.id)
        .where(Subscription.account_id == account_id)
    )
    contacts = select(Contact.value).where(Contact.account_id == account_id)
    found = [*account, *db.session.scalars(plans), *db.session.scalars(contacts)]
    isp = current_isp()
    return [isp.name, isp.id_name, *found, *(part for text in found for part in text.split("@"))]


def check_password(password: str, context: Sequence[str]) -> None:
    """Raises PasswordWeak for what is refused under the rules of this ISP; `context` are words that
    are guessed first."""
    weakness = passwords.find_weakness(
        password, context, requires_mixed=current_isp().requires_mixed_password
    )
    if weakness is not None:
        raise PasswordWeak(weakness)


def check_chosen(
    sign_in_id: str, password: str, context: Sequence[str], asker: bytes, *, whose_id: int = 0
) -> None:
    """Raises PasswordWeak as `check_password` does, and says with it whether the ID is taken by
    anybody but the customer `whose_id`, as often as `is_free` would tell `asker`.

    An ID that is taken beside a good password is found out when the customer is made.
    """
    try:
        check_password(password, [*context, sign_in_id])
    except PasswordWeak as refusal:
        try:
            refusal.is_id_taken = not is_free(sign_in_id, asker, whose_id=whose_id)
        except throttle.TooManyAttempts:
            refusal.is_id_taken = False
        raise


def strength_line(password: str, context: Sequence[str]) -> str:
    """What there is to say of a password that is being typed: nothing of an empty one."""
    if not password:
        return ""
    try:
        check_password(password, context)
    except PasswordWeak as refusal:
        return refusal.reason
    return _("Good: this is hard to guess.")


# IDs ------------------------------------------------------------------------------------------


def is_taken(session: Session, sign_in_id: str, *, whose_id: int = 0) -> bool:
    """Whether somebody but the customer `whose_id` signs in with this ID already, or with the
    e-mail address that it is."""
    key = fold(sign_in_id)
    found = session.scalar(
        select(Customer.id).where(
            or_(Customer.sign_in_key == key, Customer.email_key == key), Customer.id != whose_id
        )
    )
    return found is not None


def is_free(sign_in_id: str, asker: bytes, *, whose_id: int = 0) -> bool:
    """Whether nobody else has the ID. Raises TooManyAttempts by `asker`, the name under which
    `throttle` counts the questions: it is no list of who is a customer."""
    throttle.begin_within(asker, QUESTIONS)
    return not is_taken(db.session(), sign_in_id, whose_id=whose_id)


def list_free_ids(name: str) -> list[str]:
    """Some IDs that are free now, made from a person's name; none where it has no Latin letters."""
    plain = unicodedata.normalize("NFKD", name.casefold()).encode("ascii", "ignore").decode()
    parts = _LETTERS.findall(plain)[:3]
    if not parts:
        return []
    first, last = parts[0], parts[-1]
    bare = [".".join(dict.fromkeys((first, last))), f"{first[0]}{last}", f"{last}.{first[0]}"]
    numbered = [f"{bare[0]}{secrets.randbelow(90) + 10}" for _number in range(SUGGESTED)]
    wanted = [each[:40] for each in dict.fromkeys([*bare, *numbered]) if len(each) >= 4]
    taken = set(
        db.session.scalars(select(Customer.sign_in_key).where(Customer.sign_in_key.in_(wanted)))
    )
    return [each for each in wanted if each not in taken][:SUGGESTED]


# The customer ---------------------------------------------------------------------------------


def has_owner(session: Session, account_id: int) -> bool:
    """Whether somebody signs in to the account as its owner."""
    owner = session.scalar(
        select(Membership.customer_id).where(
            Membership.account_id == account_id, Membership.role == Role.OWNER.value
        )
    )
    return owner is not None


def make_owner(session: Session, account_id: int, sign_in_id: str, password_hash: str) -> int:
    """Make the customer who owns an account, within the running unit of work over it, and tell all
    its contacts; the customer's id. Raises SignInIdTaken, AlreadyRegistered."""
    if has_owner(session, account_id):
        raise AlreadyRegistered
    if is_taken(session, sign_in_id):
        raise SignInIdTaken
    account = session.get_one(Account, account_id)
    now = clock.now()
    customer = Customer(
        public_id=ids.public_id(),
        sign_in_id=sign_in_id.strip(),
        sign_in_key=fold(sign_in_id),
        email_key=_free_email(session, account_id),
        name=account.name,
        language=account.language,
        password_hash=password_hash,
        created_at=now,
    )
    session.add(customer)
    session.flush()
    session.add(Membership(customer_id=customer.id, account_id=account_id, role=Role.OWNER.value))
    event = activity.Event("registered", now, account_id=account_id, customer_id=customer.id)
    activity.record(session, [event])
    search_terms.refresh(session, [account_id])
    outdate(session, account_id)
    reach.announce_to_account(session, account_id, "registered")
    return customer.id


def outdate(session: Session, account_id: int) -> None:
    """Who else may use the account sees the event on its pages: kept copies are outdated."""
    session.execute(
        update(Account).where(Account.id == account_id).values(revision=Account.revision + 1)
    )


def _free_email(session: Session, account_id: int) -> str | None:
    """The account's e-mail address as a way to sign in, unless somebody signs in with it already
    (households share one)."""
    value = session.scalar(
        select(Contact.value)
        .where(
            Contact.account_id == account_id,
            Contact.kind == ContactKind.EMAIL.value,
            Contact.ended_on.is_(None),
        )
        .order_by(Contact.since_on, Contact.id)
        .limit(1)
    )
    if value is None:
        return None
    taken = session.scalar(select(Customer.id).where(Customer.email_key == fold(value)))
    return fold(value) if taken is None else None
