"""The second step of signing in: what the right password leads to where one is needed.

A half-finished sign-in is a flow: it reaches the pages of the second step and nothing else, and
dies after five minutes. What is right opens the session. For a minute the same form may come once
more, because its answer was lost: it gets another session and the lost one ends (bar 8).
"""

from __future__ import annotations

import hashlib
import hmac
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from blueprints.auth import factors, passkeys, recovery_codes, service, totp
from blueprints.auth.errors import (
    AppCodeWrong,
    CodeWrong,
    FactorNotFound,
    PasskeyRefused,
    SignInRefused,
)
from blueprints.auth.factors import BY_MESSAGE, RECOVERY, Held, Step
from blueprints.auth.service import Browser, Opened, SignInRules
from core import clock, codes, form_keys, ids, outbox, sessions, throttle
from core.db import db, unit_of_work
from core.flows import FlowInHand
from core.form_keys import ArrivedKey
from core.outbox import Letter
from core.sessions import SignedIn
from models import (
    Channel,
    CodePurpose,
    Customer,
    FactorKind,
    Flow,
    SignInSession,
)

log = logging.getLogger("lastmile.auth")

REPEATED = timedelta(seconds=60)
"""How long the form whose answer was lost may come again."""
CODE_VALID = timedelta(minutes=10)
Use = Callable[[Session], "int | None"]
"""What tries a proof within a unit of work: the id of its factor, 0 for none, None when wrong."""


@dataclass(frozen=True, slots=True)
class Choice:
    """What a half-finished sign-in may be finished with."""

    ways: tuple[str, ...]
    is_staff: bool
    may_trust: bool

    def best(self, wanted: str | None) -> str:
        """The way to show: the one that was asked for, otherwise the best."""
        return wanted if wanted in self.ways else self.ways[0]


def find_choice(flow: FlowInHand) -> Choice:
    customer_id, is_staff = flow.of_customer, bool(flow.facts["is_staff"])
    held = factors.list_held(db.session(), customer_id, for_staff=is_staff)
    ways = dict.fromkeys(factor.kind.value for factor in held)
    if recovery_codes.count_left(db.session(), customer_id):
        ways[RECOVERY] = None
    may_trust = bool(flow.facts["own_device"]) and not is_staff
    return Choice(tuple(ways), is_staff, may_trust)


# Codes by message -----------------------------------------------------------------------------


def send_code(flow: FlowInHand, way: str, key: ArrivedKey, rules: SignInRules, path: str) -> str:
    """Send a code by `way`, e-mail or text; the same form twice sends one. Returns `path`, where it
    is typed. Raises FactorNotFound, TooManyAttempts."""
    customer_id = flow.of_customer

    def work(session: Session) -> str:
        held = factors.list_held(session, customer_id, for_staff=flow.facts["is_staff"])
        matching = [factor for factor in held if factor.kind == way and factor.kind in BY_MESSAGE]
        if not matching:
            raise FactorNotFound
        queue_code(session, customer_id, matching[0], _bound_to(flow, way), rules.secret)
        return path

    with throttle.noted():
        return form_keys.once(key, work)


def queue_code(session: Session, customer_id: int, to: Held, bound_to: str, secret: bytes) -> None:
    """Send a code to the contact of a factor, within the running unit of work."""
    throttle.count_within(session, factors.sending_subject(secret, customer_id), throttle.SENDINGS)
    channel = BY_MESSAGE[to.kind]
    code = codes.make(
        session,
        secret,
        CodePurpose.SECOND_FACTOR,
        bound_to,
        channel,
        to.contact_id,
        valid=CODE_VALID,
    )
    queue_letter(session, customer_id, channel, to.value, code, CODE_VALID)


def queue_letter(
    session: Session,
    customer_id: int,
    channel: Channel,
    recipient: str,
    code: str,
    valid: timedelta,
) -> None:
    """Send a code on its way, within the running unit of work; once it is not `valid` any more it
    is not sent."""
    language = session.scalar(select(Customer.language).where(Customer.id == customer_id)) or "en"
    outbox.queue(
        session,
        [
            Letter(
                "second_step_code",
                recipient,
                language,
                customer_id=customer_id,
                channel=channel.value,
                secrets={"code": code},
                useless_at=clock.now() + valid,
            )
        ],
    )


def _bound_to(flow: FlowInHand, way: str) -> str:
    return f"{flow.subject}:{way}"


# Giving the second factor ---------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Typed:
    """What the form of the second step brought: `answer` is a code, or what a passkey said."""

    way: str
    answer: str = field(repr=False)
    trusts_device: bool = False


