"""Whom a message about an account goes to, by which channels.

The account's first owner in their language or, where nobody signs in to it, the account itself; at
the contact that has been on file longest.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ScalarSelect, Select, and_, bindparam, func, select
from sqlalchemy.orm import Session

from core.topics import USUAL, Topic
from models import Account, Channel, Contact, ContactKind, Customer, Membership, MessageChoice, Role


@dataclass(frozen=True, slots=True)
class Addressee:
    """One way to tell the people of an account something."""

    account_id: int
    account_number: str
    account_public_id: str
    customer_id: int | None
    language: str
    channel: Channel
    recipient: str


def _oldest(kind: ContactKind) -> ScalarSelect[str]:
    return (
        select(Contact.value)
        .where(
            Contact.account_id == Account.id,
            Contact.kind == kind.value,
            Contact.ended_on.is_(None),
        )
        .order_by(Contact.since_on, Contact.id)
        .limit(1)
        .scalar_subquery()
    )


def _chosen(channel: Channel) -> ScalarSelect[bool]:
    return (
        select(MessageChoice.is_on)
        .where(
            MessageChoice.customer_id == Customer.id,
            MessageChoice.topic == bindparam("topic"),
            MessageChoice.channel == channel.value,
        )
        .scalar_subquery()
    )


def _finding() -> Select[*tuple[Any, ...]]:
    owner = (
        select(func.min(Membership.customer_id))
        .where(Membership.account_id == Account.id, Membership.role == Role.OWNER.value)
        .scalar_subquery()
    )
    return (
        select(
            Account.id,
            Account.number,
            Account.public_id,
            Customer.id.label("customer_id"),
            func.coalesce(Customer.language, Account.language).label("language"),
            func.coalesce(_oldest(ContactKind.EMAIL), Customer.email_key).label("email"),
            _oldest(ContactKind.PHONE).label("text"),
            _chosen(Channel.EMAIL).label("wants_email"),
            _chosen(Channel.TEXT).label("wants_text"),
        )
        .outerjoin(Customer, and_(Customer.id == owner, Customer.is_disabled.is_(False)))
        .where(Account.id.in_(bindparam("accounts", expanding=True)))
        .order_by(Account.id)
    )


_FIND = _finding()


def find(
    session: Session,
    account_ids: Sequence[int],
    topic: Topic,
    channels: Iterable[Channel] | None = None,
    *,
    is_owed: bool = False,
) -> list[Addressee]:
    """Where to send what is about `topic`: by the channels that were chosen for it, or usual.

    With `channels` by these, unless the customer has said no to one; what `is_owed` to them goes by
    these in any case.
    """
    if not account_ids:
        return []
    asked = None if channels is None else set(channels)
    found = []
    for row in session.connection().execute(
        _FIND, {"accounts": list(account_ids), "topic": topic.value}
    ):
        for channel, recipient, chosen in (
            (Channel.EMAIL, row.email, row.wants_email),
            (Channel.TEXT, row.text, row.wants_text),
        ):
            if asked is None:
                is_wanted = USUAL[topic, channel] if chosen is None else chosen
            else:
                is_wanted = channel in asked and (is_owed or chosen is not False)
            if recipient and is_wanted:
                found.append(
                    Addressee(
                        row.id,
                        row.number,
                        row.public_id,
                        row.customer_id,
                        row.language,
                        channel,
                        recipient,
                    )
                )
    return found
