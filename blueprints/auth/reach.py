"""How a customer, or an account that nobody signs in to yet, can be reached; and telling them.

A contact that came lately receives no code, while the one it replaced still does (bar 17): whoever
gets at an account for an hour must not be able to turn its recovery to themselves.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

from sqlalchemy import ColumnElement, or_, select
from sqlalchemy.orm import Session

from core import clock, outbox, topics
from core.isp import IspView, current_isp
from core.outbox import Letter
from core.topics import Choices, Topic
from models import Account, Channel, Contact, ContactKind, Customer, Membership, Role

CHANNELS = {
    ContactKind.EMAIL.value: Channel.EMAIL,
    ContactKind.PHONE.value: Channel.TEXT,
    ContactKind.POSTAL.value: Channel.POST,
}


@dataclass(frozen=True, slots=True)
class Reach:
    """One contact on file, of an account or a customer. `may_have_codes` follows bar 17;
    `is_current`: not replaced."""

    contact_id: int
    account_id: int | None
    channel: Channel
    value: str
    may_have_codes: bool
    is_current: bool


def of_account(session: Session, account_id: int) -> list[Reach]:
    """The contacts of an account, the oldest first."""
    return of_accounts(session, [account_id])


def of_accounts(session: Session, account_ids: Sequence[int]) -> list[Reach]:
    """The contacts of several accounts, the oldest first."""
    return _find(session, Contact.account_id.in_(account_ids))


def of_customer(session: Session, customer_id: int) -> list[Reach]:
    """The contacts of a customer: their own, and those of the accounts that they hold."""
    held = select(Membership.account_id).where(
        Membership.customer_id == customer_id, Membership.role == Role.OWNER.value
    )
    return _find(session, or_(Contact.customer_id == customer_id, Contact.account_id.in_(held)))


def _find(session: Session, which: ColumnElement[bool]) -> list[Reach]:
    isp = current_isp()
    today = clock.day_of(clock.now(), isp.timezone)
    rest = timedelta(days=isp.contact_rest_days)
    rows = session.execute(
        select(
            Contact.id,
            Contact.account_id,
            Contact.kind,
            Contact.value,
            Contact.since_on,
            Contact.ended_on,
            Account.opened_on,
            Customer.created_at,
        )
        .outerjoin(Account, Account.id == Contact.account_id)
        .outerjoin(Customer, Customer.id == Contact.customer_id)
        .where(which, or_(Contact.ended_on.is_(None), Contact.ended_on > today - rest))
        .order_by(Contact.since_on, Contact.id)
    )
    return [
        Reach(
            row.id,
            row.account_id,
            CHANNELS[row.kind],
            row.value,
            codes_from_on(row, isp) <= today,
            row.ended_on is None,
        )
        for row in rows
    ]


def codes_from_on(contact: Any, isp: IspView) -> date:
    """From which day a contact may have codes (bar 17): at once when it was given with its account
    or customer (columns `opened_on`, `created_at`), otherwise when it has rested."""
    since_on: date = contact.since_on
    came_on = contact.opened_on or clock.day_of(contact.created_at, isp.timezone)
    rest = timedelta(days=isp.contact_rest_days)
    return since_on if since_on <= came_on else since_on + rest


def for_codes(found: Sequence[Reach], channel: Channel) -> list[Reach]:
    """Those of `found` that a code may go to by `channel`."""
    return [reach for reach in found if reach.channel is channel and reach.may_have_codes]


def announce(
    session: Session,
    customer_id: int,
    event: str,
    *,
    account_id: int | None = None,
    but: Sequence[int] = (),
    also: Sequence[Reach] = (),
    facts: Mapping[str, Any] | None = None,
) -> None:
    """Tell a customer of a security event (a kind that `ui.event` knows), within the running unit
    of work: as they chose for messages of security, and at every e-mail address that was replaced
    lately; by any way there is where that reaches nobody. `but`: contacts that are not told.
    `facts` never hold a new value (bar 21)."""
    language = session.scalar(select(Customer.language).where(Customer.id == customer_id)) or "en"
    found = [*of_customer(session, customer_id), *also]
    chosen = topics.choices_of(session, customer_id)
    _tell(session, found, event, language, chosen, customer_id, account_id, but, facts)


def announce_to_account(
    session: Session,
    account_id: int,
    event: str,
    *,
    but: Sequence[int] = (),
    facts: Mapping[str, Any] | None = None,
) -> None:
    """The same to the contacts of an account, whoever signs in to it."""
    language = session.scalar(select(Account.language).where(Account.id == account_id)) or "en"
    found = of_account(session, account_id)
    _tell(session, found, event, language, topics.USUAL, None, account_id, but, facts)


def _tell(
    session: Session,
    found: Sequence[Reach],
    event: str,
    language: str,
    choices: Choices,
    customer_id: int | None,
    account_id: int | None,
    but: Sequence[int],
    facts: Mapping[str, Any] | None,
) -> None:
    told = [reach for reach in found if reach.contact_id not in but]
    chosen = [
        reach
        for reach in told
        if choices.get((Topic.SECURITY, reach.channel), False)
        or (reach.channel is Channel.EMAIL and not reach.is_current)
    ]
    if not any(reach.is_current for reach in chosen):
        by_email = [reach for reach in told if reach.channel is Channel.EMAIL]
        chosen += by_email or [reach for reach in told if reach.channel is Channel.TEXT]
    outbox.queue(
        session,
        [
            Letter(
                "security",
                reach.value,
                language,
                account_id=account_id,
                customer_id=customer_id,
                channel=reach.channel.value,
                facts={"event": event, "happened_at": clock.now().isoformat(), **(facts or {})},
            )
            for reach in {reach.value: reach for reach in chosen}.values()
        ],
    )