def finish(flow: FlowInHand, typed: Typed, browser: Browser, rules: SignInRules) -> Opened:
    """Open the session for whoever gives a second factor.

    Raises CodeWrong, PasskeyRefused, TooManyAttempts, and SignInRefused when the flow is over.
    """
    customer_id = flow.of_customer
    fingerprint = _fingerprint(flow, typed, rules.secret)
    use = _trial(flow, typed, rules.secret)

    def work(session: Session) -> Opened | None:
        row = _living(session, flow, Step.ASKED, Step.PASSED)
        is_again = row.step == Step.PASSED and hmac.compare_digest(
            str(row.facts["proof"]), fingerprint
        )
        if not is_again:
            factor_id = _try(session, customer_id, typed, use, rules.secret)
            if factor_id is None:
                return None
            given = factors.name_of(session, factor_id)
            row.facts = {**row.facts, "trusts": typed.trusts_device, "given": given}
        return _let_in(session, row, fingerprint, browser, rules.secret)

    with throttle.noted():
        opened = unit_of_work(work)
    if opened is None:
        log.info("second factor refused", extra={"address": browser.address, "way": typed.way})
        raise AppCodeWrong if typed.way == FactorKind.TOTP else CodeWrong
    return opened


def _living(session: Session, flow: FlowInHand, *steps: Step) -> Flow:
    """The flow's row, locked. Raises SignInRefused when it stands at none of `steps` any more."""
    row = session.execute(
        select(Flow)
        .where(
            Flow.id == flow.flow_id,
            Flow.step.in_([step.value for step in steps]),
            Flow.ended_at.is_(None),
            Flow.expires_at > clock.now(),
        )
        .with_for_update()
    ).scalar_one_or_none()
    if row is None:
        raise SignInRefused
    return row


def _try(session: Session, customer_id: int, typed: Typed, use: Use, secret: bytes) -> int | None:
    """What the proof gives (`Use`); what can be guessed is counted, wrong or right (bar 6)."""
    if typed.way == FactorKind.PASSKEY:
        return use(session)
    subject = factors.code_subject(secret, customer_id)
    attempt = throttle.count_within(session, subject, throttle.CODES)
    factor_id = use(session)
    if factor_id is None:
        return None
    throttle.note_passed(session, attempt)
    if factor_id:
        factors.note_use(session, factor_id)
    return factor_id


def _trial(flow: FlowInHand, typed: Typed, secret: bytes) -> Use:
    """What tries `typed`. All that takes time is done here, before a unit of work begins."""
    customer_id, is_staff = flow.of_customer, bool(flow.facts["is_staff"])
    if typed.way == FactorKind.PASSKEY:
        return _passkey_trial(flow, typed, customer_id, is_staff=is_staff)
    if typed.way == FactorKind.TOTP:
        match = totp.find_match(customer_id, typed.answer, secret)
        return lambda session: (
            match.factor_id if match is not None and totp.use(session, match) else None
        )
    if typed.way == RECOVERY:
        return lambda session: (
            0 if recovery_codes.use(session, customer_id, typed.answer, secret) else None
        )
    return lambda session: _use_code(session, flow, typed, secret)


def _passkey_trial(flow: FlowInHand, typed: Typed, customer_id: int, *, is_staff: bool) -> Use:
    try:
        given = passkeys.check(
            typed.answer, flow.subject, customer_id=customer_id, must_verify=is_staff
        )
    except PasskeyRefused as refused:
        refusal = refused

        # Said only when it is tried: the same answer once more, its counter moved, is not.
        def refuse(_session: Session) -> int:
            raise refusal

        return refuse

    def use(session: Session) -> int:
        passkeys.use(session, given)
        return given.factor_id

    return use


def _use_code(session: Session, flow: FlowInHand, typed: Typed, secret: bytes) -> int | None:
    held = factors.list_held(session, flow.of_customer, for_staff=flow.facts["is_staff"])
    matching = [factor.factor_id for factor in held if factor.kind == typed.way]
    if not matching:
        return None
    bound_to = _bound_to(flow, typed.way)
    used = codes.use(session, secret, CodePurpose.SECOND_FACTOR, bound_to, typed.answer)
    return matching[0] if used is not None else None


def _fingerprint(flow: FlowInHand, typed: Typed, secret: bytes) -> str:
    """What tells that the same form came again, and from which nothing can be read."""
    is_code = typed.way != FactorKind.PASSKEY
    answer = codes.clean(typed.answer) if is_code else typed.answer
    message = f"second step\0{flow.flow_id}\0{typed.way}\0{answer}".encode()
    return hmac.digest(secret, message, hashlib.sha256).hex()


