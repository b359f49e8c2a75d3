"""What a customer sets about themselves: name, language, time zone, password."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from blueprints.auth import choosing, disabling, judging, reach, recovering
from blueprints.auth.reach import Reach
from blueprints.auth.service import SignInRules
from blueprints.dashboard.settings.errors import SecurityOff
from core import (
    activity,
    clock,
    form_keys,
    passwords,
    revisions,
    search_terms,
    sessions,
    topics,
)
from core.db import db
from core.form_keys import ArrivedKey
from core.sessions import SignedIn
from core.topics import CHANNELS, Choices, Topic
from models import Account, Channel, Customer, Membership

INDEX = "/settings/"


@dataclass(frozen=True, slots=True)
class SharedAccount:
    public_id: str
    number: str
    role: str


@dataclass(frozen=True, slots=True)
class IndexPage:
    emails: list[str]
    phones: list[str]
    addresses: list[str]
    accounts: list[SharedAccount]


def find_index(customer_id: int) -> IndexPage:
    """What the first page of the settings shows, in two queries."""
    current = [each for each in reach.of_customer(db.session(), customer_id) if each.is_current]
    accounts = db.session.execute(
        select(Account.public_id, Account.number, Membership.role)
        .join(Membership, Membership.account_id == Account.id)
        .where(Membership.customer_id == customer_id)
        .order_by(Account.number)
    )
    return IndexPage(
        _values(current, Channel.EMAIL),
        _values(current, Channel.TEXT),
        _values(current, Channel.POST),
        [SharedAccount(*row) for row in accounts],
    )


def _values(found: list[Reach], channel: Channel) -> list[str]:
    return [each.value for each in found if each.channel is channel]


def set_name(customer_id: int, name: str, key: ArrivedKey) -> str:
    """Call the customer `name`; the path that shows it."""
    return _change(customer_id, key, "name", name=name)


def set_language(customer_id: int, language: str, key: ArrivedKey) -> str:
    """Speak `language`, one of the ISP's, with the customer: in pages and messages."""
    return _change(customer_id, key, "language", language=language)


def set_time_zone(customer_id: int, time_zone: str | None, key: ArrivedKey) -> str:
    """Show times in `time_zone` (an IANA name), or in the ISP's."""
    return _change(customer_id, key, "time-zone", timezone=time_zone)


def _change(customer_id: int, key: ArrivedKey, what: str, **columns: Any) -> str:
    def work(session: Session) -> str:
        session.execute(
            update(Customer)
            .where(Customer.id == customer_id)
            .values(revision=Customer.revision + 1, **columns)
        )
        if "name" in columns:
            search_terms.refresh_of_customer(session, customer_id)
        kind = f"{what.replace('-', '_')}_changed"
        event = activity.Event(kind, clock.now(), customer_id=customer_id)
        activity.record(session, [event])
        return f"{INDEX}?done={what}"

    return form_keys.once(key, work)


def choose_messages(customer_id: int, wanted: Choices, key: ArrivedKey) -> str:
    """Send messages by the channels that the customer wants; told by those of before.

    Raises SecurityOff when nothing would be left for security.
    """
    if not any(wanted[Topic.SECURITY, channel] for channel in CHANNELS):
        raise SecurityOff

    def work(session: Session) -> str:
        reach.announce(session, customer_id, "messages_chosen")
        topics.choose(session, customer_id, wanted)
        event = activity.Event("messages_chosen", clock.now(), customer_id=customer_id)
        activity.record(session, [event])
        revisions.raise_customer(session, customer_id)
        return f"{INDEX}?done=messages"

    return form_keys.once(key, work)


def change_password(
    person: SignedIn, new_password: str, key: ArrivedKey, rules: SignInRules
) -> str:
    """Replace the password: every other session ends, and so does every way in that is half gone.

    The old password was asked for by the step before. Raises PasswordWeak, TooBusy.
    """
    choosing.check_password(new_password, judging.words_of_customer(person.customer_id))
    password_hash = passwords.hash_password(rules.lock_folder, new_password, is_known_device=True)
    customer_id = person.customer_id

    def work(session: Session) -> str:
        now = clock.now()
        session.execute(
            update(Customer)
            .where(Customer.id == customer_id)
            .values(password_hash=password_hash, revision=Customer.revision + 1)
        )
        disabling.lift(session, customer_id)
        sessions.end_all_of(session, customer_id, but=person.session_id)
        recovering.end_ways_in(session, customer_id)
        event = activity.Event("password_changed", now, customer_id=customer_id)
        activity.record(session, [event])
        reach.announce(session, customer_id, "password_changed")
        return f"{INDEX}?done=password"

    return form_keys.once(key, work)
