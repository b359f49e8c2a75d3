"""Creating an online account for a subscriber whom the ISP already knows.

Whoever knows a number proves nothing: a code goes to a contact on file, by a way that the visitor
chooses and at an address that they never see (bars 13 and 16). Nobody is told apart by the pages:
an account that is unknown gets no message, one that has its owner a hint how to sign in, one that
is closed another to call.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from sqlalchemy import select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from blueprints.auth import choosing, proving, reach, service, whose
from blueprints.auth.errors import AlreadyRegistered, CodeRefused, SignInIdTaken
from blueprints.auth.proving import Step
from blueprints.auth.reach import Reach
from blueprints.auth.service import Browser, Opened, SignInRules
from core import activity, clock, codes, flows, ids, outbox, passwords, throttle
from core.db import db, unit_of_work
from core.flows import FlowInHand
from core.form_keys import ArrivedKey
from core.outbox import Letter
from models import (
    Account,
    AccountStatus,
    Channel,
    CodePurpose,
    Customer,
    Flow,
    FlowKind,
    Membership,
    PostalLetter,
    Role,
)

PATHS = {
    Step.WAY: "/register/way",
    Step.CODE: "/register/code",
    Step.CHOOSE: "/register/account",
    Step.LAST: "/register/id",
    Step.DONE: "/sign-in?done=registered",
    "ended": "/register?done=ended",
}
"""Where each step is shown."""
REPEATED = timedelta(hours=1)
"""How long after its end the last form may still come a second time."""
LETTERS = 3
"""So many letters go to one account in the time that a letter's code counts."""


def begin(
    typed: str, browser: Browser, rules: SignInRules, held: FlowInHand | None
) -> tuple[str | None, str]:
    """See `proving.begin`."""
    meant = whose.read(typed)
    return proving.begin(
        FlowKind.REGISTER,
        meant,
        lambda session: whose.find_accounts(session, meant),
        browser,
        rules,
        held,
    )


# The code -------------------------------------------------------------------------------------


def send(flow: FlowInHand, key: ArrivedKey, channel: Channel, rules: SignInRules) -> str:
    """Send what there is to send by `channel`, or ask for a letter; the path that goes on.

    Raises TooManyAttempts by what was typed.
    """

    def work(session: Session, held: FlowInHand) -> str:
        accounts = _list_accounts(session, held.facts["whose"])
        people = [codes.sendings_to(rules.secret, account_id=row.id) for row in accounts]
        may_send = proving.may_send(session, held, people, rules)
        reached = reach.of_accounts(session, held.facts["whose"])
        fresh = [row for row in accounts if _is_fresh(row)]
        whom = [row.id for row in fresh or accounts]
        target = proving.target_of(
            whom,
            [(each.account_id or 0, each) for each in reached if each.account_id in whom],
            channel,
            held.facts["contacts"],
        )
        proven = target.proven if fresh and may_send else []
        if channel is Channel.POST:
            proven = _ask_letter(session, held, target.recipients, proven)
        else:
            # Made for nobody too, so that it takes as long; no message then holds it.
            code = codes.make(
                session, rules.secret, CodePurpose.REGISTER, held.subject, channel,
                target.recipients[0].contact_id if proven else None,
            )  # fmt: skip
            _queue_code(session, target.recipients if proven else [], accounts, channel, code)
        if not fresh and may_send:
            _queue_hint(session, accounts, reached, target.recipients, channel)
        lasts = proving.LASTS_BY_POST if channel is Channel.POST else proving.LASTS
        facts = dict(held.facts) | {"channel": channel.value}
        facts["proven"] = facts.get("proven", {}) | {channel.value: proven}
        expires_at = max(held.expires_at, clock.now() + lasts)
        flows.move(session, held, Step.CODE, facts=facts, expires_at=expires_at)
        return Step.CODE

    return proving.advance(flow, key, PATHS, proving.SENDING, work)


def _list_accounts(session: Session, account_ids: Sequence[int]) -> Sequence[Any]:
    """The accounts that are meant: status, language, and whether somebody owns each."""
    owned = (
        select(Membership.account_id)
        .where(Membership.account_id == Account.id, Membership.role == Role.OWNER.value)
        .exists()
    )
    return session.execute(
        select(Account.id, Account.status, Account.language, owned.label("has_owner"))
        .where(Account.id.in_(account_ids))
        .order_by(Account.id)
    ).all()


