"""Pausing an account for a while: in one press, back until it begins, and over by itself.

The subscriptions say on which days they are paused from the press on, so that any bill finds it. On
the first of the days the worker holds the lines, and on the last it lets them go.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

from sqlalchemy import or_, select
from sqlalchemy.orm import Session

from blueprints.billing.periods import Span, read_spans, write_spans
from blueprints.dashboard.plans import offers, pause_quoting, quoting
from blueprints.dashboard.plans.errors import NotUndoable, PauseOver, QuoteChanged
from blueprints.dashboard.plans.pause_quoting import Situation
from blueprints.lines import holding
from core import activity, addressees, clock, due_work, form_keys, ids, outbox, revisions
from core.db import db, unit_of_work
from core.form_keys import ArrivedKey
from core.isp import current_isp
from core.money import Money, format_money
from core.topics import Topic
from core.words import language
from models import (
    HoldReason,
    Line,
    Pause,
    PauseState,
    PlanChange,
    PlanChangeState,
    PlanKind,
    Subscription,
)

# By the customer ---------------------------------------------------------------------------------


def pause(
    account_id: int, span: Span, shown: str, customer_id: int, key: ArrivedKey, path: str
) -> str:
    """Pause the account on the days that were `shown` (the quote's digest); the path that shows it,
    which is `path` with its public id for `{id}`. Raises PlanNotFound, ChangeRefused."""
    language()
    today = clock.today(current_isp().timezone)

    def work(session: Session) -> str:
        found = pause_quoting.read(session, account_id)
        quote = pause_quoting.quote(session, found, span)
        if quote.digest != shown:
            raise QuoteChanged
        made = Pause(
            public_id=ids.public_id(),
            account_id=account_id,
            customer_id=customer_id,
            from_on=span.from_on,
            until_on=span.until_on,
            counts_until_on=span.until_on,
            kinds=list(found.rules.kinds),
            subscription_id=_rest(session, found, span),
            is_prolonging=found.rules.prolongs_contract,
            prolonged=[],
            state=PauseState.PLANNED.value,
            quote=quote.facts(),
            created_at=clock.now(),
            due_at=_start_of(span.from_on),
        )
        session.add(made)
        session.flush()
        if span.from_on <= today:
            _begin(session, made)
        else:
            _note(session, made, "pause_planned")
        _tell(session, made, "made")
        return path.format(id=made.public_id)

    return form_keys.once(key, work, account_id)


def undo(account_id: int, public_id: str, customer_id: int, key: ArrivedKey, path: str) -> str:
    """Take a pause back while `can_undo`; `path`. Raises PlanNotFound, NotUndoable."""
    current_isp()

    def work(session: Session) -> str:
        made = pause_quoting.get(session, account_id, public_id)
        if made.state == PauseState.UNDONE:
            return path
        if not can_undo(made):
            raise NotUndoable
        _change_days(session, made, None)
        _finish(made, PauseState.UNDONE)
        made.customer_id = made.customer_id or customer_id
        _note(session, made, "pause_undone")
        _tell(session, made, "undone")
        return path

    return form_keys.once(key, work, account_id)


def can_undo(made: Pause) -> bool:
    """Whether its first day is still to come."""
    return made.state == PauseState.PLANNED and made.from_on > clock.today(current_isp().timezone)


def can_end(made: Pause) -> bool:
    """Whether it runs today."""
    stands = made.state in (PauseState.PLANNED, PauseState.RUNNING)
    return stands and made.from_on <= clock.today(current_isp().timezone) < made.until_on


def end(
    account_id: int, public_id: str, shown: str, customer_id: int, key: ArrivedKey, path: str
) -> str:
    """End a pause that runs today, as was `shown`; `path`. Raises PlanNotFound, ChangeRefused."""
    language()
    today = clock.today(current_isp().timezone)

    def work(session: Session) -> str:
        made = pause_quoting.get(session, account_id, public_id)
        quote = pause_quoting.end_quote(session, account_id, public_id)
        if quote.digest != shown:
            raise QuoteChanged
        if not can_end(made):
            raise PauseOver
        if made.state == PauseState.PLANNED:
            _begin(session, made)  # the worker has not come to it yet
        _change_days(session, made, Span(made.from_on, today))
        _prolong(session, made, today - made.until_on)
        made.counts_until_on = _counts_until(made, today)
        made.until_on = today
        made.quote = quote.facts() | {"resting": made.quote["resting"]}
        made.customer_id = made.customer_id or customer_id
        _let_go(session, made)
        _tell(session, made, "ended")
        return path

    return form_keys.once(key, work, account_id)


def _counts_until(made: Pause, today: date) -> date:
    """What was begun takes the least days of a pause from the year, so that many short ones do not
    stand in its place."""
    rules = current_isp().pause
    least = rules.least_days if rules is not None else 0
    return min(made.until_on, max(today, made.from_on + timedelta(days=least)))


# By the worker -----------------------------------------------------------------------------------


def take_effect_due() -> int:
    """A duty of the worker: begin and end the pauses whose day has come; how many."""
    return due_work.do(Pause, Pause.due_at, _take_effect)


def _take_effect(pause_id: int) -> None:
    account_id = db.session.execute(
        select(Pause.account_id).where(Pause.id == pause_id)
    ).scalar_one()
    current_isp()

    def work(session: Session) -> None:
        made = session.get_one(Pause, pause_id, populate_existing=True)
        now = clock.now()
        if made.due_at is None or made.due_at > now:
            made.claimed_until_at = None
        elif made.state == PauseState.PLANNED:
            _begin(session, made)
        elif made.state == PauseState.RUNNING:
            _let_go(session, made)
            _tell(session, made, "over")

    unit_of_work(work, account_id)


# Within a unit of work ---------------------------------------------------------------------------


def _rest(session: Session, found: Situation, span: Span) -> int | None:
    """Let what the account has of the kinds that pause rest on these days; the subscription that is
    paid for meanwhile, where there is one."""
    for each in found.resting:
        stored = session.get_one(Subscription, each.subscription_id)
        stored.paused = write_spans((*read_spans(stored.paused), span))
    plan = found.plan
    if plan is None:
        return None
    price_minor = offers.list_price(plan, span.from_on)
    begun = Subscription(
        public_id=ids.public_id(),
        account_id=found.contract.account_id,
        plan_id=plan.id,
        started_on=span.from_on,
        ended_on=span.until_on,
        # It costs what it cost when it was agreed to.
        intro_price_minor=price_minor,
        intro_until_on=span.until_on,
        price_minor=price_minor,
    )
    session.add(begun)
    session.flush()
    return begun.id


def _change_days(session: Session, made: Pause, rest: Span | None) -> None:
    """Let the pause last for `rest` only, or not at all."""
    was = Span(made.from_on, made.until_on)
    for each in session.scalars(
        select(Subscription).where(
            Subscription.account_id == made.account_id, Subscription.paused != ""
        )
    ):
        each.paused = write_spans(pause_quoting.shorten(read_spans(each.paused), was, rest))
    if made.subscription_id is not None:
        paid = session.get_one(Subscription, made.subscription_id)
        paid.ended_on = paid.started_on if rest is None else max(paid.started_on, rest.until_on)
        _forget_in_ends(session, made)


def _forget_in_ends(session: Session, made: Pause) -> None:
    """What was paid for meanwhile is over; taking back an end of everything must not revive it."""
    for change in session.scalars(
        select(PlanChange).where(
            PlanChange.account_id == made.account_id,
            PlanChange.is_end,
            PlanChange.state == PlanChangeState.PLANNED.value,
        )
    ):
        change.ended = [each for each in change.ended if each[0] != made.subscription_id]


def _begin(session: Session, made: Pause) -> None:
    """Hold the lines and make contracts longer, where that is the rule."""
    made.state = PauseState.RUNNING.value
    made.due_at = _start_of(made.until_on)
    made.claimed_until_at = None
    if made.is_prolonging:
        made.prolonged = list(
            session.scalars(
                select(Subscription.id).where(
                    Subscription.account_id == made.account_id,
                    Subscription.bound_until_on > made.from_on,
                    Subscription.started_on < made.until_on,
                    or_(Subscription.ended_on.is_(None), Subscription.ended_on > made.from_on),
                    Subscription.paused.contains(f"{made.from_on}/{made.until_on}"),
                )
            )
        )
        _prolong(session, made, made.until_on - made.from_on)
    if PlanKind.INTERNET in made.kinds:
        holding.hold(session, _lines_of(session, made), HoldReason.PAUSE, is_noted=False)
    _note(session, made, "pause_begun")


def _prolong(session: Session, made: Pause, by: timedelta) -> None:
    """Move the contracts on, or back where it ends early: also of plans that followed meanwhile,
    or are to, with the same contract. What a plan binds to for itself stays."""
    bound = {
        each.id: each
        for each in session.scalars(
            select(Subscription).where(
                Subscription.account_id == made.account_id,
                Subscription.bound_until_on.is_not(None),
            )
        )
    }
    followed = session.scalars(
        select(PlanChange).where(
            PlanChange.account_id == made.account_id,
            PlanChange.state.in_((PlanChangeState.PLANNED.value, PlanChangeState.DONE.value)),
        )
    )
    changes = {(each.from_id, each.to_id): each for each in followed}
    links = [(old, new) for old, new in changes if old is not None and new is not None]
    days = {each.id: each.bound_until_on for each in bound.values()}
    made.prolonged = pause_quoting.carried(made.prolonged, days, links)
    own = {new: _own_bound(changes[old, new]) for old, new in links}
    for each in made.prolonged:
        was = days.get(each)
        if was is not None:
            bound[each].bound_until_on = max(was + by, own.get(each) or was + by)


def _own_bound(change: PlanChange) -> date | None:
    """Until when what began by the change binds for itself, whatever bound before."""
    months = quoting.months_of(change.quote["terms"])
    if not months or change.quote.get("is_of_move"):
        return None
    day = change.effective_on
    return clock.month_step(day, months, day.day)


def _let_go(session: Session, made: Pause) -> None:
    """The pause is over: the lines are open again, but for what else holds them."""
    _finish(made, PauseState.DONE)
    holding.release(session, _lines_of(session, made), HoldReason.PAUSE, is_noted=False)
    _note(session, made, "pause_over")


def _lines_of(session: Session, made: Pause) -> list[int]:
    return list(
        session.scalars(
            select(Line.id).where(Line.account_id == made.account_id, Line.is_closed.is_(False))
        )
    )


def _finish(made: Pause, state: PauseState) -> None:
    made.state = state.value
    made.ended_at = clock.now()
    made.due_at = made.claimed_until_at = None


def _start_of(day: date) -> datetime:
    """When the day begins at the ISP."""
    return datetime.combine(day, time(), ZoneInfo(current_isp().timezone)).astimezone(UTC)


def _note(session: Session, made: Pause, kind: str) -> None:
    event = activity.Event(
        kind, clock.now(), account_id=made.account_id, customer_id=made.customer_id
    )
    activity.record(session, [event])
    revisions.raise_account(session, made.account_id)


def _tell(session: Session, made: Pause, what: str) -> None:
    session.flush()
    quote = made.quote
    outbox.queue(
        session,
        [
            outbox.Letter(
                "pause",
                each.recipient,
                each.language,
                account_id=each.account_id,
                customer_id=each.customer_id,
                channel=each.channel.value,
                facts={
                    "account": each.account_public_id,
                    "account_number": each.account_number,
                    "pause": made.public_id,
                    "what": what,
                    "from_on": made.from_on.isoformat(),
                    "until_on": made.until_on.isoformat(),
                    "bill_on": quote["bill_on"],
                    "total": format_money(
                        Money(quote["total_minor"], quote["currency"]), each.language
                    ),
                },
            )
            for each in addressees.find(session, [made.account_id], Topic.SERVICE)
        ],
    )
