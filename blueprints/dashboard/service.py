"""The account at a glance. Reads only, in a fixed number of queries."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from itertools import groupby
from typing import Any

from flask_babel import gettext as _
from sqlalchemy import BindParameter, Boolean, Date, Select, and_, bindparam, func, or_, select
from sqlalchemy.orm import aliased

from blueprints.billing import gateway_words, prices
from blueprints.billing.drafting import BilledSubscription
from blueprints.billing.dunning.outlook import Outlook, find_outlook
from blueprints.billing.owed import Due, find_due
from blueprints.billing.prices import Begun
from core import clock
from core.activity import ABOUT_MONEY, OF_ALL
from core.db import db
from core.isp import current_isp
from core.money import Money
from core.prepared import Prepared
from models import (
    PAUSE_STANDS,
    Account,
    AccountStatus,
    Activity,
    CallRecord,
    Invoice,
    Line,
    LineHold,
    LineState,
    Membership,
    MethodState,
    Pause,
    Payment,
    PaymentMethod,
    PaymentState,
    Plan,
    PlanKind,
    Subscription,
)

ACTIVITY_SHOWN = 5
NEW_FOR_DAYS = 31


@dataclass(frozen=True, slots=True)
class AccountChoice:
    public_id: str
    number: str
    name: str
    role: str
    balance: Money
    state_word: str


@dataclass(frozen=True, slots=True)
class AccountView:
    public_id: str
    number: str
    name: str
    status: str
    is_new: bool


@dataclass(frozen=True, slots=True)
class LastPayment:
    public_id: str
    amount: Money
    paid_at: datetime


@dataclass(frozen=True, slots=True)
class SavedMethod:
    """The saved card or bank account that can be paid with at once."""

    public_id: str
    label: str


@dataclass(frozen=True, slots=True)
class SubscriptionView:
    name: str
    kind: str
    price: Money
    down_kbps: int | None
    up_kbps: int | None
    channel_count: int
    since_on: date


@dataclass(frozen=True, slots=True)
class LineView:
    username: str
    state: str
    hold_reasons: list[str]
    down_kbps: int
    up_kbps: int
    is_being_opened: bool
    is_back_today: bool
    opened_until_at: datetime | None
    sync_failure: str


@dataclass(frozen=True, slots=True)
class ActivityRow:
    kind: str
    amount: Money | None
    happened_at: datetime


@dataclass(frozen=True, slots=True)
class PauseView:
    """A pause that is planned or runs."""

    public_id: str
    state: str
    from_on: date
    until_on: date


@dataclass(frozen=True, slots=True)
class HomePage(Due):
    account: AccountView
    can_pay: bool
    method: SavedMethod | None
    can_see_money: bool
    outlook: Outlook | None
    holds: list[str]
    pause: PauseView | None
    last_payment: LastPayment | None
    subscriptions: list[SubscriptionView]
    has_calls: bool
    line: LineView | None
    activity: list[ActivityRow]


def find_home(
    account_id: int, customer_id: int, *, can_see_money: bool, pays_by: str | None, is_owner: bool
) -> HomePage:
    """Everything the account's first page shows, in five queries while nothing is overdue.

    Without `can_see_money` there is no activity that names an amount, and the template shows none.
    `pays_by` is the gateway's name for whoever can pay.
    """
    due = find_due(account_id)
    row = _ACCOUNT.one(
        account_id=account_id,
        customer_id=customer_id,
        gateway=pays_by or "",
        today=clock.today(current_isp().timezone),
    )
    account, last_payment = _account_and_last_payment(row, due.balance.currency)
    line = next(iter(list_lines(account_id, account.status)), None)
    return HomePage(
        **due.as_fields(),
        account=account,
        can_pay=pays_by is not None,
        method=_saved_method(row),
        can_see_money=can_see_money,
        outlook=find_outlook(account_id) if due.is_overdue else None,
        holds=line.hold_reasons if line is not None else [],
        pause=_pause(row),
        last_payment=last_payment,
        subscriptions=_list_subscriptions(account_id, due.balance.currency),
        has_calls=is_owner and bool(row.has_calls),
        line=line,
        activity=_list_activity(
            account_id, customer_id, can_see_money=can_see_money, is_owner=is_owner
        ),
    )


def _account_query() -> Select[*tuple[Any, ...]]:
    account_id: BindParameter[int] = bindparam("account_id")
    paid = aliased(Payment)
    last = (
        select(paid.id)
        .where(paid.account_id == account_id, paid.state == PaymentState.SUCCEEDED.value)
        .order_by(paid.created_at.desc(), paid.id.desc())
        .limit(1)
        .scalar_subquery()
    )
    has_invoice = select(Invoice.id).where(Invoice.account_id == account_id).exists()
    has_calls = select(CallRecord.id).where(CallRecord.account_id == account_id).exists()
    saved = aliased(PaymentMethod)
    first_saved = (
        select(saved.id)
        .where(
            saved.account_id == account_id,
            saved.customer_id == bindparam("customer_id"),
            saved.gateway == bindparam("gateway"),
            saved.state == MethodState.USABLE.value,
            or_(saved.expires_on.is_(None), saved.expires_on >= bindparam("today", type_=Date)),
        )
        .order_by(saved.is_default.desc(), saved.id.desc())
        .limit(1)
        .scalar_subquery()
    )
    return (
        select(
            Account.public_id,
            Account.number,
            Account.name,
            Account.status,
            Account.opened_on,
            has_invoice.label("has_invoice"),
            has_calls.label("has_calls"),
            Payment.public_id.label("payment_public_id"),
            Payment.amount_minor,
            Payment.ended_at,
            PaymentMethod.public_id.label("method_public_id"),
            PaymentMethod.title.label("method_title"),
            PaymentMethod.name.label("method_name"),
            Pause.public_id.label("pause_public_id"),
            Pause.state.label("pause_state"),
            Pause.from_on,
            Pause.until_on,
        )
        .select_from(Account)
        .outerjoin(Payment, Payment.id == last)
        .outerjoin(PaymentMethod, PaymentMethod.id == first_saved)
        .outerjoin(Pause, and_(Pause.account_id == account_id, Pause.state.in_(PAUSE_STANDS)))
        .where(Account.id == account_id)
    )


_ACCOUNT = Prepared(_account_query())


def _saved_method(row: Any) -> SavedMethod | None:
    if row.method_public_id is None:
        return None
    return SavedMethod(
        row.method_public_id, row.method_name or gateway_words.translate(row.method_title)
    )


def _pause(row: Any) -> PauseView | None:
    if row.pause_public_id is None:
        return None
    return PauseView(row.pause_public_id, row.pause_state, row.from_on, row.until_on)


def _account_and_last_payment(row: Any, currency: str) -> tuple[AccountView, LastPayment | None]:
    age_days = (clock.today(current_isp().timezone) - row.opened_on).days
    account = AccountView(
        row.public_id,
        row.number,
        row.name,
        row.status,
        is_new=not row.has_invoice and age_days < NEW_FOR_DAYS,
    )
    if row.payment_public_id is None:
        return account, None
    amount = Money(row.amount_minor, currency)
    return account, LastPayment(row.payment_public_id, amount, row.ended_at)


_past = aliased(LineHold)
_LINE = Prepared(
    select(
        Line.id,
        Line.username,
        Line.is_closed,
        Line.down_kbps,
        Line.up_kbps,
        Line.reached_state,
        Line.opened_until_at,
        Line.sync_failure,
        LineHold.reason,
        select(func.max(_past.released_at))
        .where(_past.line_id == Line.id)
        .scalar_subquery()
        .label("released_at"),
    )
    .outerjoin(LineHold, and_(LineHold.line_id == Line.id, LineHold.released_at.is_(None)))
    .where(Line.account_id == bindparam("account_id"))
    .order_by(Line.is_closed, Line.id, LineHold.reason)
)


def list_lines(account_id: int, account_status: str) -> list[LineView]:
    """The account's lines with the reasons they are held, those that still run first."""
    found = []
    now, timezone = clock.now(), current_isp().timezone
    today = clock.day_of(now, timezone)
    for _line_id, of_line in groupby(_LINE.all(account_id=account_id), key=lambda row: row.id):
        rows = list(of_line)
        first = rows[0]
        reasons = [row.reason for row in rows if row.reason is not None]
        if first.is_closed or account_status == AccountStatus.CLOSED:
            state, reasons = "closed", []
        else:
            state = "held" if reasons else "active"
        is_being_opened = state == "active" and first.reached_state == LineState.HELD
        released_at, until_at = first.released_at, first.opened_until_at
        is_opened = state == "held" and until_at is not None and until_at > now
        found.append(
            LineView(
                username=first.username,
                state=state,
                hold_reasons=reasons,
                down_kbps=first.down_kbps or 0,
                up_kbps=first.up_kbps or 0,
                is_being_opened=is_being_opened,
                is_back_today=state == "active"
                and not is_being_opened
                and released_at is not None
                and clock.day_of(released_at, timezone) == today,
                opened_until_at=until_at if is_opened else None,
                sync_failure=first.sync_failure,
            )
        )
    return found