def _is_fresh(account: Any) -> bool:
    return not account.has_owner and account.status == AccountStatus.ACTIVE


def _queue_code(
    session: Session,
    recipients: Sequence[Reach],
    accounts: Sequence[Any],
    channel: Channel,
    code: str,
) -> None:
    languages = {row.id: row.language for row in accounts}
    valid_until = clock.now() + codes.VALID[channel]
    outbox.queue(
        session,
        [
            Letter(
                "register_code",
                each.value,
                languages[each.account_id],
                account_id=each.account_id,
                channel=channel.value,
                secrets={"code": code},
                useless_at=valid_until,
            )
            for each in recipients
        ],
    )


def _queue_hint(
    session: Session,
    accounts: Sequence[Any],
    reached: Sequence[Reach],
    recipients: Sequence[Reach],
    channel: Channel,
) -> None:
    """Tell those who cannot register why not: where a code would have gone, and for a letter, which
    is printed for nobody else, by e-mail or text."""
    if channel is Channel.POST:
        told = [each for each in reached if each.may_have_codes and each.is_current]
        by_email = [each for each in told if each.channel is Channel.EMAIL]
        recipients = by_email or [each for each in told if each.channel is Channel.TEXT]
    known = {row.id: row for row in accounts}
    outbox.queue(
        session,
        [
            Letter(
                "already_registered" if known[each.account_id].has_owner else "account_closed",
                each.value,
                known[each.account_id].language,
                account_id=each.account_id,
                channel=each.channel.value,
            )
            for each in recipients
        ],
    )


def _ask_letter(
    session: Session, held: FlowInHand, recipients: Sequence[Reach], proven: Sequence[int]
) -> list[int]:
    """Let a letter wait for staff to print it, when one account is meant; whom its code proves.

    The code is made when the letter is printed. The contacts on file hear of it at once.
    """
    if len(proven) != 1:
        return []
    [account_id] = proven
    now = clock.now()
    asked = session.scalars(
        select(PostalLetter.flow_id).where(
            PostalLetter.account_id == account_id,
            PostalLetter.asked_at > now - codes.VALID[Channel.POST],
        )
    ).all()
    if held.flow_id in asked:
        return list(proven)  # its letter is on its way
    if len(asked) >= LETTERS:
        return []
    session.add(
        PostalLetter(
            public_id=ids.public_id(),
            account_id=account_id,
            flow_id=held.flow_id,
            contact_id=recipients[0].contact_id,
            asked_at=now,
        )
    )
    activity.record(session, [activity.Event("letter_asked", now, account_id=account_id)])
    choosing.outdate(session, account_id)
    reach.announce_to_account(session, account_id, "letter_asked")
    return list(proven)


def enter_code(flow: FlowInHand, key: ArrivedKey, typed_code: str, rules: SignInRules) -> str:
    """Use the code; the path that goes on. Raises CodeRefused, TooManyAttempts."""
    people = [
        codes.guesses_at(rules.secret, account_id=account_id) for account_id in flow.facts["whose"]
    ]

    def accept(session: Session, held: FlowInHand, channel: str) -> str:
        proven = held.facts.get("proven", {}).get(channel, [])
        fresh = [row.id for row in _list_accounts(session, proven) if _is_fresh(row)]
        return _settle(session, held, fresh)

    return proving.check_code(
        flow, key, typed_code, CodePurpose.REGISTER, PATHS, people, rules, accept
    )


def _settle(session: Session, held: FlowInHand, fresh: Sequence[int]) -> str:
    """Go on with the only account that is proven, or to the choice between several."""
    if not fresh:
        raise CodeRefused
    step = Step.LAST if len(fresh) == 1 else Step.CHOOSE
    facts = dict(held.facts) | {"whose": list(fresh), "contacts": []}
    account_id = fresh[0] if step is Step.LAST else None
    flows.move(session, held, step, facts=facts, account_id=account_id)
    return step


