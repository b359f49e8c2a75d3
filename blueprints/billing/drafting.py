"""What an account owes for its next bill period: the lines of an invoice before it has a number.

`compute` is pure. `draft_next` reads what it needs of any number of accounts in a handful of
queries; `invoicing.issue` writes what comes out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta
from typing import Any

from sqlalchemy import BindParameter, and_, bindparam, exists, or_, select
from sqlalchemy.orm import Session, aliased

from blueprints.billing import prices
from blueprints.billing.periods import (
    Span,
    cost_of,
    cut,
    period_of,
    read_spans,
    within,
    without,
)
from blueprints.billing.prices import Begun, Prices
from core.money import tax_on
from models import (
    Account,
    AccountStatus,
    Charge,
    Contact,
    ContactKind,
    InvoiceKind,
    InvoiceLineKind,
    Plan,
    Subscription,
    Tax,
    TaxExemption,
)

ADJUSTMENT_LEDGER = "revenue:adjustment"
LONGEST_AHEAD = timedelta(days=62)
"""Whatever is billed so long after its day was not billed ahead: no price of it is withdrawn."""
_PERIODS_BACK = 3
_DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class TaxRule:
    """A tax as it applies on a day: by rate in basis points, or flat per subscription and period.

    An empty `areas` means everywhere."""

    code: str
    name: str
    rate_bp: int | None
    flat_minor: int | None
    applies_to: tuple[str, ...]
    from_on: date | None
    to_on: date | None
    areas: tuple[str, ...] = ()

    def applies(self, kind: str, day: date, area: str | None = None) -> bool:
        return (
            kind in self.applies_to
            and (self.from_on is None or self.from_on <= day)
            and (self.to_on is None or day <= self.to_on)
            and (not self.areas or area in self.areas)
        )


Terms = Mapping[str, Sequence[int | None]]
"""Taxes by their code: rate in basis points and flat fee in minor units, one of them None."""


@dataclass(frozen=True, slots=True)
class BilledSubscription:
    """What an invoice needs to know of a subscription. Prices in minor units, before tax;
    `intro_until_on` is the first day at the full price, where there is an introductory one.
    Nothing is charged for the days of `paused`; up to `billed_until_on` the bills know of
    `billed_paused` instead. `price_minor` is the full price that it began at, `later` are those
    that follow; `billed_prices` are those at which its days were billed, where they differed."""

    subscription_id: int
    name: str
    kind: str
    price_minor: int
    intro_price_minor: int | None
    intro_until_on: date | None
    started_on: date
    ended_on: date | None = None
    billed_until_on: date | None = None
    billed_price_minor: int | None = None
    billed_taxes: Terms | None = None
    paused: tuple[Span, ...] = ()
    billed_paused: tuple[Span, ...] = ()
    later: Prices = ()
    billed_prices: Prices = ()
    elsewhere_until_on: date | None = None

    @property
    def paid_elsewhere_until_on(self) -> date | None:
        """The day before which its days were not billed by this portal, where there are such."""
        if self.billed_until_on is not None and self.billed_price_minor is None:
            return self.billed_until_on
        return self.elsewhere_until_on

    def is_intro(self, day: date) -> bool:
        """Whether `day` is one at the introductory price."""
        until = self.intro_until_on
        return until is not None and self.intro_price_minor is not None and day < until

    def price_on(self, day: date) -> int:
        """A whole period's price on `day`: the introductory one during its months."""
        if self.intro_price_minor is not None and self.is_intro(day):
            return self.intro_price_minor
        return self.full_price_on(day)

    def full_price_on(self, day: date) -> int:
        """A whole period's price on `day`, whatever it costs at first."""
        return prices.at(self.price_minor, self.later, day)

    def price_billed_for(self, day: date) -> int:
        """The price at which `day` was billed."""
        until = self.intro_until_on
        if self.billed_price_minor is None or (until is not None and day < until):
            return self.price_on(day)
        if self.billed_prices:
            return prices.at(self.billed_prices[0][1], self.billed_prices, day)
        return self.billed_price_minor

    @property
    def edges(self) -> tuple[date | None, ...]:
        """The days on which what it costs may differ from the day before."""
        return (self.intro_until_on, *(on for on, _minor in self.later))

    @property
    def billed_edges(self) -> tuple[date | None, ...]:
        """The same of what its days were billed at."""
        return (self.intro_until_on, *(on for on, _minor in self.billed_prices))