def _let_in(
    session: Session, row: Flow, fingerprint: str, browser: Browser, secret: bytes
) -> Opened:
    """Open the session, end the one whose cookie was lost, and leave a minute to come again."""
    facts, now = dict(row.facts), clock.now()
    if row.customer_id is None or _is_disabled(session, row.customer_id):
        raise SignInRefused
    if lost := facts.get("session"):
        session.execute(
            update(SignInSession)
            .where(
                SignInSession.token_hash == bytes.fromhex(lost), SignInSession.ended_at.is_(None)
            )
            .values(ended_at=now)
        )
    opened = service.open_session(
        session,
        row.customer_id,
        is_own_device=facts["own_device"],
        browser=browser,
        secret=secret,
        has_second_factor=True,
        is_staff=facts["is_staff"] and factors.is_staff(session, row.customer_id),
        trusts_device=bool(facts.get("trusts")) and facts["own_device"] and not facts["is_staff"],
        given=facts.get("given", ""),
    )
    facts |= {"proof": fingerprint, "session": ids.hash_token(opened.session_token).hex()}
    row.facts = facts
    if row.step != Step.PASSED:
        row.step, row.expires_at = Step.PASSED.value, now + REPEATED
    return opened


def _is_disabled(session: Session, customer_id: int) -> bool:
    return bool(session.scalar(select(Customer.is_disabled).where(Customer.id == customer_id)))


# Staff who have no factor yet -----------------------------------------------------------------


def enrol_app(flow: FlowInHand, typed: str, browser: Browser, rules: SignInRules) -> Opened:
    """Let an authenticator app count and open the session. Raises NothingPending, CodeWrong,
    TooManyAttempts, SignInRefused."""
    given = Typed(FactorKind.TOTP, typed)
    if flow.step == Step.PASSED:
        return finish(flow, given, browser, rules)
    _check_step(flow, Step.ENROL)
    totp.confirm(flow.of_customer, typed, rules)
    return _enter_enrolled(flow, given, browser, rules)


def enrol_passkey(
    flow: FlowInHand, name: str, answer: str, browser: Browser, rules: SignInRules
) -> Opened:
    """Add a passkey and open the session. Raises PasskeyRefused, SignInRefused."""
    given = Typed(FactorKind.PASSKEY, answer)
    if flow.step == Step.PASSED:
        return finish(flow, given, browser, rules)
    _check_step(flow, Step.ENROL)
    passkeys.add(flow.of_customer, name, answer, is_staff=flow.facts["is_staff"])
    return _enter_enrolled(flow, given, browser, rules)


def _check_step(flow: FlowInHand, step: Step) -> None:
    if flow.step != step:
        raise SignInRefused


def _enter_enrolled(flow: FlowInHand, given: Typed, browser: Browser, rules: SignInRules) -> Opened:
    fingerprint = _fingerprint(flow, given, rules.secret)
    return unit_of_work(
        lambda session: _let_in(
            session, _living(session, flow, Step.ENROL), fingerprint, browser, rules.secret
        )
    )


# A passkey alone ------------------------------------------------------------------------------


def sign_in_by_passkey(
    answer: str, *, is_own_device: bool, browser: Browser, rules: SignInRules
) -> Opened:
    """Open a session for whoever has a passkey whose device has made sure who holds it: that is
    both factors at once. Raises PasskeyRefused."""
    given = passkeys.check(answer, passkeys.ANYBODY, must_verify=True)

    def work(session: Session) -> Opened:
        passkeys.use(session, given)
        return service.open_session(
            session,
            given.customer_id,
            is_own_device=is_own_device,
            browser=browser,
            secret=rules.secret,
            has_second_factor=True,
            is_staff=factors.is_staff(session, given.customer_id),
            given=factors.name_of(session, given.factor_id),
        )

    return unit_of_work(work)


def confirm_by_passkey(person: SignedIn, answer: str) -> str:
    """Let whoever is signed in give a passkey in place of the password: the session goes on under a
    new id, whose token is returned (bars 26 and 28). Raises PasskeyRefused."""
    given = passkeys.check(
        answer, passkeys.step_up_bound(person), customer_id=person.customer_id, must_verify=True
    )

    def work(session: Session) -> str:
        passkeys.use(session, given)
        return sessions.renew(session, person.session_id, has_password=True)

    return unit_of_work(work)