_SUBSCRIPTIONS = Prepared(
    select(
        Plan.name,
        Plan.code,
        Plan.kind,
        Plan.price_minor,
        Subscription.intro_price_minor,
        Subscription.intro_until_on,
        Plan.down_kbps,
        Plan.up_kbps,
        Plan.channels,
        Subscription.started_on,
        Plan.price_steps,
        Subscription.price_minor.label("agreed_minor"),
        Subscription.priced_on,
        Subscription.bound_until_on,
        Account.bill_day,
    )
    .join(Plan, Plan.id == Subscription.plan_id)
    .join(Account, Account.id == Subscription.account_id)
    .where(
        Subscription.account_id == bindparam("account_id"),
        or_(Subscription.ended_on.is_(None), Subscription.ended_on > bindparam("today")),
    )
    .order_by(Plan.id)
)


def _list_subscriptions(account_id: int, currency: str) -> list[SubscriptionView]:
    today = clock.today(current_isp().timezone)
    rules = current_isp().pause
    for_pauses = rules.plan if rules is not None else ""
    found = _SUBSCRIPTIONS.all(account_id=account_id, today=today)
    rows = [row for row in found if row.code != for_pauses]
    kinds = list(PlanKind)
    running = {row.kind for row in rows if row.started_on <= today}
    ordered = sorted(
        # What is to follow a plan in use is on the page of plans.
        (row for row in rows if row.started_on <= today or row.kind not in running),
        key=lambda row: kinds.index(PlanKind(row.kind)),
    )
    return [
        SubscriptionView(
            row.name,
            row.kind,
            Money(_price_today(row), currency),
            row.down_kbps,
            row.up_kbps,
            len(row.channels or ()),
            row.started_on,
        )
        for row in ordered
    ]