@dataclass(frozen=True, slots=True)
class OneOff:
    """A charge or credit that waits for an invoice; `amount_minor` is negative for a credit, which
    gives back what was billed with `terms` where that is known."""

    charge_id: int
    kind: str
    description: str
    amount_minor: int
    terms: Terms | None = None


@dataclass(frozen=True, slots=True)
class BilledAccount:
    """An account whose next period is `span`."""

    account_id: int
    bill_day: int
    span: Span
    area: str | None = None
    subscriptions: tuple[BilledSubscription, ...] = ()
    one_offs: tuple[OneOff, ...] = ()
    exempt_from: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class DraftLine:
    kind: InvoiceLineKind
    ledger: str
    description: str
    amount_minor: int
    subscription_id: int | None = None
    quantity: int = 1
    rate_bp: int | None = None
    period_from: date | None = None
    period_to: date | None = None
    corrects_position: int | None = None


@dataclass(frozen=True, slots=True)
class Mark:
    """How far a subscription is billed once the draft is issued, at last at which price and with
    which taxes, and which days were paused as far as the bills know. `prices` are all at which its
    days were billed, where they differed."""

    subscription_id: int
    until_on: date
    price_minor: int | None
    taxes: Terms | None
    paused: tuple[Span, ...] = ()
    prices: Prices = ()


@dataclass(frozen=True, slots=True)
class Draft:
    """An invoice before it has a number; `lines` sum to `total_minor`. One without lines moves
    marks and the account's period on, and makes no invoice."""

    account_id: int
    kind: InvoiceKind
    issued_on: date
    due_on: date
    period_from: date
    period_to: date
    bill_name: str
    bill_address: tuple[str, ...]
    lines: tuple[DraftLine, ...]
    number: str = ""
    marks: tuple[Mark, ...] = ()
    charge_ids: tuple[int, ...] = ()
    charge_taxes: tuple[Terms, ...] = ()
    corrects_id: int | None = None
    ends_period: bool = False

    @property
    def total_minor(self) -> int:
        return sum(line.amount_minor for line in self.lines)

    @property
    def tax_minor(self) -> int:
        return sum(line.amount_minor for line in self.lines if line.kind == InvoiceLineKind.TAX)


# Computing -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Piece:
    """Days of a subscription within one period, charged or (negative) given back. `units` is how
    many flat fees come with it; `terms` are the taxes it was billed with, where that is known."""

    subscription: BilledSubscription
    part: Span
    amount_minor: int
    units: int
    terms: Terms | None = None