def list_proven(flow: FlowInHand) -> list[tuple[str, str, str]]:
    """Public id, number and name of each account that may be chosen."""
    rows = db.session.execute(
        select(Account.public_id, Account.number, Account.name)
        .where(Account.id.in_(flow.facts["whose"]))
        .order_by(Account.number)
    )
    return [(row.public_id, row.number, row.name) for row in rows]


def choose(flow: FlowInHand, key: ArrivedKey, public_id: str) -> str:
    """Go on with one of the accounts that are proven; the path. Another one changes nothing."""

    return proving.choose(flow, key, PATHS, Account, public_id, "account_id")


# ID and password ------------------------------------------------------------------------------


def find_name(flow: FlowInHand) -> str:
    """The name on the account that is being registered."""
    return db.session.scalar(select(Account.name).where(Account.id == flow.account_id)) or ""


def words_of(flow: FlowInHand) -> list[str]:
    """What is guessed first of a password for this account."""
    return choosing.words_of_account(flow.account_id) if flow.account_id is not None else []


def is_free(flow: FlowInHand, sign_in_id: str, rules: SignInRules) -> bool:
    """Whether nobody has the ID. Raises TooManyAttempts: it is no list of who is a customer."""
    return choosing.is_free(sign_in_id, _asker(flow, rules))


def _asker(flow: FlowInHand, rules: SignInRules) -> bytes:
    return throttle.subject_of(rules.secret, f"\0ids {flow.subject}")


def finish(
    flow: FlowInHand, sign_in_id: str, password: str, browser: Browser, rules: SignInRules
) -> Opened | None:
    """Make the owner of the account and sign them in; None when the flow no longer stands there.

    The same form sent twice makes one customer and signs in again. Raises SignInIdTaken,
    PasswordWeak, AlreadyRegistered, TooBusy, TooManyAttempts.
    """
    if flow.step == Step.LAST and flow.account_id is not None:
        choosing.check_chosen(sign_in_id, password, words_of(flow), _asker(flow, rules))
        password_hash = passwords.hash_password(rules.lock_folder, password)
        customer_id = _make_owner(flow, flow.account_id, sign_in_id, password_hash)
        if customer_id is not None:
            return service.open_for(customer_id, browser, rules)
    return _open_again(flow, sign_in_id, password, browser, rules)


def _make_owner(
    flow: FlowInHand, account_id: int, sign_in_id: str, password_hash: str
) -> int | None:
    """The new customer's id; None when the same flow made one meanwhile."""

    def work(session: Session) -> int | None:
        held = flows.lock(session, flow)
        if held is None or held.step != Step.LAST:
            return None
        customer_id = choosing.make_owner(session, account_id, sign_in_id, password_hash)
        flows.move(
            session, held, Step.DONE, customer_id=customer_id, expires_at=clock.now() + REPEATED
        )
        session.execute(
            update(PostalLetter)
            .where(PostalLetter.account_id == account_id, PostalLetter.ended_at.is_(None))
            .values(ended_at=clock.now())
        )
        return customer_id

    try:
        return unit_of_work(work, account_id)
    except AlreadyRegistered:
        unit_of_work(lambda session: flows.end(session, flow))
        raise
    except IntegrityError:
        raise SignInIdTaken from None


def _open_again(
    flow: FlowInHand, sign_in_id: str, password: str, browser: Browser, rules: SignInRules
) -> Opened | None:
    """Sign in whoever sends the last form once more because its answer was lost."""
    made = db.session.execute(
        select(Customer.id, Customer.password_hash, Customer.sign_in_key)
        .join(Flow, Flow.customer_id == Customer.id)
        .where(
            Flow.id == flow.flow_id,
            Flow.step == Step.DONE,
            Flow.expires_at > clock.now(),
        )
    ).one_or_none()
    if made is None or made.sign_in_key != choosing.fold(sign_in_id):
        return None
    subject = codes.guesses_at(rules.secret, customer_id=made.id)
    attempt = throttle.begin_within(subject, throttle.CODES)
    is_same = passwords.verify(
        rules.lock_folder, made.password_hash, password, is_known_device=False
    )
    throttle.end(attempt, has_passed=is_same)
    return service.open_for(made.id, browser, rules) if is_same else None