def _price_today(row: Any) -> int:
    begun = Begun(row.started_on, row.agreed_minor, row.priced_on, row.bound_until_on, row.bill_day)
    price_minor, later = prices.standing(row.price_minor, row.price_steps, begun)
    billed = BilledSubscription(
        0,
        row.name,
        row.kind,
        price_minor,
        row.intro_price_minor,
        row.intro_until_on,
        row.started_on,
        later=later,
    )
    return billed.price_on(clock.today(current_isp().timezone))


_sign_in = aliased(Activity)
_last_sign_in = (
    select(func.max(_sign_in.id))
    .where(_sign_in.customer_id == bindparam("customer_id"), _sign_in.kind == "signed_in")
    .scalar_subquery()
)
_ACTIVITY = Prepared(
    select(Activity.kind, Activity.facts, Activity.happened_at)
    .where(
        or_(
            and_(
                Activity.account_id == bindparam("account_id"),
                or_(
                    bindparam("is_owner", type_=Boolean),
                    Activity.customer_id == bindparam("customer_id"),
                    Activity.kind.in_(sorted(OF_ALL)),
                ),
            ),
            and_(Activity.account_id.is_(None), Activity.customer_id == bindparam("customer_id")),
        ),
        or_(bindparam("sees_money", type_=Boolean), Activity.kind.not_in(sorted(ABOUT_MONEY))),
        # Of many sign-ins the latest: they must not push payments and bills out of sight.
        or_(Activity.kind != "signed_in", Activity.id == _last_sign_in),
    )
    .order_by(Activity.happened_at.desc(), Activity.id.desc())
    .limit(ACTIVITY_SHOWN)
)


def _list_activity(
    account_id: int, customer_id: int, *, can_see_money: bool, is_owner: bool
) -> list[ActivityRow]:
    """The latest of the account, as far as it is for more than its owner, and of the customer's own
    sign-ins, never of other customers."""
    rows = _ACTIVITY.all(
        account_id=account_id,
        customer_id=customer_id,
        sees_money=can_see_money,
        is_owner=is_owner,
    )
    return [ActivityRow(row.kind, _amount(row.facts), row.happened_at) for row in rows]


def _amount(facts: Mapping[str, Any] | None) -> Money | None:
    if not facts or "amount_minor" not in facts:
        return None
    return Money(facts["amount_minor"], facts["currency"])


def list_accounts(customer_id: int) -> list[AccountChoice]:
    """The accounts that the customer may use, by number, in one query."""
    held = (
        select(func.count())
        .select_from(LineHold)
        .join(Line, Line.id == LineHold.line_id)
        .where(Line.account_id == Account.id, LineHold.released_at.is_(None))
        .scalar_subquery()
    )
    rows = db.session.execute(
        select(
            Account.public_id,
            Account.number,
            Account.name,
            Account.status,
            Account.balance_minor,
            Account.currency,
            Membership.role,
            held.label("held"),
        )
        .join(Membership, Membership.account_id == Account.id)
        .where(Membership.customer_id == customer_id)
        .order_by(Account.number)
    ).all()
    return [
        AccountChoice(
            row.public_id,
            row.number,
            row.name,
            row.role,
            Money(row.balance_minor, row.currency),
            _("Closed")
            if row.status == AccountStatus.CLOSED
            else _("Switched off")
            if row.held
            else _("Active"),
        )
        for row in rows
    ]