def compute(
    account: BilledAccount, taxes: Sequence[TaxRule], issued_on: date
) -> tuple[tuple[DraftLine, ...], tuple[Mark, ...]]:
    """The lines for everything not billed until the account's period ends, and the marks.

    A charge for each part of a period in which a subscription is in use; a credit for days that
    were billed and are not used, since it ended or is paused; what waited for this invoice; then
    a line per tax. A rate is taken on the sum of what it applies to and rounded once. A flat fee is
    owed for each subscription and period in which it is in use, once where a plan follows another
    of its kind. Days are given back with the taxes that they were billed with, whatever holds by
    now.
    """
    pieces: list[_Piece] = []
    marks: list[Mark] = []
    for subscription in account.subscriptions:
        found, mark = _bill(subscription, account, taxes, issued_on)
        pieces += found
        if mark is not None:
            marks.append(mark)
    pieces.sort(key=lambda piece: piece.amount_minor < 0)  # what is given back comes after
    lines = [
        DraftLine(
            InvoiceLineKind.CREDIT if piece.amount_minor < 0 else InvoiceLineKind.CHARGE,
            f"revenue:{piece.subscription.kind}",
            piece.subscription.name,
            piece.amount_minor,
            subscription_id=piece.subscription.subscription_id,
            period_from=piece.part.from_on,
            period_to=piece.part.last_on,
        )
        for piece in pieces
    ]
    lines += [
        DraftLine(
            InvoiceLineKind.CREDIT if one_off.amount_minor < 0 else InvoiceLineKind.CHARGE,
            f"revenue:{one_off.kind}" if one_off.kind else ADJUSTMENT_LEDGER,
            one_off.description,
            one_off.amount_minor,
        )
        for one_off in account.one_offs
    ]
    for tax in taxes:
        lines += _tax_lines(tax, account, pieces, issued_on)
    return tuple(line for line in lines if line.amount_minor), tuple(marks)


def _bill(
    subscription: BilledSubscription,
    account: BilledAccount,
    taxes: Sequence[TaxRule],
    issued_on: date,
) -> tuple[list[_Piece], Mark | None]:
    """What is to be charged or given back of a subscription until the account's period ends."""
    start = subscription.billed_until_on or subscription.started_on
    stop = max(account.span.until_on, start)
    if subscription.ended_on is not None:
        stop = min(stop, subscription.ended_on)
    is_pause_known = (
        subscription.billed_until_on is None or subscription.paused == subscription.billed_paused
    )
    lowered, known = _lowered(subscription, account, min(start, stop))
    ended_on = subscription.ended_on
    # Until then a price that its last days were billed at may be withdrawn.
    is_over = ended_on is not None and ended_on <= first_changeable(issued_on)
    is_kept = bool(subscription.billed_prices) and is_over
    if stop == start and is_pause_known and not lowered and not is_kept:
        return [], None
    changed, known = _changes(subscription, account, start, stop, known)
    units = _Units(subscription, account, stop)
    price, terms = subscription.billed_price_minor, subscription.billed_taxes
    pieces = []
    for whole, period in cut(Span(start, stop), account.bill_day, *subscription.edges):
        price = subscription.price_on(whole.from_on)
        if (known or subscription.later) and not subscription.is_intro(whole.from_on):
            known = prices.with_billed(known, start, whole, price)
        terms = _terms_on(subscription.kind, whole.from_on, account, taxes)
        for part in without(whole, subscription.paused):
            amount_minor = cost_of(price, part, period)
            pieces.append(_Piece(subscription, part, amount_minor, units.take(period, 1)))
    pieces += [
        _Piece(
            subscription,
            part,
            sign * cost_of(rate, part, period),
            units.take(period, sign),
            subscription.billed_taxes,
        )
        for part, period, sign, rate in changed
    ]
    mark = Mark(
        subscription.subscription_id,
        stop,
        price,
        terms,
        subscription.paused,
        () if is_over else known,
    )
    return lowered + pieces, mark


def _changes(
    subscription: BilledSubscription,
    account: BilledAccount,
    start: date,
    stop: date,
    known: Prices,
) -> tuple[list[tuple[Span, Span, int, int]], Prices]:
    """Parts of `_changed_of_billed` with the period of each, its sign and its price; and at which
    prices the days are billed then."""
    was_minor = subscription.billed_price_minor
    if was_minor is None:  # whoever billed those days, it was not this portal
        return [], known
    found = []
    for span, sign in _changed_of_billed(subscription, start, stop):
        edges = subscription.billed_edges
        if sign > 0:
            edges = (*edges, *subscription.edges)
        for part, period in cut(span, account.bill_day, *edges):
            rate = was = subscription.price_billed_for(part.from_on)
            if sign > 0:  # what is charged after all is charged at no more than it costs now
                rate = min(was, subscription.price_on(part.from_on))
            if rate < was:
                known = known or ((subscription.started_on, was_minor),)
                known = prices.with_billed(known, start, part, rate)
            found.append((part, period, sign, rate))
    return found, known


