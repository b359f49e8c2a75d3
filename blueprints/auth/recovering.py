"""Choosing a new password without the old one.

By e-mail goes a link, which works on any device; by text a code for the page that asked. Neither
signs anybody in, so a second factor is asked for as ever (bar 19). What is said of unknown and
known people is the same: see `proving`.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from blueprints.auth import choosing, disabling, judging, proving, reach, whose
from blueprints.auth.errors import CodeRefused, RecoveryLinkDead, ResetOverdone
from blueprints.auth.proving import Step
from blueprints.auth.reach import Reach
from blueprints.auth.service import Browser, SignInRules
from core import activity, clock, codes, flows, ids, outbox, passwords, sessions, throttle
from core.db import db, unit_of_work
from core.flows import FlowInHand
from core.form_keys import ArrivedKey
from core.outbox import Letter
from models import (
    Account,
    Activity,
    AttemptState,
    Channel,
    CodePurpose,
    Customer,
    FlowKind,
    OneTimeLink,
    SignInAttempt,
    SignInSession,
)

PATHS = {
    Step.WAY: "/recover/way",
    Step.CODE: "/recover/code",
    Step.SENT: "/recover/sent",
    Step.CHOOSE: "/recover/which",
    Step.LAST: "/recover/password",
    Step.DONE: "/sign-in?done=password-reset",
    "ended": "/recover?done=ended",
}
"""Where each step is shown."""
CHECK = "/sign-in?done=password-reset-check&next=/settings/second-step%3Fdone%3Dcheck"
"""Where a new password leads to after something was reported."""
RECOVER = "recover"
LINK_VALID = timedelta(hours=1)
REPEATED = timedelta(hours=1)
"""How long after its use the same form may still come a second time."""


def begin(
    typed: str, browser: Browser, rules: SignInRules, held: FlowInHand | None
) -> tuple[str | None, str]:
    """See `proving.begin`."""
    meant = whose.read(typed)
    return proving.begin(
        FlowKind.RECOVER,
        meant,
        lambda session: whose.find_customers(session, meant, by_id=True),
        browser,
        rules,
        held,
    )


# What is sent ---------------------------------------------------------------------------------


def send(flow: FlowInHand, key: ArrivedKey, channel: Channel, rules: SignInRules) -> str:
    """Send a link by e-mail or a code by text; the path that goes on.

    Raises TooManyAttempts by what was typed.
    """

    def work(session: Session, held: FlowInHand) -> str:
        customers = list_customers(session, held.facts["whose"])
        people = [codes.sendings_to(rules.secret, customer_id=row.id) for row in customers]
        may_send = proving.may_send(session, held, people, rules)
        whom = [row.id for row in customers]
        target = proving.target_of(whom, reach_of(session, whom), channel, held.facts["contacts"])
        proven = [row for row in customers if row.id in target.proven and may_send]
        step = Step.SENT
        if channel is Channel.TEXT:
            step = Step.CODE
            _send_code(session, held, target.recipients, proven, rules)
        else:
            for row in proven:
                _send_link(session, row, target.recipients)
        if not held.facts["whose"] and may_send:
            hint(session, held.facts["accounts"], channel)
        for row in proven:
            _note_start(session, row.id)
        facts = dict(held.facts) | {"channel": channel.value}
        facts["proven"] = [row.id for row in proven]
        flows.move(session, held, step, facts=facts, expires_at=clock.now() + proving.LASTS)
        return step

    return proving.advance(flow, key, PATHS, proving.SENDING, work)


def list_customers(session: Session, customer_ids: Sequence[int]) -> Sequence[Any]:
    """The customers who are meant, by ID, as far as they may sign in."""
    return session.execute(
        select(Customer.id, Customer.sign_in_id, Customer.language)
        .where(Customer.id.in_(customer_ids), Customer.is_disabled.is_(False))
        .order_by(Customer.id)
    ).all()


def reach_of(session: Session, customer_ids: Sequence[int]) -> list[tuple[int, Reach]]:
    return [
        (customer_id, each)
        for customer_id in customer_ids
        for each in reach.of_customer(session, customer_id)
    ]


def _send_code(
    session: Session,
    held: FlowInHand,
    recipients: Sequence[Reach],
    proven: Sequence[Any],
    rules: SignInRules,
) -> None:
    # Made for nobody too, so that it takes as long; no message then holds it.
    contact_id = recipients[0].contact_id if proven else None
    code = codes.make(
        session, rules.secret, CodePurpose.RECOVER, held.subject, Channel.TEXT, contact_id
    )
    outbox.queue(
        session,
        [
            Letter(
                "recover_code",
                each.value,
                proven[0].language,
                customer_id=proven[0].id,
                channel=Channel.TEXT.value,
                secrets={"code": code},
                useless_at=clock.now() + codes.VALID[Channel.TEXT],
            )
            for each in (recipients if proven else ())
        ],
    )


def _send_link(
    session: Session, customer: Any, recipients: Sequence[Reach], kind: str = "recover_link"
) -> None:
    """Put a link into the outbox for each of `recipients`, in the words of the message `kind`; an
    earlier link is replaced."""
    now, token = clock.now(), ids.secret_token()
    _end_links(session, customer.id)
    session.add(
        OneTimeLink(
            token_hash=ids.hash_token(token),
            purpose=RECOVER,
            customer_id=customer.id,
            created_at=now,
            expires_at=now + LINK_VALID,
        )
    )
    outbox.queue(
        session,
        [
            Letter(
                kind,
                each.value,
                customer.language,
                customer_id=customer.id,
                channel=each.channel.value,
                facts={"sign_in_id": customer.sign_in_id},
                secrets={"token": token},
                useless_at=now + LINK_VALID,
            )
            for each in recipients
        ],
    )


def hint(session: Session, account_ids: Sequence[int], channel: Channel) -> None:
    """Tell the holder of an account without online access that there is no password to it yet."""
    rows = session.execute(select(Account.id, Account.language).where(Account.id.in_(account_ids)))
    languages = {row.id: row.language for row in rows}
    told = reach.for_codes(reach.of_accounts(session, account_ids), channel)
    outbox.queue(
        session,
        [
            Letter(
                "not_registered",
                each.value,
                languages[each.account_id or 0],
                account_id=each.account_id,
                channel=channel.value,
            )
            for each in {each.value: each for each in told}.values()
        ],
    )


def _note_start(session: Session, customer_id: int, by: str = "") -> None:
    facts = {"by": by} if by else {}
    event = activity.Event("recovery_started", clock.now(), customer_id=customer_id, facts=facts)
    activity.record(session, [event])
    session.execute(
        update(Customer).where(Customer.id == customer_id).values(revision=Customer.revision + 1)
    )


def start_recovery(
    session: Session, customer_id: int, *, by: str = "", after_report: bool = False
) -> Channel | None:
    """Send a customer a link for a new password, within the running unit of work, for staff or
    after "This wasn't me": to the e-mail addresses that may have codes, otherwise to the phones.

    The channel it went by; None when nothing on file may have it. `by` stands in what happened.
    `after_report`: the message says that everything was closed.
    """
    kind = "reported_link" if after_report else "recover_link"
    told = _told_of_link(session, customer_id)
    for customer in list_customers(session, [customer_id]) if told else ():
        _send_link(session, customer, told, kind)
        _note_start(session, customer_id, by)
        return told[0].channel
    return None


def may_reach(session: Session, customer_id: int) -> bool:
    """Whether `start_recovery` would send the customer anything."""
    return bool(_told_of_link(session, customer_id))


def _told_of_link(session: Session, customer_id: int) -> list[Reach]:
    found = reach.of_customer(session, customer_id)
    for channel in (Channel.EMAIL, Channel.TEXT):
        told = {each.value: each for each in reach.for_codes(found, channel)}
        if told and channel.value in outbox.channels():
            return list(told.values())
    return []


# The code -------------------------------------------------------------------------------------


def enter_code(flow: FlowInHand, key: ArrivedKey, typed_code: str, rules: SignInRules) -> str:
    """Use the code; the path that goes on. Raises CodeRefused, TooManyAttempts."""
    people = [
        codes.guesses_at(rules.secret, customer_id=customer_id)
        for customer_id in flow.facts["whose"]
    ]

    def accept(session: Session, held: FlowInHand, _channel: str) -> str:
        proven = [row.id for row in list_customers(session, held.facts.get("proven", []))]
        if not proven:
            raise CodeRefused
        step = Step.LAST if len(proven) == 1 else Step.CHOOSE
        customer_id = proven[0] if step is Step.LAST else None
        facts = dict(held.facts) | {"whose": proven}
        flows.move(session, held, step, facts=facts, customer_id=customer_id)
        return step

    return proving.check_code(
        flow, key, typed_code, CodePurpose.RECOVER, PATHS, people, rules, accept
    )


def list_proven(flow: FlowInHand) -> list[tuple[str, str, str]]:
    """Public id, ID and name of each customer who may be chosen."""
    rows = db.session.execute(
        select(Customer.public_id, Customer.sign_in_id, Customer.name)
        .where(Customer.id.in_(flow.facts["whose"]))
        .order_by(Customer.sign_in_key)
    )
    return [(row.public_id, row.sign_in_id, row.name) for row in rows]


def choose(flow: FlowInHand, key: ArrivedKey, public_id: str) -> str:
    """Go on with one of the customers who are proven; the path. Another one changes nothing."""

    return proving.choose(flow, key, PATHS, Customer, public_id, "customer_id")


# The link -------------------------------------------------------------------------------------


def find_link(token: str) -> int:
    """The id of the customer whose password a living link changes. Raises RecoveryLinkDead."""
    now = clock.now()
    link = db.session.execute(
        select(
            OneTimeLink.id,
            OneTimeLink.customer_id,
            OneTimeLink.created_at,
            OneTimeLink.expires_at,
            OneTimeLink.ended_at,
        )
        .join(Customer, Customer.id == OneTimeLink.customer_id)
        .where(
            OneTimeLink.token_hash == ids.hash_token(token),
            OneTimeLink.purpose == RECOVER,
            Customer.is_disabled.is_(False),
        )
    ).one_or_none()
    if link is None or link.customer_id is None:
        raise RecoveryLinkDead("unknown")
    if link.ended_at is not None:
        newer = db.session.scalar(
            select(func.count(OneTimeLink.id)).where(
                OneTimeLink.customer_id == link.customer_id,
                OneTimeLink.purpose == RECOVER,
                OneTimeLink.id > link.id,
                OneTimeLink.created_at == link.ended_at,
            )
        )
        raise RecoveryLinkDead("replaced" if newer else "used")
    if link.expires_at <= now:
        raise RecoveryLinkDead("old")
    signed_in = db.session.scalar(
        select(func.count(SignInSession.id)).where(
            SignInSession.customer_id == link.customer_id,
            SignInSession.created_at > link.created_at,
            SignInSession.viewer_id.is_(None),
        )
    )
    if signed_in:
        raise RecoveryLinkDead("used")
    return int(link.customer_id)


def end_ways_in(session: Session, customer_id: int, *, but: int = 0) -> None:
    """End every recovery and half sign-in of a customer but the flow `but`, and every link that was
    sent to them, within the running unit of work: whenever the password changes (bar 18)."""
    kinds = (FlowKind.RECOVER, FlowKind.FIND_ID, FlowKind.SIGN_IN, FlowKind.LOST_FACTORS)
    flows.end_all_of(session, customer_id, *kinds, but=but)
    _end_links(session, customer_id)


def _end_links(session: Session, customer_id: int) -> None:
    session.execute(
        update(OneTimeLink)
        .where(OneTimeLink.customer_id == customer_id, OneTimeLink.ended_at.is_(None))
        .values(ended_at=clock.now())
    )


def reset_by_link(token: str, password: str, rules: SignInRules) -> str:
    """Give the customer of a link another password; the link is then used up. Where to go on.

    Posted twice with the same password, the second time finds it done. Raises RecoveryLinkDead,
    PasswordWeak, TooBusy, TooManyAttempts.
    """
    try:
        customer_id = find_link(token)
    except RecoveryLinkDead:
        former_id = _find_reset(token, password, rules)
        if former_id is None:
            raise
        return path_after_reset(former_id)
    choosing.check_password(password, judging.words_of_customer(customer_id))
    password_hash = passwords.hash_password(rules.lock_folder, password)

    def work(session: Session) -> None:
        used = session.scalar(
            update(OneTimeLink)
            .where(OneTimeLink.token_hash == ids.hash_token(token), OneTimeLink.ended_at.is_(None))
            .values(ended_at=clock.now())
            .returning(OneTimeLink.id)
        )
        if used is None:
            raise RecoveryLinkDead("used")
        _reset(session, customer_id, password_hash, rules)

    try:
        unit_of_work(work)
    except RecoveryLinkDead:
        if _find_reset(token, password, rules) is None:
            raise
    return path_after_reset(customer_id)


def _find_reset(token: str, password: str, rules: SignInRules) -> int | None:
    """Whose password this same form has just set with this link, if it has."""
    customer_id = db.session.scalar(
        select(OneTimeLink.customer_id).where(
            OneTimeLink.token_hash == ids.hash_token(token),
            OneTimeLink.purpose == RECOVER,
            OneTimeLink.ended_at > clock.now() - REPEATED,
        )
    )
    if customer_id is None or not _is_password(customer_id, password, rules):
        return None
    return customer_id


# The new password -----------------------------------------------------------------------------


def path_after_reset(customer_id: int) -> str:
    """Where to go on once there is a new password: to sign in, and after a report from there to the
    second steps that still count."""
    latest = db.session.scalars(
        select(Activity.kind)
        .where(
            Activity.customer_id == customer_id,
            Activity.kind.in_(["password_reset", disabling.REPORTED]),
        )
        .order_by(Activity.happened_at.desc(), Activity.id.desc())
        .limit(2)
    ).all()
    return CHECK if latest == ["password_reset", disabling.REPORTED] else PATHS[Step.DONE]


def find_id(customer_id: int) -> str:
    """The ID whose password is being chosen."""
    return db.session.scalar(select(Customer.sign_in_id).where(Customer.id == customer_id)) or ""


def reset_by_code(flow: FlowInHand, key: ArrivedKey, password: str, rules: SignInRules) -> str:
    """Give the customer whom the code has proven another password; the path that goes on.

    Sent twice with the same password it counts once. Raises PasswordWeak, ResetOverdone, TooBusy,
    TooManyAttempts.
    """
    customer_id = flow.customer_id
    if customer_id is None:
        return PATHS[Step.WAY]
    if flow.step == Step.LAST:
        choosing.check_password(password, judging.words_of_customer(customer_id))
        password_hash = passwords.hash_password(rules.lock_folder, password)

        def work(session: Session, held: FlowInHand) -> str:
            flows.move(session, held, Step.DONE, expires_at=clock.now() + REPEATED)
            _reset(session, customer_id, password_hash, rules, but=held.flow_id)
            return Step.DONE

        path = proving.advance(flow, key, PATHS, [Step.LAST], work)
        return path_after_reset(customer_id) if path == PATHS[Step.DONE] else path
    if not _is_password(customer_id, password, rules):
        raise ResetOverdone
    return path_after_reset(customer_id)


def _is_password(customer_id: int, password: str, rules: SignInRules) -> bool:
    """Whether it is this customer's password. Asking is limited: it is no way to guess."""
    stored = db.session.scalar(select(Customer.password_hash).where(Customer.id == customer_id))
    asked = codes.guesses_at(rules.secret, customer_id=customer_id)
    attempt = throttle.begin_within(asked, throttle.CODES)
    is_same = passwords.verify(rules.lock_folder, stored, password, is_known_device=False)
    throttle.end(attempt, has_passed=is_same)
    return is_same


