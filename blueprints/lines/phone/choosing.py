"""What the customer of a number chooses: the only writer of what is wanted of it.

A choice is kept as it was made, also the number to forward to while forwarding is off. What the
switch is to do of it (`effective`) is what is on and what the plan includes.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection
from dataclasses import dataclass, replace

from sqlalchemy import ColumnElement, Select, and_, or_, select
from sqlalchemy.orm import Session

from blueprints.lines.phone.errors import (
    ChosenMeanwhile,
    ForwardsAbroad,
    ForwardsBack,
    ForwardsDear,
    ForwardsToItself,
    NumberNotFound,
    NumberUnreadable,
)
from core import activity, clock, form_keys, phones, revisions
from core.form_keys import ArrivedKey
from core.isp import current_isp
from gateways.voice.base import Feature, ForwardWhen, NumberSettings, features_of
from models import PhoneNumber, Plan, PlanKind, Subscription


@dataclass(frozen=True, slots=True)
class Having:
    """A number with what its plan includes."""

    number: PhoneNumber
    plan_name: str
    included: frozenset[Feature]


def effective(chosen: NumberSettings, included: Collection[Feature]) -> NumberSettings:
    """What the switch is to do: of what was chosen that which is on and included."""
    on = chosen.on & frozenset(included)
    forwards, is_quiet = Feature.CALL_FORWARDING in on, Feature.DO_NOT_DISTURB in on
    return NumberSettings(
        on,
        chosen.forward_to if forwards else "",
        chosen.forward_when if forwards else ForwardWhen.ALWAYS,
        chosen.quiet_from if is_quiet else "",
        chosen.quiet_until if is_quiet else "",
    )


def list_having(session: Session, account_id: int) -> list[Having]:
    """The numbers of the account whose subscription is in use or to come, in one query."""
    rows = session.execute(
        _having().where(PhoneNumber.account_id == account_id).order_by(PhoneNumber.id)
    )
    return [Having(number, name, features_of(features)) for number, name, features in rows]


def get_having(session: Session, account_id: int, public_id: str) -> Having:
    """One of them. Raises NumberNotFound."""
    row = session.execute(
        _having()
        .where(PhoneNumber.account_id == account_id, PhoneNumber.public_id == public_id)
        .execution_options(populate_existing=True)
    ).one_or_none()
    if row is None:
        raise NumberNotFound
    return Having(row[0], row[1], features_of(row[2]))


def _having() -> Select[PhoneNumber, str, list[str]]:
    return (
        select(PhoneNumber, Plan.name, Plan.features)
        .join(Subscription, Subscription.id == PhoneNumber.subscription_id)
        .join(Plan, Plan.id == Subscription.plan_id)
        .where(
            Plan.kind == PlanKind.PHONE.value,
            PhoneNumber.ended_on.is_(None),
            is_had(),
        )
    )


def is_had() -> ColumnElement[bool]:
    """That a subscription is in use or to come: one that was taken back ended before it began."""
    today = clock.today(current_isp().timezone)
    ended_on = Subscription.ended_on
    return or_(ended_on.is_(None), and_(ended_on > today, ended_on > Subscription.started_on))


def choose(
    account_id: int,
    public_id: str,
    chosen: NumberSettings,
    stamp: str,
    customer_id: int,
    path: str,
    key: ArrivedKey,
) -> str:
    """Want what was `chosen` of a number on a page with this `stamp` of what was wanted before;
    `path`, where it is seen. What the plan does not include stays as it is. Raises NumberNotFound,
    ChosenMeanwhile and ForwardingRefused."""
    country = phones.default_country(current_isp().timezone)

    def work(session: Session) -> str:
        having = get_having(session, account_id, public_id)
        number = having.number
        before = NumberSettings.of(number.wanted)
        checked = _merged(before, chosen, having.included)
        if Feature.CALL_FORWARDING in having.included:
            forward_to = _check_forwarding(session, having, checked, country)
            checked = replace(checked, forward_to=forward_to)
        if checked == before:
            return path
        if stamp_of(before) != stamp:
            raise ChosenMeanwhile
        number.wanted = checked.as_facts()
        settle(number, having.included)
        event = activity.Event(
            "phone_changed", clock.now(), account_id=account_id, customer_id=customer_id
        )
        activity.record(session, [event])
        revisions.raise_account(session, account_id)
        return path

    return form_keys.once(key, work, account_id)


def stamp_of(settings: NumberSettings) -> str:
    """What a page showed: another stamp, other settings."""
    facts = json.dumps(settings.as_facts(), sort_keys=True)
    return hashlib.sha256(facts.encode()).hexdigest()[:24]


def settle(number: PhoneNumber, included: Collection[Feature]) -> None:
    """Have the switch told of what is wanted of a number, also when it is thought to do that
    already: it may not have answered at last."""
    now = clock.now()
    is_reached = effective(NumberSettings.of(number.wanted), included) == NumberSettings.of(
        number.reached
    )
    number.pending_at = None if is_reached else number.pending_at or now
    number.sync_at, number.sync_count = now, 0


def _merged(
    before: NumberSettings, chosen: NumberSettings, included: Collection[Feature]
) -> NumberSettings:
    """What was chosen, and of what the plan does not include what was so before."""
    merged = replace(chosen, on=(chosen.on & frozenset(included)) | (before.on - set(included)))
    if Feature.CALL_FORWARDING not in included:
        merged = replace(merged, forward_to=before.forward_to, forward_when=before.forward_when)
    if Feature.DO_NOT_DISTURB not in included:
        merged = replace(merged, quiet_from=before.quiet_from, quiet_until=before.quiet_until)
    return merged


def _check_forwarding(
    session: Session, having: Having, chosen: NumberSettings, country: str
) -> str:
    """The number to forward to as it is dialled, empty for none. One that is kept for later is
    checked as well. Raises ForwardingRefused."""
    number = having.number
    forwards = Feature.CALL_FORWARDING in chosen.on
    if not chosen.forward_to and not forwards:
        return ""
    to = phones.find_phone(chosen.forward_to, country)
    if to is None:
        raise NumberUnreadable
    if to == number.number:
        raise ForwardsToItself
    if phones.is_dear(to):
        raise ForwardsDear
    is_blocked = Feature.INTERNATIONAL_BLOCK in effective(chosen, having.included).on
    if forwards and is_blocked and phones.is_abroad(to, country):
        raise ForwardsAbroad
    if forwards and _forwards_back(session, number, to):
        raise ForwardsBack
    return to


def _forwards_back(session: Session, number: PhoneNumber, to: str) -> bool:
    """Whether another number of the account forwards its calls to this one."""
    wanted = session.scalar(
        select(PhoneNumber.wanted).where(
            PhoneNumber.number == to,
            PhoneNumber.account_id == number.account_id,
            PhoneNumber.ended_on.is_(None),
        )
    )
    if wanted is None:
        return False
    theirs = NumberSettings.of(wanted)
    return Feature.CALL_FORWARDING in theirs.on and theirs.forward_to == number.number