def _lowered(
    subscription: BilledSubscription, account: BilledAccount, until_on: date
) -> tuple[list[_Piece], Prices]:
    """What is given back of days before `until_on` that were billed at more than they cost now, as
    when a change of price that a bill was made with is taken back; and at which prices its days are
    billed then. Days that were billed at less stay so."""
    known = subscription.billed_prices
    was_minor, start = subscription.billed_price_minor, subscription.billed_until_on
    if was_minor is None or start is None or not (known or subscription.later):
        return [], known
    if not known:
        known = ((subscription.started_on, was_minor),)
    # Days before any change cost what they were billed at, whatever was agreed since.
    changed_on = [on for on, _minor in (*subscription.billed_prices, *subscription.later)]
    first_on = min((on for on in changed_on if on > subscription.started_on), default=until_on)
    oldest_on = account.span.from_on
    for _ in range(_PERIODS_BACK):  # bills are also made ahead
        oldest_on = period_of(oldest_on - _DAY, account.bill_day).from_on
    first_on = max(first_on, oldest_on, subscription.paid_elsewhere_until_on or first_on)
    pieces = []
    edges = (*subscription.edges, *subscription.billed_edges)
    for part, period in cut(Span(first_on, until_on), account.bill_day, *edges):
        was, now = (
            subscription.price_billed_for(part.from_on),
            subscription.price_on(part.from_on),
        )
        if now < was:
            for used in without(part, subscription.billed_paused):
                # Of days that are paused since, all is given back.
                for span in without(used, subscription.paused):
                    amount_minor = cost_of(now, span, period) - cost_of(was, span, period)
                    pieces.append(
                        _Piece(subscription, span, amount_minor, 0, subscription.billed_taxes)
                    )
            known = prices.with_billed(known, start, part, now)
    return pieces, known


def _terms_on(
    kind: str, day: date, account: BilledAccount, taxes: Sequence[TaxRule]
) -> dict[str, list[int | None]]:
    """The taxes that the account pays on something of a kind on that day."""
    return {
        tax.code: [tax.rate_bp, tax.flat_minor]
        for tax in taxes
        if tax.code not in account.exempt_from and tax.applies(kind, day, account.area)
    }


def _terms_of(
    one_off: OneOff, account: BilledAccount, taxes: Sequence[TaxRule], issued_on: date
) -> Terms:
    """The taxes that a charge is billed with."""
    if one_off.terms is not None:
        return one_off.terms
    return _terms_on(one_off.kind, issued_on, account, taxes)


def _changed_of_billed(
    subscription: BilledSubscription, start: date, stop: date
) -> Iterator[tuple[Span, int]]:
    """Days before `start`, until which it is billed, that are to be charged after all (1), since
    they are not paused any more, or given back (-1), since they are paused or it ends at `stop`.
    Those that this portal has not billed are none of them."""
    first_on = max(subscription.started_on, subscription.paid_elsewhere_until_on or date.min)
    known = Span(first_on, min(start, stop))
    for hole in within(subscription.billed_paused, known):
        yield from ((part, 1) for part in without(hole, subscription.paused))
    for hole in within(subscription.paused, known):
        yield from ((part, -1) for part in without(hole, subscription.billed_paused))
    unused = Span(max(first_on, stop), start)
    yield from ((part, -1) for part in without(unused, subscription.billed_paused))