def _reset(
    session: Session, customer_id: int, password_hash: str, rules: SignInRules, but: int = 0
) -> None:
    """Store a new password: nobody stays signed in, every other way in ends, a password that was
    disabled counts again, and all contacts hear of it. Raises TooManyAttempts."""
    counted = throttle.subject_of(rules.secret, f"\0resets {customer_id}")
    throttle.count_within(session, counted, throttle.RESETS)
    names = session.execute(
        update(Customer)
        .where(Customer.id == customer_id)
        .values(password_hash=password_hash, revision=Customer.revision + 1)
        .returning(Customer.sign_in_key, Customer.email_key)
    ).one()
    disabling.lift(session, customer_id)
    sessions.end_all_of(session, customer_id)
    end_ways_in(session, customer_id, but=but)
    # Whoever has proven to be the owner does not wait for what others tried.
    subjects = [throttle.subject_of(rules.secret, name) for name in names if name is not None]
    session.execute(
        update(SignInAttempt)
        .where(
            SignInAttempt.subject.in_(subjects),
            SignInAttempt.state == AttemptState.FAILED.value,
        )
        .values(state=AttemptState.PASSED.value)
    )
    event = activity.Event("password_reset", clock.now(), customer_id=customer_id)
    activity.record(session, [event])
    reach.announce(session, customer_id, "password_reset")
