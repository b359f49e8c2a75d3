"""Ways in by a contact on file: who is meant, a message to a contact, its code typed back.

Registering, recovering a password and finding an ID take the same steps, in the same time and with
the same pages, whether or not anybody is meant: what differs is what is sent (bars 13 to 18). What
a visitor is told follows from what was typed alone; the limits of a person hold beneath that, and
beyond them nothing is sent and no code is looked at.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum

from sqlalchemy import select
from sqlalchemy.orm import Session

from blueprints.auth.errors import CodeRefused
from blueprints.auth.reach import Reach
from blueprints.auth.service import Browser, SignInRules
from blueprints.auth.whose import Found, Typed
from core import codes, flows, form_keys, throttle
from core.db import db, forget_reader, unit_of_work
from core.flows import FlowInHand
from core.form_keys import ArrivedKey
from models import Account, Channel, CodePurpose, Customer, FlowKind

LASTS = timedelta(hours=24)
"""How long a way in stays open: as long as its longest code by e-mail."""
LASTS_BY_POST = timedelta(days=28)
"""A week until staff print the letter, and the three weeks that its code counts from then on."""
MOST_RECIPIENTS = 3


class Step(StrEnum):
    """Where a way in stands."""

    WAY = "way"  # how to be reached is to be chosen
    CODE = "code"  # a code is on its way
    SENT = "sent"  # a message is on its way, and no code
    CHOOSE = "choose"  # the code is right, and several are meant
    LAST = "last"  # ID or password are to be chosen
    DONE = "done"


SENDING = (Step.WAY, Step.CODE, Step.SENT)
"""Steps from which a message may be asked for, again or by another way."""


@dataclass(frozen=True, slots=True)
class Target:
    """Contacts that a message goes to, and whom its code then proves."""

    recipients: list[Reach]
    proven: list[int]


def begin(
    kind: FlowKind,
    typed: Typed,
    find: Callable[[Session], Found],
    browser: Browser,
    rules: SignInRules,
    held: FlowInHand | None,
) -> tuple[str | None, str]:
    """Begin a way in for what was typed: the cookie's token (None: the flow that the browser
    already `held` goes on) and the step it stands at. Raises TooManyAttempts."""
    subject = throttle.subject_of(rules.secret, f"\0{kind.value} {typed.text}")
    if held is not None and held.subject_hash == subject and held.step != Step.DONE:
        return None, held.step
    throttle.begin_within(subject, throttle.STARTS, browser.address, rules.shared_networks)
    found = find(db.session())
    facts = {
        "whose": found.ids,
        "contacts": found.contact_ids,
        "accounts": found.account_ids,
    }
    token = unit_of_work(
        lambda session: flows.begin(
            session, kind, Step.WAY, subject=subject, lasts=LASTS, facts=facts
        )
    )
    return token, Step.WAY


def advance(
    flow: FlowInHand,
    key: ArrivedKey,
    paths: Mapping[str, str],
    steps: Collection[str],
    work: Callable[[Session, FlowInHand], str],
    *account_ids: int,
) -> str:
    """Let `work` take `flow` from one of `steps` to the step that it returns; the path of where the
    flow stands afterwards. Where it stands elsewhere by now, nothing is done."""

    def guarded(session: Session) -> str:
        held = flows.lock(session, flow)
        if held is None or held.step not in steps:
            return paths[held.step if held is not None else "ended"]
        return paths[work(session, held)]

    return form_keys.once(key, guarded, *account_ids)


def choose(
    flow: FlowInHand,
    key: ArrivedKey,
    paths: Mapping[str, str],
    of: type[Account | Customer],
    public_id: str,
    column: str,
) -> str:
    """Go on with one of the accounts or customers that are proven, which `column` of the flow then
    names; the path. Another one changes nothing."""

    def work(session: Session, held: FlowInHand) -> str:
        chosen = session.scalar(
            select(of.id).where(of.public_id == public_id, of.id.in_(held.facts["whose"]))
        )
        if chosen is None:
            return Step.CHOOSE
        flows.move(session, held, Step.LAST, **{column: chosen})
        return Step.LAST

    return advance(flow, key, paths, [Step.CHOOSE], work)


def may_send(
    session: Session, flow: FlowInHand, people: Sequence[bytes], rules: SignInRules
) -> bool:
    """Count a message that is asked for, within the running unit of work; whether it may go to
    those whose `codes.sendings_to` are `people`. Raises TooManyAttempts by what was typed."""
    asked = throttle.subject_of(rules.secret, f"\0sendings {flow.subject_hash.hex()}")
    throttle.count_within(session, asked, throttle.SENDINGS)
    for person in _or_nobody(people, flow, rules):
        try:
            throttle.count_within(session, person, throttle.SENDINGS)
        except throttle.TooManyAttempts:
            return False
    return True


def target_of(
    whose: Sequence[int],
    reached: Sequence[tuple[int, Reach]],
    channel: Channel,
    typed_contact_ids: Collection[int],
) -> Target:
    """Where a message by `channel` goes: to the contact that was typed, or to what all of `whose`
    have in common (for one person, everything on file), as far as it may have codes (bar 17)."""
    holders: dict[str, set[int]] = {}
    of_value: dict[str, Reach] = {}
    typed: set[str] = set()
    for person, reach in reached:
        if reach.channel is not channel:
            continue
        if reach.contact_id in typed_contact_ids:
            typed.add(reach.value)
        if reach.may_have_codes:
            holders.setdefault(reach.value, set()).add(person)
            of_value.setdefault(reach.value, reach)
    if typed:
        known = [value for value in typed if value in holders]
        people = sorted(holders[known[0]]) if known else []
        return Target([of_value[value] for value in known], people)
    everyone = set(whose)
    shared = [value for value, people in holders.items() if people == everyone]
    recipients = [of_value[value] for value in shared[:MOST_RECIPIENTS]]
    return Target(recipients, sorted(everyone) if recipients else [])


def check_code(
    flow: FlowInHand,
    key: ArrivedKey,
    typed_code: str,
    purpose: CodePurpose,
    paths: Mapping[str, str],
    people: Sequence[bytes],
    rules: SignInRules,
    accept: Callable[[Session, FlowInHand, str], str],
) -> str:
    """Use a code that was typed: `accept` moves the flow, given the channel that the code came by,
    and returns its step. The path of where the flow stands.

    Raises CodeRefused, TooManyAttempts; `people` are `codes.guesses_at` of those who are meant.
    """
    # One connection at a time: guesses by the hundred that held two would starve each other.
    forget_reader()
    found = form_keys.find_result(db.session(), key)
    if found is not None:
        return found
    asked = throttle.subject_of(rules.secret, f"\0codes {flow.subject_hash.hex()}")
    counted = [throttle.begin_within(asked, throttle.CODES)]
    may_look = True
    for person in _or_nobody(people, flow, rules):
        try:
            counted.append(throttle.begin_within(person, throttle.CODES))
        except throttle.TooManyAttempts:
            may_look = False

    def work(session: Session, held: FlowInHand) -> str:
        used = codes.use(session, rules.secret, purpose, held.subject, typed_code)
        if used is None or not may_look:
            raise CodeRefused
        return accept(session, held, used.channel)

    path = advance(flow, key, paths, [Step.CODE], work)
    for attempt in counted:
        throttle.end(attempt, has_passed=True)
    return path


def _or_nobody(people: Sequence[bytes], flow: FlowInHand, rules: SignInRules) -> list[bytes]:
    """Where nobody is meant somebody is counted all the same, so that it takes as long."""
    nobody = throttle.subject_of(rules.secret, f"\0nobody {flow.subject_hash.hex()}")
    return sorted(people) or [nobody]