class _Units:
    """How many flat fees of a subscription come to a period's bill: each once, with the first piece
    of the period that is charged, or given back."""

    def __init__(
        self, subscription: BilledSubscription, account: BilledAccount, stop: date
    ) -> None:
        self._of = subscription
        self._others = account.subscriptions
        self._stop = stop
        self._taken: set[date] = set()

    def take(self, period: Span, sign: int) -> int:
        """The fee that comes with a piece of the period: `sign`, or nothing."""
        if period.from_on in self._taken:
            return 0
        of = self._of
        billed_until = of.billed_until_on or of.started_on
        is_owed = _is_used(of.started_on, self._stop, of.paused, period) and not any(
            other.ended_on == of.started_on
            and _is_used(other.started_on, of.started_on, other.paused, period)
            for other in self._before(period)
        )
        # As far as the bills knew: taking back a change gives back no fee that was not taken.
        was_owed = _is_used(of.started_on, billed_until, of.billed_paused, period) and not any(
            other.billed_until_on == of.started_on
            and _is_used(other.started_on, of.started_on, other.billed_paused, period)
            for other in self._before(period)
        )
        if is_owed - was_owed != sign:
            return 0
        self._taken.add(period.from_on)
        return sign

    def _before(self, period: Span) -> list[BilledSubscription]:
        """Those whose place it may have taken within the period: others of its kind."""
        of = self._of
        if of.started_on <= period.from_on:
            return []
        return [
            other
            for other in self._others
            if other.kind == of.kind and other.subscription_id != of.subscription_id
        ]


def _is_used(started_on: date, until_on: date, paused: Sequence[Span], period: Span) -> bool:
    """Whether what runs on these days is in use on any day of the period."""
    days = Span(max(started_on, period.from_on), min(until_on, period.until_on))
    return bool(without(days, paused))


def _tax_lines(
    tax: TaxRule, account: BilledAccount, pieces: Sequence[_Piece], issued_on: date
) -> Iterator[DraftLine]:
    """A line for what the tax is now, and one for each other rate at which it is given back."""
    bases: dict[tuple[int | None, int | None], list[int]] = {}

    def add(rate_bp: int | None, flat_minor: int | None, amount_minor: int, units: int) -> None:
        base = bases.setdefault((rate_bp, flat_minor), [0, 0])
        base[0] += amount_minor
        base[1] += units

    is_owed = tax.code not in account.exempt_from
    for piece in pieces:
        if piece.terms is not None:
            if tax.code in piece.terms:
                rate_bp, flat_minor = piece.terms[tax.code]
                add(rate_bp, flat_minor, piece.amount_minor, piece.units)
        elif is_owed and tax.applies(piece.subscription.kind, piece.part.from_on, account.area):
            add(tax.rate_bp, tax.flat_minor, piece.amount_minor, piece.units)
    for one_off in account.one_offs:
        if one_off.terms is not None:
            if tax.code in one_off.terms:
                rate_bp, flat_minor = one_off.terms[tax.code]
                add(rate_bp, flat_minor, one_off.amount_minor, 0)
        elif is_owed and tax.applies(one_off.kind, issued_on, account.area):
            add(tax.rate_bp, tax.flat_minor, one_off.amount_minor, 0)
    for (rate_bp, flat_minor), (base_minor, units) in bases.items():
        by_rate = rate_bp is not None
        yield DraftLine(
            InvoiceLineKind.TAX,
            f"tax:{tax.code}",
            tax.name,
            tax_on(base_minor, rate_bp) if rate_bp is not None else (flat_minor or 0) * units,
            quantity=1 if by_rate else abs(units),
            rate_bp=rate_bp,
        )


# Reading -------------------------------------------------------------------------------------


# Statements are built once: a bill run executes each a thousand times, on few accounts each time,
# and building one costs more than running it.
_ACCOUNTS: BindParameter[list[int]] = bindparam("accounts", expanding=True)

_LIST_TAXES = select(
    Tax.code,
    Tax.name,
    Tax.rate_bp,
    Tax.flat_minor,
    Tax.applies_to,
    Tax.from_on,
    Tax.to_on,
    Tax.areas,
).order_by(Tax.code)


