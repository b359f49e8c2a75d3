"""Changing what an account subscribes to: in one press, from a day, and back until that day.

Subscriptions are written when the button is pressed, with the day on which each ends or begins, so
that any bill finds them. On that day the worker brings the line to its new speed (`due.py`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from sqlalchemy import exists, select, update
from sqlalchemy.orm import Session

from blueprints.billing import adjusting
from blueprints.billing.dunning import closing
from blueprints.billing.periods import write_spans
from blueprints.dashboard.plans import apps, offers, quoting
from blueprints.dashboard.plans.errors import (
    DayOutOfBounds,
    DecidedMeanwhile,
    EndUnderWay,
    NotUndoable,
    PlanNotFound,
    QuoteChanged,
    TermsChanged,
)
from blueprints.dashboard.plans.quoting import Fee, Quote, When, Wish
from blueprints.lines.allowances import deciding
from blueprints.lines.phone import numbers
from core import activity, addressees, clock, form_keys, ids, outbox, revisions
from core.db import db
from core.form_keys import ArrivedKey
from core.isp import current_isp
from core.money import Money, format_money
from core.topics import Topic
from core.words import language
from models import (
    Account,
    AccountStatus,
    Charge,
    Line,
    Plan,
    PlanChange,
    PlanChangeState,
    PlanKind,
    Subscription,
)

FREE_WITHIN = timedelta(hours=24)
"""How long a TV package that has begun can be given back as if it had never been (47 USC 562)."""
LONGEST_AHEAD = timedelta(days=90)
PLANNED, DONE = PlanChangeState.PLANNED, PlanChangeState.DONE


# By the customer ---------------------------------------------------------------------------------


def change(wish: Wish, shown: str, customer_id: int, key: ArrivedKey, path: str) -> str:
    """Make the change that was `shown` (the quote's digest), or ask staff for it where they decide;
    the path that shows it, which is `path` with its public id for `{id}`.

    Raises PlanNotFound, QuoteChanged, DayOutOfBounds and ChangeRefused.
    """
    language()
    check_day(wish.on)

    def work(session: Session) -> str:
        quote = quoting.quote(session, wish)
        if quote.digest != shown:
            raise QuoteChanged
        made = _new(wish, quote, customer_id)
        session.add(made)
        if quote.is_by_staff:
            _note(session, made, "plan_change_asked")
        else:
            _make(session, made, quote)
        return path.format(id=made.public_id)

    return form_keys.once(key, work, wish.account_id)


def _new(wish: Wish, quote: Quote, customer_id: int | None) -> PlanChange:
    return PlanChange(
        public_id=ids.public_id(),
        account_id=wish.account_id,
        customer_id=customer_id,
        from_id=quote.old.subscription_id if quote.old is not None else None,
        to_plan_id=quote.new.id if quote.new is not None else None,
        is_end=wish.is_end,
        ended=_ended(quote),
        effective_on=quote.effective_on,
        state=PlanChangeState.ASKED.value,
        quote=quote.facts(),
        charges=[],
        answer="",
        created_at=clock.now(),
    )


def undo(account_id: int, public_id: str, customer_id: int, key: ArrivedKey, path: str) -> str:
    """Take a change back while `can_undo`; `path`. Raises PlanNotFound, ChangeRefused."""
    current_isp()

    def work(session: Session) -> str:
        made = _get(session, account_id, public_id)
        if made.state == PlanChangeState.UNDONE:
            return path
        if not can_undo(session, made):
            raise NotUndoable
        if made.state != PlanChangeState.ASKED:
            _check_undo(session, made)
            _put_back(session, made)
        _end(made, PlanChangeState.UNDONE)
        made.customer_id = made.customer_id or customer_id
        _note(session, made, "plan_change_undone")
        _tell(session, made, "undone")
        return path

    return form_keys.once(key, work, account_id)


def can_undo(session: Session, made: PlanChange) -> bool:
    """Whether it waits for staff or for its day, of an account that is open; or is a TV package of
    the last 24 hours that still stands. What comes with a move is taken back with it."""
    waits = [PlanChangeState.ASKED, PLANNED, DONE]
    if made.state not in waits or made.quote.get("is_of_move") or not _is_open(session, made):
        return False
    if made.state == PlanChangeState.ASKED:
        return True
    if made.state == PLANNED:
        return made.effective_on > clock.today(current_isp().timezone)
    if made.state != DONE or made.from_id is not None or made.to_id is None:
        return False
    kind = session.scalar(select(Plan.kind).where(Plan.id == made.to_plan_id))
    stands = session.scalar(select(Subscription.ended_on).where(Subscription.id == made.to_id))
    is_free = kind == PlanKind.TV and bool(made.quote.get("is_free_for_a_day"))
    return is_free and stands is None and clock.now() - made.created_at < FREE_WITHIN


def _is_open(session: Session, made: PlanChange) -> bool:
    """Whether the account is open, and is not to end by another change."""
    status = session.scalar(select(Account.status).where(Account.id == made.account_id))
    return status == AccountStatus.ACTIVE and not is_to_end(session, made.account_id, made.id)


def is_to_end(session: Session, account_id: int, besides: int | None = None) -> bool:
    """Whether everything of the account is to end, by another change than the one given."""
    is_planned = exists().where(
        PlanChange.account_id == account_id,
        PlanChange.is_end,
        PlanChange.state == PLANNED.value,
        PlanChange.id != (besides or 0),
    )
    return bool(session.scalar(select(is_planned)))


def _check_undo(session: Session, made: PlanChange) -> None:
    """See that what would be in use then can stand together. Raises ChangeRefused."""
    today = clock.today(current_isp().timezone)
    contract = offers.read_contract(session, made.account_id, today)
    back = {subscription_id for subscription_id, ended in made.ended if ended is None}
    if not made.is_end:
        offers.check_undo(session, contract, back, made.to_id)


# By staff ----------------------------------------------------------------------------------------


def accept(
    public_id: str, on: date, staff_id: int, key: ArrivedKey, path: str, number: str = ""
) -> str:
    """Let a change that was asked for begin on the day `on`; `path`. A phone that begins gets the
    `number` (E.164), if there is one. Raises PlanNotFound, DayOutOfBounds, DecidedMeanwhile,
    TermsChanged, NumberRefused and ChangeRefused."""
    language()
    check_day(on)

    def work(session: Session) -> str:
        made = _take_asked(session, account_id, public_id)
        quote = quoting.quote(session, _wish_of(session, made, on))
        if quote.terms != made.quote.get("terms"):
            raise TermsChanged
        made.effective_on = on
        made.quote = quote.facts()
        made.decided_by_id = staff_id
        _make(session, made, quote)
        if number:
            numbers.give(session, account_id, made.to_id, number)
        return path

    account_id = account_of(public_id)
    return form_keys.once(key, work, account_id)


def make_of_move(
    session: Session, wish: Wish, customer_id: int | None, staff_id: int
) -> PlanChange:
    """Let an account that moves have another plan from the day on, within the running unit of work
    over it. Raises PlanNotFound, ChangeRefused."""
    quote = quoting.quote(session, wish)
    made = _new(wish, quote, customer_id)
    made.quote = {**made.quote, "is_of_move": True}
    made.decided_by_id = staff_id
    session.add(made)
    _make(session, made, quote)
    return made


def take_back_of_move(session: Session, made: PlanChange) -> None:
    """The same taken back, while it is planned. Raises ChangeRefused."""
    if made.state != PLANNED:
        return
    if is_to_end(session, made.account_id):
        raise EndUnderWay  # it ends what the move begins; the two would not come apart again
    _check_undo(session, made)
    _put_back(session, made)
    _end(made, PlanChangeState.UNDONE)
    _note(session, made, "plan_change_undone")


def refuse(public_id: str, why: str, staff_id: int, key: ArrivedKey, path: str) -> str:
    """Say no to a change that was asked for, and why; `path`. Raises PlanNotFound,
    DecidedMeanwhile."""
    current_isp()

    def work(session: Session) -> str:
        made = _take_asked(session, account_id, public_id)
        _end(made, PlanChangeState.REFUSED)
        made.answer = why
        made.decided_by_id = staff_id
        _note(session, made, "plan_change_refused")
        _tell(session, made, "refused")
        return path

    account_id = account_of(public_id)
    return form_keys.once(key, work, account_id)


def check_day(on: date | None) -> None:
    """Raises DayOutOfBounds for a day on which no change can begin."""
    today = clock.today(current_isp().timezone)
    if on is not None and not today <= on <= today + LONGEST_AHEAD:
        raise DayOutOfBounds


def account_of(public_id: str) -> int:
    """Whose change it is. Raises PlanNotFound."""
    found = db.session.scalar(
        select(PlanChange.account_id).where(PlanChange.public_id == public_id)
    )
    if found is None:
        raise PlanNotFound
    return found


def _take_asked(session: Session, account_id: int, public_id: str) -> PlanChange:
    made = _get(session, account_id, public_id)
    if made.state != PlanChangeState.ASKED:
        raise DecidedMeanwhile
    return made


def _wish_of(session: Session, made: PlanChange, on: date) -> Wish:
    old = session.scalar(select(Subscription.public_id).where(Subscription.id == made.from_id))
    code = session.scalar(select(Plan.code).where(Plan.id == made.to_plan_id))
    return Wish(made.account_id, old, code, When.NOW, on)


# Within a unit of work ---------------------------------------------------------------------------


def _get(session: Session, account_id: int, public_id: str) -> PlanChange:
    made = session.scalars(
        select(PlanChange).where(
            PlanChange.account_id == account_id, PlanChange.public_id == public_id
        )
    ).one_or_none()
    if made is None:
        raise PlanNotFound
    return made


def _make(session: Session, made: PlanChange, quote: Quote) -> None:
    """Write the subscriptions and charges of a change, and let it take effect if its day is
    here."""
    today = clock.today(current_isp().timezone)
    left = deciding.leave(session, made.account_id, today) if quote.effective_on <= today else []
    made.ended = _ended(quote)
    for each in quote.ending:
        session.execute(
            update(Subscription)
            .where(Subscription.id == each.subscription_id)
            .values(ended_on=quoting.end_of(each, quote.effective_on))
        )
    if quote.new is not None:
        made.to_id = _subscribe(session, made, quote)
    made.charges = [_charge(session, made, fee, quote.effective_on) for fee in quote.fees]
    if quote.effective_on <= today:
        made.state = PLANNED.value
        take_effect(session, made, left)
        _note(session, made, "plan_changed")
    else:
        made.state = PLANNED.value
        starts = datetime.combine(quote.effective_on, time(), ZoneInfo(current_isp().timezone))
        made.due_at = starts.astimezone(clock.now().tzinfo)
        _note(session, made, "plan_change_planned")
    _tell(session, made, "made")


def _ended(quote: Quote) -> list[list[Any]]:
    """The subscriptions that a change ends, each with the day it ended on before."""
    return [
        [each.subscription_id, None if each.ended_on is None else each.ended_on.isoformat()]
        for each in quote.ending
    ]


def _subscribe(session: Session, made: PlanChange, quote: Quote) -> int:
    plan = quote.new
    if plan is None:
        raise LookupError("the change begins nothing")
    begun = Subscription(
        public_id=ids.public_id(),
        account_id=made.account_id,
        plan_id=plan.id,
        line_id=quote.old.line_id if quote.old is not None else None,
        started_on=quote.effective_on,
        intro_price_minor=quote.intro.amount_minor if quote.intro is not None else None,
        intro_until_on=quote.intro_until_on,
        bound_until_on=quote.term.bound_until_on,
        termination_minor=quote.term.left_minor or None,
        paused=write_spans(quote.paused),
        price_minor=quote.price_minor,
    )
    session.add(begun)
    session.flush()
    return begun.id


def _charge(session: Session, made: PlanChange, fee: Fee, from_on: date) -> int:
    charge = Charge(
        public_id=ids.public_id(),
        account_id=made.account_id,
        is_credit=False,
        kind=fee.kind,
        description=fee.description,
        reason="",
        amount_minor=fee.amount_minor,
        added_by_id=made.customer_id,
        created_at=clock.now(),
        from_on=from_on,
    )
    session.add(charge)
    session.flush()
    return charge.id


def take_effect(session: Session, made: PlanChange, left: Sequence[deciding.Left]) -> bool:
    """Bring the account's line to the plan that begins; False, and the change undone, where the
    plan ended before it began, as with a closed account. `left`: what its lines had carried."""
    if made.to_id is not None:
        begun = session.get_one(Subscription, made.to_id)
        if begun.ended_on is not None and begun.ended_on <= begun.started_on:
            _end(made, PlanChangeState.UNDONE)
            session.flush()
            numbers.end_over(session, [made.account_id])
            adjusting.take_back_charges(session, made.charges)
            return False
        _set_speed(session, begun)
        if made.from_id is not None:
            numbers.follow(session, made.from_id, begun.id)
        deciding.begin(session, made.account_id, left, clock.today(current_isp().timezone))
    _end(made, DONE)
    session.flush()  # what waits is ended with the account; this one no longer does
    numbers.end_over(session, [made.account_id])
    if made.is_end and session.get_one(Account, made.account_id).status == AccountStatus.ACTIVE:
        closing.close(session, [made.account_id], made.effective_on)
    return True


def _end(made: PlanChange, state: PlanChangeState) -> None:
    made.state = state.value
    made.ended_at = clock.now()
    made.due_at = made.claimed_until_at = None


def _set_speed(session: Session, begun: Subscription) -> None:
    """Want the plan's speeds of the line it is had on, or of the account's only one."""
    plan = session.get_one(Plan, begun.plan_id)
    if plan.kind != PlanKind.INTERNET:
        return
    line_ids = (
        [begun.line_id]
        if begun.line_id is not None
        else session.scalars(
            select(Line.id).where(Line.account_id == begun.account_id, Line.is_closed.is_(False))
        ).all()
    )
    if len(line_ids) != 1:
        return
    session.execute(
        update(Line)
        .where(Line.id == line_ids[0])
        .values(down_kbps=plan.down_kbps, up_kbps=plan.up_kbps, sync_at=clock.now(), sync_count=0)
    )


def _put_back(session: Session, made: PlanChange) -> None:
    """What began is over before it began, what was to end goes on, what it cost is given back."""
    from blueprints.staff.prices import telling  # staff's pages import this module

    if made.to_id is not None:
        session.execute(
            update(Subscription)
            .where(Subscription.id == made.to_id)
            .values(ended_on=Subscription.started_on)
        )
    session.flush()
    revived = select(Subscription.id, Subscription.ended_on).where(
        Subscription.id.in_([subscription_id for subscription_id, _ended in made.ended])
    )
    ends = {row.id: row.ended_on for row in session.execute(revived)}
    for subscription_id, ended in made.ended:
        session.execute(
            update(Subscription)
            .where(Subscription.id == subscription_id)
            .values(ended_on=None if ended is None else date.fromisoformat(ended))
        )
    telling.tell_revived(session, ends)
    numbers.end_over(session, [made.account_id])
    adjusting.take_back_charges(session, made.charges)


def _note(session: Session, made: PlanChange, kind: str) -> None:
    event = activity.Event(
        kind, clock.now(), account_id=made.account_id, customer_id=made.customer_id
    )
    activity.record(session, [event])
    revisions.raise_account(session, made.account_id)


# Telling -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Names:
    old: str
    new: str
    apps: list[str]


def _names(session: Session, made: PlanChange) -> _Names:
    old = session.scalar(
        select(Plan.name)
        .join(Subscription, Subscription.plan_id == Plan.id)
        .where(Subscription.id == made.from_id)
    )
    new = session.execute(
        select(Plan.name, Plan.streaming).where(Plan.id == made.to_plan_id)
    ).one_or_none()
    if new is None:
        return _Names(old or "", "", [])
    return _Names(old or "", new.name, [app.name for app in apps.read(new.streaming)])


def _tell(session: Session, made: PlanChange, what: str) -> None:
    """Send the account's people what was agreed, with what it costs (47 USC 562)."""
    session.flush()
    names = _names(session, made)
    outbox.queue(
        session,
        [
            outbox.Letter(
                "plan_change",
                each.recipient,
                each.language,
                account_id=each.account_id,
                customer_id=each.customer_id,
                channel=each.channel.value,
                facts={
                    "account": each.account_public_id,
                    "account_number": each.account_number,
                    "change": made.public_id,
                    "what": what,
                    "old": names.old,
                    "new": names.new,
                    "is_end": made.is_end,
                    "effective_on": made.effective_on.isoformat(),
                    "monthly": _formatted(made.quote, "monthly_minor", each.language),
                    "total": _formatted(made.quote, "total_minor", each.language),
                    "bill_on": made.quote["bill_on"],
                    "answer": made.answer,
                    **_later(made.quote, each.language),
                    "apps": names.apps,
                },
            )
            for each in addressees.find(session, [made.account_id], Topic.SERVICE)
        ],
    )


def _formatted(quote: Mapping[str, Any], name: str, of_language: str) -> str:
    return format_money(Money(quote[name], quote["currency"]), of_language)


def _later(quote: Mapping[str, Any], of_language: str) -> dict[str, str]:
    """The next price of what begins, where one is planned."""
    for on, minor in quote.get("later", [])[:1]:
        return {"later_on": on, "later": format_money(Money(minor, quote["currency"]), of_language)}
    return {}