def list_taxes(session: Session) -> list[TaxRule]:
    """Every tax of the catalog, in the order of its code."""
    return [
        TaxRule(
            tax.code,
            tax.name,
            tax.rate_bp,
            tax.flat_minor,
            tuple(tax.applies_to),
            tax.from_on,
            tax.to_on,
            tuple(tax.areas or ()),
        )
        for tax in session.connection().execute(_LIST_TAXES)
    ]


_stepped = aliased(Plan)
IS_NOT_BILLED_OUT = or_(
    Subscription.ended_on.is_(None),
    Subscription.billed_until_on.is_(None) & (Subscription.ended_on > Subscription.started_on),
    Subscription.billed_until_on != Subscription.ended_on,
    Subscription.billed_until_on.is_not(None) & (Subscription.paused != Subscription.billed_paused),
    Subscription.billed_until_on.is_not(None) & Subscription.billed_prices.is_not(None),
    and_(
        Subscription.ended_on > bindparam("changeable_on"),
        exists()
        .where(_stepped.id == Subscription.plan_id, _stepped.price_steps.is_not(None))
        .correlate(Subscription),
    ),
)
"""Subscriptions of which something may still be charged or given back; `changeable_on` is the
`first_changeable` of the day."""


def first_changeable(day: date) -> date:
    """The earliest end of a subscription whose last days, billed already, may still cost less than
    they were billed at: a change of price is planned or withdrawn after the bill."""
    return day - LONGEST_AHEAD


_LIST_SUBSCRIPTIONS = (
    select(
        Subscription.account_id,
        Subscription.id,
        Plan.name,
        Plan.kind,
        Plan.price_minor,
        Subscription.intro_price_minor,
        Subscription.intro_until_on,
        Subscription.started_on,
        Subscription.ended_on,
        Subscription.billed_until_on,
        Subscription.billed_price_minor,
        Subscription.billed_taxes,
        Subscription.paused,
        Subscription.billed_paused,
        Subscription.billed_prices,
        Subscription.elsewhere_until_on,
        Subscription.price_minor.label("agreed_minor"),
        Subscription.priced_on,
        Subscription.bound_until_on,
        Plan.price_steps,
    )
    .join(Plan, Plan.id == Subscription.plan_id)
    .where(Subscription.account_id.in_(_ACCOUNTS), IS_NOT_BILLED_OUT)
    .order_by(Subscription.account_id, Subscription.id)
)
_LIST_ONE_OFFS = (
    select(
        Charge.account_id,
        Charge.id,
        Charge.kind,
        Charge.description,
        Charge.amount_minor,
        Charge.is_credit,
        Charge.taxes,
    )
    .where(
        Charge.account_id.in_(_ACCOUNTS),
        Charge.invoice_id.is_(None),
        Charge.cancelled_at.is_(None),
        or_(Charge.from_on.is_(None), Charge.from_on <= bindparam("day")),
    )
    .order_by(Charge.id)
)
_LIST_EXEMPTIONS = select(TaxExemption.account_id, TaxExemption.tax_code).where(
    TaxExemption.account_id.in_(_ACCOUNTS),
    TaxExemption.from_on <= bindparam("day"),
    or_(TaxExemption.to_on.is_(None), TaxExemption.to_on >= bindparam("day")),
)
_LIST_ADDRESSES = (
    select(Contact.account_id, Contact.address)
    .where(
        Contact.account_id.in_(_ACCOUNTS),
        Contact.kind == ContactKind.POSTAL.value,
        Contact.ended_on.is_(None),
    )
    .order_by(Contact.since_on, Contact.id)
)
_LIST_ACCOUNTS = (
    select(
        Account.id,
        Account.name,
        Account.status,
        Account.area_code,
        Account.bill_day,
        Account.billed_through_on,
        Account.opened_on,
    )
    .where(Account.id.in_(_ACCOUNTS))
    .order_by(Account.id)
)


def _subscriptions(
    session: Session, bill_days: Mapping[int, int], issued_on: date
) -> dict[int, list[BilledSubscription]]:
    rows = session.connection().execute(
        _LIST_SUBSCRIPTIONS,
        {"accounts": list(bill_days), "changeable_on": first_changeable(issued_on)},
    )
    found: dict[int, list[BilledSubscription]] = {}
    for (
        account_id,
        id_,
        name,
        kind,
        listed_minor,
        intro_minor,
        intro_until_on,
        started_on,
        ended_on,
        billed_until_on,
        billed_minor,
        billed_taxes,
        paused,
        billed_paused,
        billed_prices,
        elsewhere_until_on,
        agreed_minor,
        priced_on,
        bound_until_on,
        steps,
    ) in rows:
        price_minor = listed_minor if agreed_minor is None else agreed_minor
        later: Prices = ()
        if steps:
            bill_day = bill_days[account_id]
            begun = Begun(started_on, agreed_minor, priced_on, bound_until_on, bill_day)
            price_minor, later = prices.standing(listed_minor, steps, begun)
        found.setdefault(account_id, []).append(
            BilledSubscription(
                id_,
                name,
                kind,
                price_minor,
                intro_minor,
                intro_until_on,
                started_on,
                ended_on,
                billed_until_on,
                billed_minor,
                billed_taxes,
                read_spans(paused),
                read_spans(billed_paused),
                later,
                prices.billed(billed_prices) if billed_prices else (),
                elsewhere_until_on,
            )
        )
    return found


def _one_offs(session: Session, account_ids: Sequence[int], day: date) -> dict[int, list[OneOff]]:
    rows = session.connection().execute(_LIST_ONE_OFFS, {"accounts": account_ids, "day": day})
    found: dict[int, list[OneOff]] = {}
    for row in rows:
        amount_minor = -row.amount_minor if row.is_credit else row.amount_minor
        found.setdefault(row.account_id, []).append(
            OneOff(row.id, row.kind, row.description, amount_minor, row.taxes)
        )
    return found


def _exemptions(
    session: Session, account_ids: Sequence[int], day: date
) -> dict[int, tuple[str, ...]]:
    rows = session.connection().execute(_LIST_EXEMPTIONS, {"accounts": account_ids, "day": day})
    found: dict[int, tuple[str, ...]] = {}
    for account_id, code in rows:
        found[account_id] = (*found.get(account_id, ()), code)
    return found


def _addresses(session: Session, account_ids: Sequence[int]) -> dict[int, tuple[str, ...]]:
    rows = session.connection().execute(_LIST_ADDRESSES, {"accounts": account_ids})
    return {row.account_id or 0: address_lines(row.address or {}) for row in rows}


def address_lines(address: Mapping[str, str]) -> tuple[str, ...]:
    """A postal address as the lines of an envelope."""
    town = " ".join(
        part
        for part in (
            address.get("city", ""),
            address.get("region", ""),
            address.get("postcode", ""),
        )
        if part
    )
    street = address.get("street", "").split("\n")
    return tuple(
        part.strip() for part in (*street, town, address.get("country", "")) if part.strip()
    )


def draft_next(
    session: Session, account_ids: Sequence[int], issued_on: date, terms_days: int
) -> list[Draft]:
    """A draft for each period of these accounts that begins on or before `issued_on`.

    Periods follow `billed_through_on` on the account's bill day; whoever was not billed for months
    gets a draft for each. Of a closed account there is one for what is left, if anything is. What
    credits exceed charges by becomes a credit note.
    """
    found = session.connection().execute(_LIST_ACCOUNTS, {"accounts": account_ids})
    rows = [row for row in found.all() if next_start(row) <= issued_on]
    if not rows:
        return []
    taxes = list_taxes(session)
    addresses = _addresses(session, [row.id for row in rows])
    drafts = []
    for row, first in zip(rows, _read(session, rows, issued_on), strict=True):
        account = first
        while account.span.from_on <= issued_on:
            lines, marks = compute(account, taxes, issued_on)
            if row.status == AccountStatus.CLOSED and not marks and not account.one_offs:
                break
            kind = InvoiceKind.INVOICE
            if sum(line.amount_minor for line in lines) < 0:
                kind = InvoiceKind.CREDIT_NOTE
                lines = tuple(replace(line, amount_minor=-line.amount_minor) for line in lines)
            drafts.append(
                Draft(
                    row.id,
                    kind,
                    issued_on,
                    issued_on + timedelta(days=terms_days),
                    account.span.from_on,
                    account.span.last_on,
                    row.name,
                    addresses.get(row.id, ()),
                    lines,
                    marks=marks,
                    charge_ids=tuple(one_off.charge_id for one_off in account.one_offs),
                    charge_taxes=tuple(
                        _terms_of(one_off, account, taxes, issued_on)
                        for one_off in account.one_offs
                    ),
                    ends_period=True,
                )
            )
            account = _after(account, marks)
    return drafts


def foresee(
    account: BilledAccount,
    taxes: Sequence[TaxRule],
    issued_on: date,
    until_on: date,
    area_on: Callable[[date], str | None],
) -> int:
    """What the account's bills come to in minor units, from the next one, which is issued on
    `issued_on`, to that for the day before `until_on`, if nothing changes but the area."""
    total_minor = 0
    while True:
        account = replace(account, area=area_on(issued_on))
        lines, marks = compute(account, taxes, issued_on)
        total_minor += sum(line.amount_minor for line in lines)
        account = _after(account, marks)
        if account.span.from_on >= until_on:
            return total_minor
        issued_on = max(issued_on, account.span.from_on)


def find_extras(
    session: Session, account_id: int, day: date
) -> tuple[tuple[OneOff, ...], tuple[str, ...]]:
    """What waits for the account's next bill besides its subscriptions, and the taxes that it does
    not pay on `day`."""
    one_offs = _one_offs(session, [account_id], day).get(account_id, [])
    return tuple(one_offs), _exemptions(session, [account_id], day).get(account_id, ())


def next_start(row: Any) -> date:
    """The first day of the account's next period, from its `billed_through_on` and `opened_on`."""
    billed_through_on: date | None = row.billed_through_on
    opened_on: date = row.opened_on
    return billed_through_on + _DAY if billed_through_on else opened_on


def _read(session: Session, rows: Sequence[Any], issued_on: date) -> list[BilledAccount]:
    account_ids = [row.id for row in rows]
    subscriptions = _subscriptions(session, {row.id: row.bill_day for row in rows}, issued_on)
    one_offs = _one_offs(session, account_ids, issued_on)
    exemptions = _exemptions(session, account_ids, issued_on)
    return [
        BilledAccount(
            row.id,
            row.bill_day,
            Span(next_start(row), period_of(next_start(row), row.bill_day).until_on),
            row.area_code,
            tuple(subscriptions.get(row.id, ())),
            tuple(one_offs.get(row.id, ())),
            exemptions.get(row.id, ()),
        )
        for row in rows
    ]


def _after(account: BilledAccount, marks: Sequence[Mark]) -> BilledAccount:
    """The account once the draft with these marks is issued: its next period."""
    billed = {mark.subscription_id: mark for mark in marks}
    start = account.span.until_on
    return replace(
        account,
        span=Span(start, period_of(start, account.bill_day).until_on),
        subscriptions=tuple(
            replace(
                each,
                billed_until_on=mark.until_on,
                billed_price_minor=mark.price_minor,
                billed_taxes=mark.taxes,
                billed_paused=mark.paused,
                billed_prices=mark.prices,
                elsewhere_until_on=each.paid_elsewhere_until_on,
            )
            if (mark := billed.get(each.subscription_id))
            else each
            for each in account.subscriptions
        ),
        one_offs=(),
    )
