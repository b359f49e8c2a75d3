"""Every table of the portal: columns, constraints and enums; nothing of a request.

Conventions: amounts end in `_minor` (integer minor units, currency beside them), instants end in
`_at` and are aware UTC, calendar days end in `_on`. `public_id` is random and stands in URLs.
`info={"privacy": …}` on a column says whose data it holds: `person`, `contact`, `secret`; a column
without it holds none.
"""

from __future__ import annotations

from datetime import UTC, date, datetime
from enum import StrEnum
from typing import Any, ClassVar

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    CheckConstraint,
    Date,
    DateTime,
    Dialect,
    ForeignKey,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Text,
    TextClause,
    TypeDecorator,
    UniqueConstraint,
    false,
    text,
)
from sqlalchemy import Index as AnyIndex
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from sqlalchemy.schema import CreateIndex

PERSON = {"privacy": "person"}
CONTACT = {"privacy": "contact"}
SECRET = {"privacy": "secret"}


class Index(AnyIndex):
    """An index. Over which rows, PostgreSQL's dialect is told when it makes it: whoever tells it
    before imports it, and every process on SQLite would hold 4 MB for nothing."""

    def __init__(
        self,
        name: str | None,
        *columns: Any,
        postgresql_where: TextClause | None = None,
        **more: Any,
    ) -> None:
        super().__init__(name, *columns, **more)
        self.postgresql_where = postgresql_where


@compiles(CreateIndex, "postgresql")
def _create_index(element: CreateIndex, compiler: Any, **more: Any) -> str:
    index = element.element
    if isinstance(index, Index) and index.postgresql_where is not None:
        index.dialect_options["postgresql"]["where"] = index.postgresql_where
    return str(compiler.visit_create_index(element, **more))


class UtcDateTime(TypeDecorator[datetime]):
    """An aware instant in UTC; SQLite stores it without its zone, PostgreSQL as timestamptz."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("an instant must carry its time zone")
        value = value.astimezone(UTC)
        return value.replace(tzinfo=None) if dialect.name == "sqlite" else value

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        del dialect
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


BigId = BigInteger().with_variant(Integer, "sqlite")


class Base(DeclarativeBase):
    """The one declarative base; its constraint names are fixed so that migrations can name them."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map: ClassVar[dict[Any, Any]] = {
        int: BigId,
        datetime: UtcDateTime,
        date: Date,
        bool: Boolean,
    }


def one_of(column: str, enum: type[StrEnum], name: str | None = None) -> CheckConstraint:
    """A check that `column` holds a value of `enum` (an enum type of PostgreSQL cannot shrink)."""
    values = ", ".join(f"'{member.value}'" for member in enum)
    return CheckConstraint(f"{column} IN ({values})", name=name or column)


def primary_key() -> Mapped[int]:
    return mapped_column(BigId, primary_key=True, autoincrement=True)


def public_id_column() -> Mapped[str]:
    return mapped_column(String(24), unique=True)


def added_claim() -> Mapped[bool]:
    """A claim that came with a later migration: not so for rows of the release before."""
    return mapped_column(default=False, server_default=false())


def added_number(value: int) -> Mapped[int]:
    """A number that came with a later migration, `value` for rows of the release before."""
    return mapped_column(Integer, default=value, server_default=text(str(value)))


def added_text(longest: int) -> Mapped[str]:
    """A text that came with a later migration, empty for rows of the release before."""
    return mapped_column(String(longest), default="", server_default=text("''"))


# The ISP and what it sells ------------------------------------------------------------------


class Isp(Base):
    """The one row about the ISP that runs this portal; `revision` rises with every change."""

    __tablename__ = "isp"
    __table_args__ = (CheckConstraint("id = 1", name="one_row"),)

    id: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    revision: Mapped[int] = mapped_column(default=1)
    name: Mapped[str] = mapped_column(String(120))
    id_name: Mapped[str] = mapped_column(String(60))
    currency: Mapped[str] = mapped_column(String(3))
    timezone: Mapped[str] = mapped_column(String(60))
    languages: Mapped[list[str]] = mapped_column(JSON)
    support_phone: Mapped[str] = mapped_column(String(30), default="")
    support_email: Mapped[str] = mapped_column(String(254), default="")
    accent: Mapped[str] = mapped_column(String(7), default="#0b6e4f")
    accent_dark: Mapped[str] = mapped_column(String(7), default="#5cd6a9")
    logo_svg: Mapped[str | None] = mapped_column(Text)
    terms_days: Mapped[int] = mapped_column(Integer, default=14)
    frn: Mapped[str] = mapped_column(String(10), default="")
    pay_how: Mapped[str] = mapped_column(Text, default="")
    is_demo: Mapped[bool] = mapped_column(default=False)
    requires_second_factor: Mapped[bool] = added_claim()
    requires_mixed_password: Mapped[bool] = added_claim()
    contact_rest_days: Mapped[int] = added_number(30)
    billing_hour: Mapped[int | None] = mapped_column(Integer)
    postal_address: Mapped[str] = added_text(200)
    billing_rules: Mapped[dict[str, Any] | None] = mapped_column(JSON)
    bank_account: Mapped[dict[str, str] | None] = mapped_column(JSON)


class Maintenance(Base):
    """The one row while the portal is, or will be, closed for maintenance.

    `is_on`: it is closed now; otherwise it is announced. `messages` by language; the one under ""
    is for everyone else. Whoever changes the row raises the ISP's revision.
    """

    __tablename__ = "maintenance"
    __table_args__ = (CheckConstraint("id = 1", name="one_row"),)

    id: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    is_on: Mapped[bool]
    from_at: Mapped[datetime]
    until_at: Mapped[datetime]
    messages: Mapped[dict[str, str]] = mapped_column(JSON)


class Area(Base):
    __tablename__ = "areas"

    code: Mapped[str] = mapped_column(String(20), primary_key=True)
    name: Mapped[str] = mapped_column(String(120))


class Tax(Base):
    """A tax by rate (basis points of the price) or a flat fee per subscription and month; in
    `areas` only, where that is not empty."""

    __tablename__ = "taxes"
    __table_args__ = (
        CheckConstraint("(rate_bp IS NULL) <> (flat_minor IS NULL)", name="rate_or_flat"),
    )

    code: Mapped[str] = mapped_column(String(20), primary_key=True)
    name: Mapped[str] = mapped_column(String(120))
    rate_bp: Mapped[int | None] = mapped_column(Integer)
    flat_minor: Mapped[int | None]
    applies_to: Mapped[list[str]] = mapped_column(JSON)
    from_on: Mapped[date | None]
    to_on: Mapped[date | None]
    areas: Mapped[list[str] | None] = mapped_column(JSON)


class CustomerGroup(Base):
    """Accounts that are reminded, charged late fees and held by the same policy: `dunning` is
    what it changes in the usual one (core/dunning_policy.py)."""

    __tablename__ = "customer_groups"

    code: Mapped[str] = mapped_column(String(20), primary_key=True)
    name: Mapped[str] = mapped_column(String(120))
    dunning: Mapped[dict[str, Any] | None] = mapped_column(JSON)


class PlanKind(StrEnum):
    INTERNET = "internet"
    TV = "tv"
    PHONE = "phone"
    EQUIPMENT = "equipment"
    OPTION = "option"


class OverRule(StrEnum):
    """What happens to a line that has used all that is included."""

    CHARGE = "charge"
    SLOW = "slow"
    STOP = "stop"


class Plan(Base):
    """What can be subscribed to: in `areas` only, where that is not empty. With `needs_staff` the
    ISP's people decide about each change to it; `excludes` are plans that it cannot stand beside.
    It was `withdrawn_at` on the page of prices, and the catalog file does not bring it back then.
    `price_minor` is today's; `price_steps` are its dated changes, done and planned (blueprints/
    billing/prices.py), as the table of price changes has them.
    """

    __tablename__ = "plans"
    __table_args__ = (
        one_of("kind", PlanKind),
        CheckConstraint("price_minor >= 0", name="price"),
        CheckConstraint("over_rule IN ('', 'charge', 'slow', 'stop')", name="over_rule"),
    )

    id: Mapped[int] = primary_key()
    code: Mapped[str] = mapped_column(String(40), unique=True)
    kind: Mapped[str] = mapped_column(String(12))
    name: Mapped[str] = mapped_column(String(120))
    is_offered: Mapped[bool] = mapped_column(default=True)
    technology: Mapped[str] = mapped_column(String(40), default="")
    price_minor: Mapped[int]
    intro_price_minor: Mapped[int | None]
    intro_months: Mapped[int | None] = mapped_column(Integer)
    setup_minor: Mapped[int] = mapped_column(default=0)
    contract_months: Mapped[int | None] = mapped_column(Integer)
    early_termination_minor: Mapped[int | None]
    down_kbps: Mapped[int | None]
    up_kbps: Mapped[int | None]
    typical_down_kbps: Mapped[int | None]
    typical_up_kbps: Mapped[int | None]
    typical_latency_ms: Mapped[int | None] = mapped_column(Integer)
    data_included_bytes: Mapped[int | None]
    overage_minor: Mapped[int | None]
    overage_bytes: Mapped[int | None]
    over_rule: Mapped[str] = added_text(6)
    slow_down_kbps: Mapped[int | None]
    slow_up_kbps: Mapped[int | None]
    top_up_bytes: Mapped[int | None]
    top_up_minor: Mapped[int | None]
    top_up_days: Mapped[int | None] = mapped_column(Integer)
    plan_id_suffix: Mapped[str | None] = mapped_column(String(15), unique=True)
    changes_to: Mapped[list[str]] = mapped_column(JSON, default=list)
    requires: Mapped[list[str]] = mapped_column(JSON, default=list)
    requires_kind: Mapped[str | None] = mapped_column(String(12))
    channels: Mapped[list[str]] = mapped_column(JSON, default=list)
    streaming: Mapped[list[str | dict[str, str]]] = mapped_column(JSON, default=list)
    features: Mapped[list[str]] = mapped_column(JSON, default=list)
    areas: Mapped[list[str] | None] = mapped_column(JSON)
    excludes: Mapped[list[str] | None] = mapped_column(JSON)
    needs_staff: Mapped[bool] = added_claim()
    price_steps: Mapped[list[list[Any]] | None] = mapped_column(JSON(none_as_null=True))
    withdrawn_at: Mapped[datetime | None]


class PlanSuffix(Base):
    """The end of a plan's identifier (47 CFR 8.1), kept for good: it is never another plan's."""

    __tablename__ = "plan_suffixes"

    suffix: Mapped[str] = mapped_column(String(15), primary_key=True)
    plan_id: Mapped[int] = mapped_column(ForeignKey("plans.id"))


class PlanLabel(Base):
    """The label of a plan as it was shown from `from_on` until the day `until_on`: `facts` are all
    that it said."""

    __tablename__ = "plan_labels"
    __table_args__ = (
        Index(
            "uq_plan_labels_shown",
            "plan_id",
            unique=True,
            sqlite_where=text("until_on IS NULL"),
            postgresql_where=text("until_on IS NULL"),
        ),
        Index(None, "plan_id", "until_on"),
    )

    id: Mapped[int] = primary_key()
    plan_id: Mapped[int] = mapped_column(ForeignKey("plans.id"))
    unique_id: Mapped[str] = mapped_column(String(26))
    facts: Mapped[dict[str, Any]] = mapped_column(JSON)
    from_on: Mapped[date]
    until_on: Mapped[date | None]


class PriceChangeState(StrEnum):
    PLANNED = "planned"
    DONE = "done"
    WITHDRAWN = "withdrawn"


class PriceChange(Base):
    """That a plan costs another price from the day `from_on`. `existing`: what that means for those
    who subscribe already (blueprints/billing/prices.py).

    Those who follow are told in the order of their subscriptions: all up to `told_id`, every one
    once `told_at` is set; when it is withdrawn those again, up to `off_id`. `unreached_count` are
    those without an address. On `due_at` the worker goes on.
    """

    __tablename__ = "price_changes"
    __table_args__ = (
        one_of("state", PriceChangeState),
        CheckConstraint("existing IN ('keep', 'day', 'bill_day')", name="existing"),
        CheckConstraint("price_minor >= 0 AND was_minor >= 0", name="price"),
        Index(
            "uq_price_changes_planned",
            "plan_id",
            unique=True,
            sqlite_where=text("state = 'planned'"),
            postgresql_where=text("state = 'planned'"),
        ),
        Index(
            "ix_price_changes_due",
            "due_at",
            sqlite_where=text("due_at IS NOT NULL"),
            postgresql_where=text("due_at IS NOT NULL"),
        ),
        Index(None, "plan_id", "from_on"),
    )

    id: Mapped[int] = primary_key()
    public_id: Mapped[str] = public_id_column()
    plan_id: Mapped[int] = mapped_column(ForeignKey("plans.id"))
    from_on: Mapped[date]
    was_minor: Mapped[int]
    price_minor: Mapped[int]
    existing: Mapped[str] = mapped_column(String(8))
    state: Mapped[str] = mapped_column(String(9))
    planned_by_id: Mapped[int | None] = mapped_column(ForeignKey("customers.id"))
    withdrawn_by_id: Mapped[int | None] = mapped_column(ForeignKey("customers.id"))
    created_at: Mapped[datetime]
    ended_at: Mapped[datetime | None]
    tell_on: Mapped[date]
    told_id: Mapped[int] = mapped_column(default=0)
    told_at: Mapped[datetime | None]
    told_count: Mapped[int] = mapped_column(Integer, default=0)
    unreached_count: Mapped[int] = mapped_column(Integer, default=0)
    off_id: Mapped[int] = mapped_column(default=0)
    due_at: Mapped[datetime | None]
    claimed_until_at: Mapped[datetime | None]


# Accounts -----------------------------------------------------------------------------------


class AccountStatus(StrEnum):
    ACTIVE = "active"
    CLOSED = "closed"


class Account(Base):
    """The contract. `balance_minor` (positive: owed) equals the sum of its receivable lines."""

    __tablename__ = "accounts"
    __table_args__ = (
        one_of("status", AccountStatus),
        CheckConstraint("bill_day BETWEEN 1 AND 31", name="bill_day"),
    )

    id: Mapped[int] = primary_key()
    public_id: Mapped[str] = public_id_column()
    number: Mapped[str] = mapped_column(String(40), unique=True)
    name: Mapped[str] = mapped_column(String(200), info=PERSON)
    status: Mapped[str] = mapped_column(String(10), default=AccountStatus.ACTIVE)
    area_code: Mapped[str | None] = mapped_column(ForeignKey("areas.code"))
    group_code: Mapped[str | None] = mapped_column(ForeignKey("customer_groups.code"))
    language: Mapped[str] = mapped_column(String(10), default="en")
    bill_day: Mapped[int] = mapped_column(Integer)
    opened_on: Mapped[date]
    billed_through_on: Mapped[date | None]
    currency: Mapped[str] = mapped_column(String(3))
    balance_minor: Mapped[int] = mapped_column(default=0)
    revision: Mapped[int] = mapped_column(default=1)


class ContactKind(StrEnum):
    EMAIL = "email"
    PHONE = "phone"
    POSTAL = "postal"


class Contact(Base):
    """A way to reach the account's holder, or a customer who does not hold an account (somebody
    invited, staff), with the day since when it is on file (bar 17).

    A postal contact keeps its parts in `address` (street, city, region, postcode, country) and
    their one-line form in `value`. One that was replaced or removed on `ended_on` gets no messages
    but stays for a while: for recovery, and to hear of changes.
    """

    __tablename__ = "contacts"
    __table_args__ = (
        one_of("kind", ContactKind),
        CheckConstraint("(account_id IS NULL) <> (customer_id IS NULL)", name="of_one"),
        UniqueConstraint("account_id", "kind", "value"),
        UniqueConstraint("customer_id", "kind", "value"),
        Index(None, "kind", "value"),
    )

    id: Mapped[int] = primary_key()
    account_id: Mapped[int | None] = mapped_column(ForeignKey("accounts.id"))
    customer_id: Mapped[int | None] = mapped_column(ForeignKey("customers.id"))
    kind: Mapped[str] = mapped_column(String(10))
    value: Mapped[str] = mapped_column(String(400), info=CONTACT)
    address: Mapped[dict[str, str] | None] = mapped_column(JSON, info=CONTACT)
    since_on: Mapped[date]
    ended_on: Mapped[date | None]


class LineState(StrEnum):
    OPEN = "open"
    HELD = "held"
    CLOSED = "closed"


class Line(Base):
    """One connection, known to the network by its line username, with its wanted speeds.

    Its customer is told when so many percent of what is included are used as `alert_percents` says,
    or the usual ones; `look_at`: what it carried since then, the worker has not looked at. One that
    has used all of it runs at the `slow` speeds, or is held, until the day before
    `limited_until_on`.

    `wanted_state` follows from the holds and is written with them; `reached_state` is what the
    network last confirmed, and so are the `reached` speeds. While they differ from what is wanted,
    `sync_at` says when the worker tries next.
    `opened_until_at`: a held line is open until then, so that its customer can pay.
    """

    __tablename__ = "lines"
    __table_args__ = (
        one_of("wanted_state", LineState),
        Index(
            "ix_lines_due",
            "sync_at",
            sqlite_where=text("sync_at IS NOT NULL"),
            postgresql_where=text("sync_at IS NOT NULL"),
        ),
        Index(
            "ix_lines_look",
            "look_at",
            sqlite_where=text("look_at IS NOT NULL"),
            postgresql_where=text("look_at IS NOT NULL"),
        ),
    )

    id: Mapped[int] = primary_key()
    public_id: Mapped[str] = public_id_column()
    account_id: Mapped[int] = mapped_column(ForeignKey("accounts.id"), index=True)
    username: Mapped[str] = mapped_column(String(120), unique=True, info=PERSON)
    is_closed: Mapped[bool] = mapped_column(default=False)
    down_kbps: Mapped[int | None]
    up_kbps: Mapped[int | None]
    wanted_state: Mapped[str] = mapped_column(
        String(8), default=LineState.OPEN, server_default=text("'open'")
    )
    reached_state: Mapped[str | None] = mapped_column(String(8))
    reached_down_kbps: Mapped[int | None]
    reached_up_kbps: Mapped[int | None]
    opened_until_at: Mapped[datetime | None]
    sync_at: Mapped[datetime | None]
    sync_count: Mapped[int] = added_number(0)
    sync_failure: Mapped[str] = added_text(300)
    claimed_until_at: Mapped[datetime | None]
    alert_percents: Mapped[list[int] | None] = mapped_column(JSON(none_as_null=True))
    look_at: Mapped[datetime | None]
    slow_down_kbps: Mapped[int | None]
    slow_up_kbps: Mapped[int | None]
    limited_until_on: Mapped[date | None]


class LineOpening(Base):
    """That a held line was opened for a while, so that its customer could reach the bank's pages;
    at most twice a day (DESIGN §3)."""

    __tablename__ = "line_openings"
    __table_args__ = (Index(None, "line_id", "from_at"),)

    id: Mapped[int] = primary_key()
    line_id: Mapped[int] = mapped_column(ForeignKey("lines.id"))
    from_at: Mapped[datetime]
    until_at: Mapped[datetime]


class Nas(Base):
    """A server of the network that carries sessions and reports of them (RFC 2866), known by the
    address or name it gives itself. `doubted_at`: when it last reported what cannot be."""

    __tablename__ = "nases"

    id: Mapped[int] = primary_key()
    name: Mapped[str] = mapped_column(String(253), unique=True)
    heard_at: Mapped[datetime | None]
    rebooted_at: Mapped[datetime | None]
    lacks_gigawords: Mapped[bool] = mapped_column(default=False)
    doubted_at: Mapped[datetime | None]


class UsageSource(Base):
    """Where accounting is read from: how far, when next, and whether it could be read."""

    __tablename__ = "usage_sources"

    id: Mapped[int] = primary_key()
    name: Mapped[str] = mapped_column(String(40), unique=True)
    cursor: Mapped[str] = mapped_column(Text, default="")
    due_at: Mapped[datetime | None]
    claimed_until_at: Mapped[datetime | None]
    read_at: Mapped[datetime | None]
    failed_at: Mapped[datetime | None]
    failure: Mapped[str] = mapped_column(String(300), default="")


class UsageSession(Base):
    """A session of a line as its reports told of it; `blueprints/lines/counting.py` says what each
    column means. `address` and `device` are what the NAS gave it and whom it gave it to."""

    __tablename__ = "usage_sessions"
    __table_args__ = (
        Index(None, "nas_id", "session", "started_at", unique=True),
        Index(None, "line_id", "started_at"),
        Index(
            "ix_usage_sessions_running",
            "seen_at",
            sqlite_where=text("ended_at IS NULL"),
            postgresql_where=text("ended_at IS NULL"),
        ),
    )

    id: Mapped[int] = primary_key()
    line_id: Mapped[int] = mapped_column(ForeignKey("lines.id"))
    nas_id: Mapped[int] = mapped_column(ForeignKey("nases.id"))
    session: Mapped[str] = mapped_column(String(253))
    started_at: Mapped[datetime]
    counted_at: Mapped[datetime]
    counted_seconds: Mapped[int]
    seen_at: Mapped[datetime]
    ended_at: Mapped[datetime | None]
    up_bytes: Mapped[int] = mapped_column(info=PERSON)
    down_bytes: Mapped[int] = mapped_column(info=PERSON)
    interval_seconds: Mapped[int] = mapped_column(Integer)
    is_stale: Mapped[bool] = mapped_column(default=False)
    is_stopped: Mapped[bool] = mapped_column(default=False)
    is_start_guessed: Mapped[bool] = mapped_column(default=False)
    lacks_gigawords: Mapped[bool] = mapped_column(default=False)
    is_doubted: Mapped[bool] = mapped_column(default=False)
    address: Mapped[str] = mapped_column(String(45), default="", info=PERSON)
    device: Mapped[str] = mapped_column(String(64), default="", info=PERSON)
    cause: Mapped[str] = mapped_column(String(40), default="")


class UsageDay(Base):
    """What a line carried on a day of the ISP. `hours` has, of each hour since midnight, the bytes
    up and the bytes down, in turn; it is emptied after 35 days."""

    __tablename__ = "usage_days"
    __table_args__ = ({"sqlite_with_rowid": False},)

    line_id: Mapped[int] = mapped_column(ForeignKey("lines.id"), primary_key=True)
    day_on: Mapped[date] = mapped_column(primary_key=True)
    up_bytes: Mapped[int] = mapped_column(info=PERSON)
    down_bytes: Mapped[int] = mapped_column(info=PERSON)
    hours: Mapped[list[int] | None] = mapped_column(JSON(none_as_null=True), info=PERSON)


class UsageAlert(Base):
    """That a customer was told that so many percent of what is included in the bill period that
    began on `period_on` are used; once, as the key says."""

    __tablename__ = "usage_alerts"

    line_id: Mapped[int] = mapped_column(ForeignKey("lines.id"), primary_key=True)
    period_on: Mapped[date] = mapped_column(primary_key=True)
    percent: Mapped[int] = mapped_column(Integer, primary_key=True)
    told_at: Mapped[datetime]


class UsageMark(Base):
    """How far the bill period that began on `period_on` was counted when the plan of
    `subscription_id` began in it; `blueprints/lines/allowances/rules.py` says what the rest means.
    """

    __tablename__ = "usage_marks"

    line_id: Mapped[int] = mapped_column(ForeignKey("lines.id"), primary_key=True)
    period_on: Mapped[date] = mapped_column(primary_key=True)
    subscription_id: Mapped[int] = mapped_column(ForeignKey("subscriptions.id"))
    began_on: Mapped[date]
    earned: Mapped[int]
    carried_bytes: Mapped[int] = mapped_column(info=PERSON)
    free_bytes: Mapped[int] = mapped_column(info=PERSON)
    over_bytes: Mapped[int] = mapped_column(info=PERSON)
    spared_bytes: Mapped[int] = mapped_column(info=PERSON)


class UsageBlock(Base):
    """That blocks of data beyond what is included were charged: `count` of them, of `data_bytes`
    together, from the `number`th of the bill period that began on `period_on`; once, as the key
    says. Without a charge they are beyond the most that is charged for a period."""

    __tablename__ = "usage_blocks"

    line_id: Mapped[int] = mapped_column(ForeignKey("lines.id"), primary_key=True)
    period_on: Mapped[date] = mapped_column(primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    count: Mapped[int]
    data_bytes: Mapped[int]
    charge_id: Mapped[int | None] = mapped_column(ForeignKey("charges.id"), index=True)


class TopUp(Base):
    """Data that was bought beside what is included, used before anything is charged or limited, at
    last on `expires_on`. It joins the next bill as `charge_id`."""

    __tablename__ = "top_ups"
    __table_args__ = (
        CheckConstraint("amount_bytes > 0", name="amount"),
        Index(None, "line_id", "expires_on"),
    )

    id: Mapped[int] = primary_key()
    public_id: Mapped[str] = public_id_column()
    key: Mapped[str] = mapped_column(String(64), unique=True)
    line_id: Mapped[int] = mapped_column(ForeignKey("lines.id"))
    customer_id: Mapped[int | None] = mapped_column(ForeignKey("customers.id"), index=True)
    amount_bytes: Mapped[int]
    bought_at: Mapped[datetime]
    expires_on: Mapped[date]
    charge_id: Mapped[int | None] = mapped_column(ForeignKey("charges.id"), unique=True)


class TopUpUse(Base):
    """How much of a top-up was used in the bill period that began on `period_on`."""

    __tablename__ = "top_up_uses"

    top_up_id: Mapped[int] = mapped_column(ForeignKey("top_ups.id"), primary_key=True)
    period_on: Mapped[date] = mapped_column(primary_key=True)
    used_bytes: Mapped[int] = mapped_column(info=PERSON)


class HoldReason(StrEnum):
    UNPAID = "unpaid"
    USAGE = "usage"
    STAFF = "staff"
    PAUSE = "pause"
    ABUSE = "abuse"
    IMPORTED = "imported"


class LineHold(Base):
    """A reason why a line is held; it holds while `released_at` is empty."""

    __tablename__ = "line_holds"
    __table_args__ = (
        one_of("reason", HoldReason),
        Index(
            "uq_line_holds_standing",
            "line_id",
            "reason",
            unique=True,
            sqlite_where=text("released_at IS NULL"),
            postgresql_where=text("released_at IS NULL"),
        ),
        Index(None, "line_id"),
    )

    id: Mapped[int] = primary_key()
    line_id: Mapped[int] = mapped_column(ForeignKey("lines.id"))
    reason: Mapped[str] = mapped_column(String(12))
    since_at: Mapped[datetime]
    released_at: Mapped[datetime | None]


class Subscription(Base):
    """A plan in use on an account from `started_on` until the day before `ended_on`.

    It is billed until the day before `billed_until_on`, at last at `billed_price_minor` for a whole
    period: what a credit for days not used is computed from. `intro_price_minor` is what
    it costs until the day before `intro_until_on`, as the plan said when it began. `billed_taxes`
    are those it was billed with at last: rate in basis points and flat fee by the tax's code.
    Ending it before `bound_until_on` costs `termination_minor`, as its plan said when it began.
    On the days of `paused` (as `billing/periods.py` writes them) nothing is charged; up to
    `billed_until_on` bills know of `billed_paused` so far. Days before `elsewhere_until_on` were
    paid to whoever billed before this portal did; until its first bill, those before
    `billed_until_on` without a `billed_price_minor`.
    `price_minor` is the full price it began at, where that is known; changes of the plan's price up
    to `priced_on`, or to `started_on` without it, do not count for it. `billed_prices` are those at
    which its days were billed, by the first day of each, once they differ.
    """

    __tablename__ = "subscriptions"
    __table_args__ = (
        CheckConstraint("ended_on IS NULL OR ended_on >= started_on", name="span"),
        Index(
            "uq_subscriptions_standing",
            "account_id",
            "plan_id",
            unique=True,
            sqlite_where=text("ended_on IS NULL"),
            postgresql_where=text("ended_on IS NULL"),
        ),
        Index(None, "plan_id", "id"),
    )

    id: Mapped[int] = primary_key()
    public_id: Mapped[str] = public_id_column()
    account_id: Mapped[int] = mapped_column(ForeignKey("accounts.id"), index=True)
    plan_id: Mapped[int] = mapped_column(ForeignKey("plans.id"))
    line_id: Mapped[int | None] = mapped_column(ForeignKey("lines.id"))
    started_on: Mapped[date]
    ended_on: Mapped[date | None]
    billed_until_on: Mapped[date | None]
    billed_price_minor: Mapped[int | None]
    intro_price_minor: Mapped[int | None]
    intro_until_on: Mapped[date | None]
    billed_taxes: Mapped[dict[str, list[int | None]] | None] = mapped_column(
        JSON(none_as_null=True)
    )
    bound_until_on: Mapped[date | None]
    termination_minor: Mapped[int | None]
    paused: Mapped[str] = mapped_column(Text, default="", server_default=text("''"))
    billed_paused: Mapped[str] = mapped_column(Text, default="", server_default=text("''"))
    elsewhere_until_on: Mapped[date | None]
    price_minor: Mapped[int | None]
    priced_on: Mapped[date | None]
    billed_prices: Mapped[dict[str, int] | None] = mapped_column(JSON(none_as_null=True))


class PauseState(StrEnum):
    PLANNED = "planned"
    RUNNING = "running"
    DONE = "done"
    UNDONE = "undone"


PAUSE_STANDS = (PauseState.PLANNED.value, PauseState.RUNNING.value)


class Pause(Base):
    """That an account's plans of some `kinds` rest from `from_on` until the day before `until_on`.

    Of the days that the ISP lets an account pause in a year it takes those until the day before
    `counts_until_on`. `subscription_id` is what is paid for meanwhile. With `is_prolonging`, as the
    rule was when it was agreed to, contracts get longer by it; `prolonged` are the ids of the
    subscriptions whose contracts did. `quote` is what was shown before the button. On
    `due_at` the worker begins it, or ends it.
    """

    __tablename__ = "pauses"
    __table_args__ = (
        one_of("state", PauseState),
        CheckConstraint("until_on >= from_on", name="span"),
        Index(
            "uq_pauses_standing",
            "account_id",
            unique=True,
            sqlite_where=text("state IN ('planned', 'running')"),
            postgresql_where=text("state IN ('planned', 'running')"),
        ),
        Index(
            "ix_pauses_due",
            "due_at",
            sqlite_where=text("due_at IS NOT NULL"),
            postgresql_where=text("due_at IS NOT NULL"),
        ),
    )

    id: Mapped[int] = primary_key()
    public_id: Mapped[str] = public_id_column()
    account_id: Mapped[int] = mapped_column(ForeignKey("accounts.id"), index=True)
    customer_id: Mapped[int | None] = mapped_column(ForeignKey("customers.id"), index=True)
    from_on: Mapped[date]
    until_on: Mapped[date]
    counts_until_on: Mapped[date]
    kinds: Mapped[list[str]] = mapped_column(JSON)
    subscription_id: Mapped[int | None] = mapped_column(ForeignKey("subscriptions.id"), index=True)
    is_prolonging: Mapped[bool]
    prolonged: Mapped[list[int]] = mapped_column(JSON, default=list)
    state: Mapped[str] = mapped_column(String(8))
    quote: Mapped[dict[str, Any]] = mapped_column(JSON)
    created_at: Mapped[datetime]
    ended_at: Mapped[datetime | None]
    due_at: Mapped[datetime | None]
    claimed_until_at: Mapped[datetime | None]


class MoveState(StrEnum):
    ASKED = "asked"
    PLANNED = "planned"
    DONE = "done"
    UNDONE = "undone"
    REFUSED = "refused"


MOVE_WAITS = (MoveState.ASKED.value, MoveState.PLANNED.value)


class Move(Base):
    """That an account moves to another `address`, in parts as a postal contact has it.

    Its customer asks for a day; staff accept it for `move_on` and say in which area the place lies,
    and `change_id` is the change to the plan that is had there, where it is another. On `due_at`
    the worker changes the address and the area of the account.
    """

    __tablename__ = "moves"
    __table_args__ = (
        one_of("state", MoveState),
        Index(
            "uq_moves_waiting",
            "account_id",
            unique=True,
            sqlite_where=text("state IN ('asked', 'planned')"),
            postgresql_where=text("state IN ('asked', 'planned')"),
        ),
        Index(
            "ix_moves_due",
            "due_at",
            sqlite_where=text("due_at IS NOT NULL"),
            postgresql_where=text("due_at IS NOT NULL"),
        ),
        Index(
            "ix_moves_asked",
            "created_at",
            sqlite_where=text("state = 'asked'"),
            postgresql_where=text("state = 'asked'"),
        ),
    )

    id: Mapped[int] = primary_key()
    public_id: Mapped[str] = public_id_column()
    account_id: Mapped[int] = mapped_column(ForeignKey("accounts.id"), index=True)
    customer_id: Mapped[int | None] = mapped_column(ForeignKey("customers.id"), index=True)
    address: Mapped[dict[str, str]] = mapped_column(JSON, info=CONTACT)
    wished_on: Mapped[date]
    note: Mapped[str] = mapped_column(String(300), default="", info=PERSON)
    state: Mapped[str] = mapped_column(String(8))
    move_on: Mapped[date | None]
    area_code: Mapped[str | None] = mapped_column(ForeignKey("areas.code"))
    change_id: Mapped[int | None] = mapped_column(ForeignKey("plan_changes.id"), index=True)
    answer: Mapped[str] = mapped_column(String(300), default="", info=PERSON)
    decided_by_id: Mapped[int | None] = mapped_column(ForeignKey("customers.id"))
    created_at: Mapped[datetime]
    ended_at: Mapped[datetime | None]
    due_at: Mapped[datetime | None]
    claimed_until_at: Mapped[datetime | None]


class PlanChangeState(StrEnum):
    ASKED = "asked"
    PLANNED = "planned"
    DONE = "done"
    UNDONE = "undone"
    REFUSED = "refused"


class PlanChange(Base):
    """That a plan of an account follows another, begins or ends, or with `is_end` all of them.

    `from_id` is the subscription that ends on `effective_on`, `to_plan_id` the plan that is in use
    from then on, by the subscription `to_id`; one that was asked for and is not decided has none.
    `ended` are the ids of all subscriptions that end, each with the day it ended on before, if any.
    While `planned` or `asked`, another change of the same subscription, or to the same plan, is
    refused. `quote` is what was shown before the button, `charges` the ids of the one-off charges
    that came with it. On `due_at` the worker brings the line and the customer to it.
    """

    __tablename__ = "plan_changes"
    __table_args__ = (
        one_of("state", PlanChangeState),
        CheckConstraint(
            "from_id IS NOT NULL OR to_plan_id IS NOT NULL OR is_end", name="something"
        ),
        Index(
            "uq_plan_changes_from",
            "from_id",
            unique=True,
            sqlite_where=text("state IN ('asked', 'planned')"),
            postgresql_where=text("state IN ('asked', 'planned')"),
        ),
        Index(
            "uq_plan_changes_to",
            "account_id",
            "to_plan_id",
            unique=True,
            sqlite_where=text("state IN ('asked', 'planned')"),
            postgresql_where=text("state IN ('asked', 'planned')"),
        ),
        Index(
            "uq_plan_changes_end",
            "account_id",
            unique=True,
            sqlite_where=text("is_end AND state = 'planned'"),
            postgresql_where=text("is_end AND state = 'planned'"),
        ),
        Index(
            "ix_plan_changes_due",
            "due_at",
            sqlite_where=text("due_at IS NOT NULL"),
            postgresql_where=text("due_at IS NOT NULL"),
        ),
        Index(
            "ix_plan_changes_asked",
            "created_at",
            sqlite_where=text("state = 'asked'"),
            postgresql_where=text("state = 'asked'"),
        ),
        Index(None, "account_id", "created_at"),
    )

    id: Mapped[int] = primary_key()
    public_id: Mapped[str] = public_id_column()
    account_id: Mapped[int] = mapped_column(ForeignKey("accounts.id"))
    customer_id: Mapped[int | None] = mapped_column(ForeignKey("customers.id"), index=True)
    from_id: Mapped[int | None] = mapped_column(ForeignKey("subscriptions.id"))
    to_plan_id: Mapped[int | None] = mapped_column(ForeignKey("plans.id"))
    to_id: Mapped[int | None] = mapped_column(ForeignKey("subscriptions.id"), index=True)
    is_end: Mapped[bool] = mapped_column(default=False)
    ended: Mapped[list[list[Any]]] = mapped_column(JSON, default=list)
    effective_on: Mapped[date]
    state: Mapped[str] = mapped_column(String(8))
    quote: Mapped[dict[str, Any]] = mapped_column(JSON)
    charges: Mapped[list[int]] = mapped_column(JSON, default=list)
    answer: Mapped[str] = mapped_column(String(300), default="", info=PERSON)
    decided_by_id: Mapped[int | None] = mapped_column(ForeignKey("customers.id"))
    created_at: Mapped[datetime]
    ended_at: Mapped[datetime | None]
    due_at: Mapped[datetime | None]
    claimed_until_at: Mapped[datetime | None]


class PhoneNumber(Base):
    """A telephone number that a phone subscription has had from `from_on` until the day before
    `ended_on`.

    `wanted` is what its customer chose, `reached` what the switch does at last as far as is known,
    both as `gateways/voice/base.py` writes them. While the two differ, `pending_at` says since
    when. On `sync_at` the worker tells the switch, where there is a way to it.
    """

    __tablename__ = "phone_numbers"
    __table_args__ = (
        Index(
            "uq_phone_numbers_standing",
            "number",
            unique=True,
            sqlite_where=text("ended_on IS NULL"),
            postgresql_where=text("ended_on IS NULL"),
        ),
        Index(
            "ix_phone_numbers_due",
            "sync_at",
            sqlite_where=text("sync_at IS NOT NULL"),
            postgresql_where=text("sync_at IS NOT NULL"),
        ),
        Index(
            "ix_phone_numbers_pending",
            "pending_at",
            sqlite_where=text("pending_at IS NOT NULL"),
            postgresql_where=text("pending_at IS NOT NULL"),
        ),
        Index(None, "number", "from_on"),
    )

    id: Mapped[int] = primary_key()
    public_id: Mapped[str] = public_id_column()
    account_id: Mapped[int] = mapped_column(ForeignKey("accounts.id"), index=True)
    subscription_id: Mapped[int] = mapped_column(ForeignKey("subscriptions.id"), index=True)
    number: Mapped[str] = mapped_column(String(16), info=CONTACT)
    from_on: Mapped[date]
    ended_on: Mapped[date | None]
    wanted: Mapped[dict[str, Any]] = mapped_column(JSON, info=PERSON)
    reached: Mapped[dict[str, Any]] = mapped_column(JSON, info=PERSON)
    pending_at: Mapped[datetime | None]
    sync_at: Mapped[datetime | None]
    sync_count: Mapped[int] = mapped_column(Integer, default=0)
    sync_failure: Mapped[str] = mapped_column(String(300), default="")
    claimed_until_at: Mapped[datetime | None]


class CallImport(Base):
    """A file of call records that was read: how many calls were `kept`, `known` before and refused.

    `refused` are the rows that were not taken, where staff gave the file on their page, each with
    its line, column and reason in front, as `columns` names them.
    """

    __tablename__ = "call_imports"

    id: Mapped[int] = primary_key()
    public_id: Mapped[str] = public_id_column()
    file_name: Mapped[str] = mapped_column(String(120))
    imported_by_id: Mapped[int | None] = mapped_column(ForeignKey("customers.id"))
    imported_at: Mapped[datetime] = mapped_column(index=True)
    ended_at: Mapped[datetime | None]
    kept_count: Mapped[int] = mapped_column(Integer, default=0)
    known_count: Mapped[int] = mapped_column(Integer, default=0)
    refused_count: Mapped[int] = mapped_column(Integer, default=0)
    columns: Mapped[list[str]] = mapped_column(JSON, default=list)
    refused: Mapped[list[list[str]]] = mapped_column(JSON, default=list, info=PERSON)


class CallRecord(Base):
    """A call from or to a number of ours. `key` is made of the switch's id of it, or of all that is
    known of it, as `content_key` always is, so that it counts once whatever file it comes in.

    `other` is whom it was with, empty where that was hidden. `month_on` begins the ISP's month in
    which it began. What it costs before taxes joined the bills with the charge `charge_id`.
    """

    __tablename__ = "call_records"
    __table_args__ = (
        CheckConstraint("(amount_minor > 0) = (charge_id IS NOT NULL)", name="charge"),
        Index(None, "account_id", "month_on", "started_at"),
        Index(None, "started_at"),
    )

    id: Mapped[int] = primary_key()
    key: Mapped[str] = mapped_column(String(64), unique=True)
    content_key: Mapped[str] = mapped_column(String(64), index=True)
    account_id: Mapped[int] = mapped_column(ForeignKey("accounts.id"))
    number_id: Mapped[int] = mapped_column(ForeignKey("phone_numbers.id"), index=True)
    import_id: Mapped[int] = mapped_column(ForeignKey("call_imports.id"), index=True)
    is_out: Mapped[bool] = mapped_column(info=PERSON)
    other: Mapped[str] = mapped_column(String(40), info=PERSON)
    started_at: Mapped[datetime] = mapped_column(info=PERSON)
    seconds: Mapped[int] = mapped_column(Integer, info=PERSON)
    amount_minor: Mapped[int]
    month_on: Mapped[date]
    charge_id: Mapped[int | None] = mapped_column(ForeignKey("charges.id"), index=True)


# Customers, sessions ------------------------------------------------------------------------


class Customer(Base):
    """A person who signs in. `sign_in_key` and `email_key` are the case-folded forms looked up."""

    __tablename__ = "customers"

    id: Mapped[int] = primary_key()
    public_id: Mapped[str] = public_id_column()
    sign_in_id: Mapped[str] = mapped_column(String(64), info=PERSON)
    sign_in_key: Mapped[str] = mapped_column(String(64), unique=True, info=PERSON)
    email_key: Mapped[str | None] = mapped_column(String(254), unique=True, info=CONTACT)
    name: Mapped[str] = mapped_column(String(200), info=PERSON)
    language: Mapped[str] = mapped_column(String(10), default="en")
    password_hash: Mapped[str] = mapped_column(String(200), info=SECRET)
    is_disabled: Mapped[bool] = mapped_column(default=False)
    session_generation: Mapped[int] = mapped_column(default=1)
    revision: Mapped[int] = mapped_column(default=1)
    created_at: Mapped[datetime]
    timezone: Mapped[str | None] = mapped_column(String(60), info=PERSON)
    failed_in_a_row: Mapped[int] = added_number(0)
    password_disabled_at: Mapped[datetime | None]


class Role(StrEnum):
    OWNER = "owner"
    PAYER = "payer"
    VIEWER = "viewer"
    TECHNICAL = "technical"


class Membership(Base):
    """That a customer may use an account, and in which role; at most one owner invites others."""

    __tablename__ = "memberships"
    __table_args__ = (one_of("role", Role),)

    customer_id: Mapped[int] = mapped_column(ForeignKey("customers.id"), primary_key=True)
    account_id: Mapped[int] = mapped_column(ForeignKey("accounts.id"), primary_key=True, index=True)
    role: Mapped[str] = mapped_column(String(12))


class SignInSession(Base):
    """A signed-in session. The cookie holds a random id of which only the hash is stored.

    `kept_form` holds, encrypted and for one hour, the values posted after the session went idle.
    `is_staff`: the ISP's own people, after their second factor. `viewer_id`: the staff member who
    sees the portal as this customer does, and writes nothing; `viewer_session_id` is theirs, which
    goes on afterwards.
    """

    __tablename__ = "sessions"

    id: Mapped[int] = primary_key()
    token_hash: Mapped[bytes] = mapped_column(LargeBinary(32), unique=True, info=SECRET)
    customer_id: Mapped[int] = mapped_column(ForeignKey("customers.id"), index=True)
    csrf_secret: Mapped[bytes] = mapped_column(LargeBinary(32), info=SECRET)
    generation: Mapped[int]
    is_own_device: Mapped[bool] = mapped_column(default=False)
    address: Mapped[str] = mapped_column(String(45), info=PERSON)
    user_agent: Mapped[str] = mapped_column(String(200), info=PERSON)
    created_at: Mapped[datetime]
    last_used_at: Mapped[datetime]
    expires_at: Mapped[datetime] = mapped_column(index=True)
    password_at: Mapped[datetime]
    ended_at: Mapped[datetime | None]
    kept_form: Mapped[bytes | None] = mapped_column(LargeBinary, info=SECRET)
    kept_until_at: Mapped[datetime | None]
    is_staff: Mapped[bool] = added_claim()
    has_second_factor: Mapped[bool] = added_claim()
    viewer_id: Mapped[int | None] = mapped_column(ForeignKey("customers.id"))
    viewer_session_id: Mapped[int | None]


class Device(Base):
    """A browser from which a customer has signed in before (bar 5), known by a cookie's hash.

    Until `trusted_until_at` it is not asked for a second factor.
    """

    __tablename__ = "devices"

    id: Mapped[int] = primary_key()
    token_hash: Mapped[bytes] = mapped_column(LargeBinary(32), unique=True, info=SECRET)
    customer_id: Mapped[int] = mapped_column(ForeignKey("customers.id"), index=True)
    first_seen_at: Mapped[datetime]
    last_seen_at: Mapped[datetime] = mapped_column(index=True)
    trusted_until_at: Mapped[datetime | None]


class OneTimeLink(Base):
    """A link sent or printed once; the token's hash is stored. Used, expired or replaced: dead."""

    __tablename__ = "one_time_links"

    id: Mapped[int] = primary_key()
    token_hash: Mapped[bytes] = mapped_column(LargeBinary(32), unique=True, info=SECRET)
    purpose: Mapped[str] = mapped_column(String(20))
    account_id: Mapped[int | None] = mapped_column(ForeignKey("accounts.id"), index=True)
    customer_id: Mapped[int | None] = mapped_column(ForeignKey("customers.id"))
    created_at: Mapped[datetime]
    expires_at: Mapped[datetime] = mapped_column(index=True)
    ended_at: Mapped[datetime | None]


class AttemptState(StrEnum):
    PENDING = "pending"
    FAILED = "failed"
    PASSED = "passed"


class SignInAttempt(Base):
    """One try at a password, counted before the hash is verified (bars 5 and 7).

    `subject` is a keyed hash of what was typed, so that the table names nobody.
    """

    __tablename__ = "sign_in_attempts"
    __table_args__ = (
        one_of("state", AttemptState),
        Index(None, "subject", "tried_at"),
        Index(None, "network", "tried_at"),
        Index(None, "tried_at"),
    )

    id: Mapped[int] = primary_key()
    subject: Mapped[bytes] = mapped_column(LargeBinary(32), info=PERSON)
    network: Mapped[str] = mapped_column(String(45), info=PERSON)
    state: Mapped[str] = mapped_column(String(8))
    tried_at: Mapped[datetime]


class FormKey(Base):
    """A one-time key that has arrived; `result` is the path where the thing stands now."""

    __tablename__ = "form_keys"

    key_hash: Mapped[bytes] = mapped_column(LargeBinary(32), primary_key=True)
    subject: Mapped[str] = mapped_column(String(60))
    content_hash: Mapped[bytes] = mapped_column(LargeBinary(32))
    result: Mapped[str] = mapped_column(String(300))
    arrived_at: Mapped[datetime] = mapped_column(index=True)


# Ways in: flows, codes, factors ---------------------------------------------------------------


class FlowKind(StrEnum):
    REGISTER = "register"
    RECOVER = "recover"
    FIND_ID = "find_id"
    SIGN_IN = "sign_in"
    LOST_FACTORS = "lost_factors"


class Flow(Base):
    """A way in that is half gone, reached by a cookie of its own: a state machine whose `step`
    moves from one to the next. `customer_id` and `account_id` are empty where what was typed is
    nobody's: the steps are the same.

    `subject` is a keyed hash of what was typed; `facts` are what the steps need of each other.
    """

    __tablename__ = "flows"
    __table_args__ = (one_of("kind", FlowKind), Index(None, "subject"))

    id: Mapped[int] = primary_key()
    token_hash: Mapped[bytes] = mapped_column(LargeBinary(32), unique=True, info=SECRET)
    kind: Mapped[str] = mapped_column(String(12))
    step: Mapped[str] = mapped_column(String(20))
    csrf_secret: Mapped[bytes] = mapped_column(LargeBinary(32), info=SECRET)
    subject: Mapped[bytes] = mapped_column(LargeBinary(32), info=PERSON)
    account_id: Mapped[int | None] = mapped_column(ForeignKey("accounts.id"), index=True)
    customer_id: Mapped[int | None] = mapped_column(ForeignKey("customers.id"), index=True)
    facts: Mapped[dict[str, Any]] = mapped_column(JSON, info=PERSON)
    created_at: Mapped[datetime]
    expires_at: Mapped[datetime] = mapped_column(index=True)
    ended_at: Mapped[datetime | None]


class CodePurpose(StrEnum):
    REGISTER = "register"
    RECOVER = "recover"
    SECOND_FACTOR = "second_factor"
    CONTACT = "contact"
    CALLER = "caller"
    INVITATION = "invitation"


class Channel(StrEnum):
    EMAIL = "email"
    TEXT = "text"
    POST = "post"


class OneTimeCode(Base):
    """A code sent to a contact. It counts once, for what asked for it: `bound_to` names the flow,
    the change or the call ("flow:17"), and `code_hash` is keyed by it."""

    __tablename__ = "one_time_codes"
    __table_args__ = (one_of("purpose", CodePurpose), one_of("channel", Channel))

    id: Mapped[int] = primary_key()
    purpose: Mapped[str] = mapped_column(String(14))
    bound_to: Mapped[str] = mapped_column(String(60), index=True)
    code_hash: Mapped[bytes] = mapped_column(LargeBinary(32), info=SECRET)
    channel: Mapped[str] = mapped_column(String(5))
    contact_id: Mapped[int | None] = mapped_column(ForeignKey("contacts.id"), index=True)
    created_at: Mapped[datetime]
    expires_at: Mapped[datetime] = mapped_column(index=True)
    ended_at: Mapped[datetime | None]


class PostalLetter(Base):
    """A letter with a registration code that staff print. The code is made when it is printed."""

    __tablename__ = "postal_letters"
    __table_args__ = (
        Index(
            "uq_postal_letters_waiting",
            "flow_id",
            unique=True,
            sqlite_where=text("ended_at IS NULL"),
            postgresql_where=text("ended_at IS NULL"),
        ),
    )

    id: Mapped[int] = primary_key()
    public_id: Mapped[str] = public_id_column()
    account_id: Mapped[int] = mapped_column(ForeignKey("accounts.id"), index=True)
    flow_id: Mapped[int] = mapped_column(ForeignKey("flows.id"))
    contact_id: Mapped[int | None] = mapped_column(ForeignKey("contacts.id"))
    asked_at: Mapped[datetime]
    printed_at: Mapped[datetime | None]
    printed_by_id: Mapped[int | None] = mapped_column(ForeignKey("customers.id"))
    ended_at: Mapped[datetime | None]


class FactorKind(StrEnum):
    TOTP = "totp"
    PASSKEY = "passkey"
    EMAIL = "email"
    TEXT = "text"


class Factor(Base):
    """Something beside the password. It counts from `confirmed_at` on.

    TOTP (RFC 6238): `secret` is the encrypted seed, `last_step` the last step accepted. Passkey
    (WebAuthn level 2): `credential_id`, `public_key` in COSE, `sign_count`. E-mail and text:
    `contact_id`.
    """

    __tablename__ = "factors"
    __table_args__ = (one_of("kind", FactorKind), Index(None, "customer_id"))

    id: Mapped[int] = primary_key()
    public_id: Mapped[str] = public_id_column()
    customer_id: Mapped[int] = mapped_column(ForeignKey("customers.id"))
    kind: Mapped[str] = mapped_column(String(8))
    name: Mapped[str] = mapped_column(String(80), default="", info=PERSON)
    secret: Mapped[bytes | None] = mapped_column(LargeBinary, info=SECRET)
    last_step: Mapped[int | None]
    credential_id: Mapped[bytes | None] = mapped_column(LargeBinary, unique=True, info=PERSON)
    public_key: Mapped[bytes | None] = mapped_column(LargeBinary, info=PERSON)
    sign_count: Mapped[int | None]
    contact_id: Mapped[int | None] = mapped_column(ForeignKey("contacts.id"), index=True)
    created_at: Mapped[datetime]
    confirmed_at: Mapped[datetime | None]
    last_used_at: Mapped[datetime | None]


class RecoveryCode(Base):
    """One of ten codes for whoever has lost the second factor. It counts from `confirmed_at` on,
    once."""

    __tablename__ = "recovery_codes"

    id: Mapped[int] = primary_key()
    customer_id: Mapped[int] = mapped_column(ForeignKey("customers.id"), index=True)
    code_hash: Mapped[bytes] = mapped_column(LargeBinary(32), unique=True, info=SECRET)
    created_at: Mapped[datetime]
    confirmed_at: Mapped[datetime | None]
    used_at: Mapped[datetime | None]


class PasskeyChallenge(Base):
    """A challenge given to a browser, answered once (bar 10). `bound_to` as for a code."""

    __tablename__ = "passkey_challenges"

    challenge_hash: Mapped[bytes] = mapped_column(LargeBinary(32), primary_key=True, info=SECRET)
    bound_to: Mapped[str] = mapped_column(String(60))
    expires_at: Mapped[datetime] = mapped_column(index=True)


class ResetState(StrEnum):
    ASKED = "asked"
    PROOFED = "proofed"
    APPROVED = "approved"
    DONE = "done"
    REFUSED = "refused"


class FactorReset(Base):
    """Somebody who lost password and second factor (bar 20): proofed by one member of staff,
    approved by another, then the factors are taken away."""

    __tablename__ = "factor_resets"
    __table_args__ = (
        one_of("state", ResetState),
        CheckConstraint("approved_by_id <> proofed_by_id", name="two_people"),
    )

    id: Mapped[int] = primary_key()
    public_id: Mapped[str] = public_id_column()
    customer_id: Mapped[int] = mapped_column(ForeignKey("customers.id"), index=True)
    state: Mapped[str] = mapped_column(String(8))
    how: Mapped[str] = mapped_column(String(300), default="", info=PERSON)
    asked_at: Mapped[datetime]
    proofed_at: Mapped[datetime | None]
    proofed_by_id: Mapped[int | None] = mapped_column(ForeignKey("customers.id"))
    approved_by_id: Mapped[int | None] = mapped_column(ForeignKey("customers.id"))
    ended_at: Mapped[datetime | None]


# People of an account, what they chose ---------------------------------------------------------


class ContactChange(Base):
    """A new e-mail address or phone number that counts once its code has been entered."""

    __tablename__ = "contact_changes"
    __table_args__ = (one_of("kind", ContactKind),)

    id: Mapped[int] = primary_key()
    public_id: Mapped[str] = public_id_column()
    customer_id: Mapped[int] = mapped_column(ForeignKey("customers.id"), index=True)
    account_id: Mapped[int | None] = mapped_column(ForeignKey("accounts.id"), index=True)
    kind: Mapped[str] = mapped_column(String(10))
    value: Mapped[str] = mapped_column(String(400), info=CONTACT)
    replaces_id: Mapped[int | None] = mapped_column(ForeignKey("contacts.id"))
    asked_at: Mapped[datetime]
    expires_at: Mapped[datetime] = mapped_column(index=True)
    ended_at: Mapped[datetime | None]


class Invitation(Base):
    """That an account's owner has asked somebody to share it in a role. The link's hash is stored;
    used, expired or withdrawn: dead."""

    __tablename__ = "invitations"
    __table_args__ = (one_of("role", Role), one_of("kind", ContactKind))

    id: Mapped[int] = primary_key()
    public_id: Mapped[str] = public_id_column()
    account_id: Mapped[int] = mapped_column(ForeignKey("accounts.id"), index=True)
    invited_by_id: Mapped[int] = mapped_column(ForeignKey("customers.id"))
    role: Mapped[str] = mapped_column(String(12))
    kind: Mapped[str] = mapped_column(String(10))
    value: Mapped[str] = mapped_column(String(400), info=CONTACT)
    token_hash: Mapped[bytes] = mapped_column(LargeBinary(32), unique=True, info=SECRET)
    created_at: Mapped[datetime]
    expires_at: Mapped[datetime] = mapped_column(index=True)
    ended_at: Mapped[datetime | None]
    accepted_by_id: Mapped[int | None] = mapped_column(ForeignKey("customers.id"))


class MessageChoice(Base):
    """Whether a customer wants messages of a topic by a channel, where it is not the usual."""

    __tablename__ = "message_choices"

    customer_id: Mapped[int] = mapped_column(ForeignKey("customers.id"), primary_key=True)
    topic: Mapped[str] = mapped_column(String(20), primary_key=True)
    channel: Mapped[str] = mapped_column(String(5), primary_key=True)
    is_on: Mapped[bool]


# The ISP's own people --------------------------------------------------------------------------


class StaffRole(StrEnum):
    SUPPORT = "support"
    BILLING = "billing"
    TECHNICAL = "technical"
    ADMINISTRATOR = "administrator"


class StaffMember(Base):
    """That a customer's sign-in belongs to one of the ISP's own people, and in which role."""

    __tablename__ = "staff_members"
    __table_args__ = (one_of("role", StaffRole),)

    customer_id: Mapped[int] = mapped_column(ForeignKey("customers.id"), primary_key=True)
    role: Mapped[str] = mapped_column(String(14))
    added_at: Mapped[datetime]
    is_disabled: Mapped[bool] = mapped_column(default=False)


class DataAccess(Base):
    """That personal data was read by staff, the API or an export: whose, which fields, when, by
    whom (bar 78)."""

    __tablename__ = "data_accesses"
    __table_args__ = (Index(None, "account_id", "read_at"), Index(None, "read_at"))

    id: Mapped[int] = primary_key()
    reader_id: Mapped[int | None] = mapped_column(ForeignKey("customers.id"))
    reader: Mapped[str] = mapped_column(String(80), info=PERSON)
    account_id: Mapped[int | None] = mapped_column(ForeignKey("accounts.id"))
    customer_id: Mapped[int | None] = mapped_column(ForeignKey("customers.id"), index=True)
    fields: Mapped[str] = mapped_column(String(200))
    purpose: Mapped[str] = mapped_column(String(200), info=PERSON)
    read_at: Mapped[datetime]


class SearchTerm(Base):
    """A folded word by which staff find an account: of its name, number, contacts, line.

    Both engines order it by code points, so that a prefix is a range.
    """

    __tablename__ = "search_terms"
    __table_args__ = (Index(None, "account_id", "term"),)

    term: Mapped[str] = mapped_column(
        String(80).with_variant(String(80, collation="C"), "postgresql"),
        primary_key=True,
        info=CONTACT,
    )
    account_id: Mapped[int] = mapped_column(ForeignKey("accounts.id"), primary_key=True)


# The ledger ---------------------------------------------------------------------------------


class EntryKind(StrEnum):
    OPENING = "opening"
    INVOICE = "invoice"
    PAYMENT = "payment"
    ADJUSTMENT = "adjustment"
    REVERSAL = "reversal"
    CREDIT_NOTE = "credit_note"
    REFUND = "refund"
    CHARGEBACK = "chargeback"
    RETURN = "return"
    TRANSFER = "transfer"


class JournalEntry(Base):
    """One posting: `line_count` lines that sum to zero. Never changed, never deleted.

    `key` is made from the intent ("payment:<public id>"), so that a posting happens once.
    """

    __tablename__ = "journal_entries"
    __table_args__ = (
        one_of("kind", EntryKind),
        CheckConstraint("line_count >= 2", name="line_count"),
        Index(None, "booked_on"),
    )

    id: Mapped[int] = primary_key()
    key: Mapped[str] = mapped_column(String(120), unique=True)
    kind: Mapped[str] = mapped_column(String(12))
    account_id: Mapped[int] = mapped_column(ForeignKey("accounts.id"), index=True)
    booked_on: Mapped[date]
    description: Mapped[str] = mapped_column(String(200))
    line_count: Mapped[int] = mapped_column(Integer)
    created_at: Mapped[datetime]


class JournalLine(Base):
    """`ledger` names the account of the books: `receivable`, `gateway:sandbox`, `revenue:tv` …

    Positive is debit. Lines of `receivable` carry the account they belong to, others do not.
    """

    __tablename__ = "journal_lines"
    __table_args__ = (
        CheckConstraint("amount_minor <> 0", name="amount"),
        CheckConstraint(
            "(ledger = 'receivable') = (account_id IS NOT NULL)", name="receivable_has_account"
        ),
        Index(
            "ix_journal_lines_receivable",
            "account_id",
            sqlite_where=text("account_id IS NOT NULL"),
            postgresql_where=text("account_id IS NOT NULL"),
        ),
    )

    entry_id: Mapped[int] = mapped_column(ForeignKey("journal_entries.id"), primary_key=True)
    position: Mapped[int] = mapped_column(Integer, primary_key=True)
    ledger: Mapped[str] = mapped_column(String(40))
    account_id: Mapped[int | None] = mapped_column(ForeignKey("accounts.id"))
    amount_minor: Mapped[int]
    currency: Mapped[str] = mapped_column(String(3))


class InvoiceKind(StrEnum):
    INVOICE = "invoice"
    OPENING = "opening"
    CREDIT_NOTE = "credit"


class Invoice(Base):
    """An issued invoice, opening item or credit note, frozen: names, prices and rates are copies.

    `total_minor` is never negative. A credit note's lines and total are what the ISP gives back; it
    says which invoice it corrects in `corrects_id`, unless it is what a period's credits left over.
    """

    __tablename__ = "invoices"
    __table_args__ = (
        one_of("kind", InvoiceKind),
        CheckConstraint("total_minor >= 0", name="total"),
        Index(
            "uq_invoices_month",
            "account_id",
            "period_from",
            unique=True,
            sqlite_where=text("kind = 'invoice'"),
            postgresql_where=text("kind = 'invoice'"),
        ),
        Index(None, "account_id", "issued_on"),
        Index(None, "issued_on"),
    )

    id: Mapped[int] = primary_key()
    public_id: Mapped[str] = public_id_column()
    number: Mapped[str] = mapped_column(String(60), unique=True)
    kind: Mapped[str] = mapped_column(String(10))
    account_id: Mapped[int] = mapped_column(ForeignKey("accounts.id"))
    entry_id: Mapped[int | None] = mapped_column(ForeignKey("journal_entries.id"), unique=True)
    issued_on: Mapped[date]
    due_on: Mapped[date]
    period_from: Mapped[date]
    period_to: Mapped[date]
    bill_name: Mapped[str] = mapped_column(String(200), info=PERSON)
    bill_address: Mapped[list[str]] = mapped_column(JSON, info=CONTACT)
    total_minor: Mapped[int]
    tax_minor: Mapped[int]
    currency: Mapped[str] = mapped_column(String(3))
    line_count: Mapped[int] = mapped_column(Integer)
    corrects_id: Mapped[int | None] = mapped_column(ForeignKey("invoices.id"), index=True)
    run_id: Mapped[int | None] = mapped_column(ForeignKey("bill_runs.id"), index=True)


class InvoiceLineKind(StrEnum):
    CHARGE = "charge"
    CREDIT = "credit"
    TAX = "tax"
    OPENING = "opening"


class InvoiceLine(Base):
    __tablename__ = "invoice_lines"
    __table_args__ = (one_of("kind", InvoiceLineKind),)

    invoice_id: Mapped[int] = mapped_column(ForeignKey("invoices.id"), primary_key=True)
    position: Mapped[int] = mapped_column(Integer, primary_key=True)
    kind: Mapped[str] = mapped_column(String(8))
    ledger: Mapped[str] = mapped_column(String(40))
    description: Mapped[str] = mapped_column(String(200))
    subscription_id: Mapped[int | None] = mapped_column(ForeignKey("subscriptions.id"))
    quantity: Mapped[int] = mapped_column(Integer, default=1)
    rate_bp: Mapped[int | None] = mapped_column(Integer)
    amount_minor: Mapped[int]
    period_from: Mapped[date | None]
    period_to: Mapped[date | None]
    corrects_position: Mapped[int | None] = mapped_column(Integer)


class Allocation(Base):
    """That a part of a credit entry (payment, opening credit) settles a part of an invoice."""

    __tablename__ = "allocations"
    __table_args__ = (
        CheckConstraint("amount_minor <> 0", name="amount"),
        Index(None, "invoice_id"),
        Index(None, "entry_id"),
    )

    id: Mapped[int] = primary_key()
    invoice_id: Mapped[int] = mapped_column(ForeignKey("invoices.id"))
    entry_id: Mapped[int] = mapped_column(ForeignKey("journal_entries.id"))
    amount_minor: Mapped[int]
    created_at: Mapped[datetime]


class InvoiceBalance(Base):
    """Derived: what is still open of an invoice; `flask ledger verify` computes it again."""

    __tablename__ = "invoice_balances"
    __table_args__ = (
        CheckConstraint("open_minor >= 0", name="open"),
        CheckConstraint("(open_minor = 0) = (settled_at IS NOT NULL)", name="settled"),
        Index(
            "ix_invoice_balances_open",
            "account_id",
            sqlite_where=text("settled_at IS NULL"),
            postgresql_where=text("settled_at IS NULL"),
        ),
    )

    invoice_id: Mapped[int] = mapped_column(
        ForeignKey("invoices.id"), primary_key=True, autoincrement=False
    )
    account_id: Mapped[int] = mapped_column(ForeignKey("accounts.id"))
    open_minor: Mapped[int]
    settled_at: Mapped[datetime | None]


class Charge(Base):
    """A one-off charge, or a credit where `is_credit`, that joins the account's next invoice.

    `kind` is the kind of plan whose taxes apply, empty for none. It waits while `invoice_id` and
    `cancelled_at` are empty, and joins no bill that is issued before `from_on`. It was billed with
    `taxes`, as with a subscription; a credit that waits gives back with these.
    """

    __tablename__ = "charges"
    __table_args__ = (
        CheckConstraint("amount_minor > 0", name="amount"),
        CheckConstraint("invoice_id IS NULL OR cancelled_at IS NULL", name="one_end"),
        Index(
            "ix_charges_waiting",
            "account_id",
            sqlite_where=text("invoice_id IS NULL AND cancelled_at IS NULL"),
            postgresql_where=text("invoice_id IS NULL AND cancelled_at IS NULL"),
        ),
    )

    id: Mapped[int] = primary_key()
    public_id: Mapped[str] = public_id_column()
    account_id: Mapped[int] = mapped_column(ForeignKey("accounts.id"))
    is_credit: Mapped[bool]
    kind: Mapped[str] = mapped_column(String(12), default="")
    description: Mapped[str] = mapped_column(String(200), info=PERSON)
    reason: Mapped[str] = mapped_column(String(300), default="", info=PERSON)
    amount_minor: Mapped[int]
    added_by_id: Mapped[int | None] = mapped_column(ForeignKey("customers.id"))
    created_at: Mapped[datetime]
    from_on: Mapped[date | None]
    taxes: Mapped[dict[str, list[int | None]] | None] = mapped_column(JSON(none_as_null=True))
    invoice_id: Mapped[int | None] = mapped_column(ForeignKey("invoices.id"), index=True)
    cancelled_at: Mapped[datetime | None]


class TaxExemption(Base):
    """That an account does not pay a tax from `from_on` until and with `to_on`."""

    __tablename__ = "tax_exemptions"

    account_id: Mapped[int] = mapped_column(ForeignKey("accounts.id"), primary_key=True)
    tax_code: Mapped[str] = mapped_column(ForeignKey("taxes.code"), primary_key=True)
    from_on: Mapped[date]
    to_on: Mapped[date | None]
    reason: Mapped[str] = mapped_column(String(200), default="", info=PERSON)


class BillRunState(StrEnum):
    ASKED = "asked"
    RUNNING = "running"
    STOPPED = "stopped"
    DONE = "done"


class BillRun(Base):
    """One run over all accounts whose next period has begun on `as_of_on`, or (`is_preview`) only
    what one would bill; of each kind one is asked for, and one running, at most.

    `asked`: staff asked for it, and the worker does it. What it wants to bill is added up first
    (`planned_…`, and what else was found by the names of `bill_run.Plan`); what it has issued
    follows (`issued_…`, for `done_count` of `account_count` accounts). `accepted_minor` is the
    total an operator accepted though it stands out; `stopped_because` is a
    `blueprints.billing.run_reasons.Stop`. `revision` rises with whatever its page shows.
    """

    __tablename__ = "bill_runs"
    __table_args__ = (
        one_of("state", BillRunState),
        Index(
            "uq_bill_runs_running",
            "state",
            "is_preview",
            unique=True,
            sqlite_where=text("state IN ('asked', 'running')"),
            postgresql_where=text("state IN ('asked', 'running')"),
        ),
    )

    id: Mapped[int] = primary_key()
    public_id: Mapped[str] = public_id_column()
    as_of_on: Mapped[date]
    state: Mapped[str] = mapped_column(String(8))
    is_preview: Mapped[bool] = added_claim()
    planned_count: Mapped[int] = mapped_column(default=0)
    planned_minor: Mapped[int] = mapped_column(default=0)
    found: Mapped[dict[str, Any] | None] = mapped_column(JSON)
    account_count: Mapped[int] = added_number(0)
    done_count: Mapped[int] = added_number(0)
    issued_count: Mapped[int] = mapped_column(default=0)
    issued_minor: Mapped[int] = mapped_column(default=0)
    accepted_minor: Mapped[int | None]
    stopped_because: Mapped[str] = mapped_column(String(500), default="")
    started_by_id: Mapped[int | None] = mapped_column(ForeignKey("customers.id"))
    started_at: Mapped[datetime]
    beat_at: Mapped[datetime]
    ended_at: Mapped[datetime | None]
    stop_asked_at: Mapped[datetime | None]
    stopped_by_id: Mapped[int | None] = mapped_column(ForeignKey("customers.id"))
    revision: Mapped[int] = added_number(1)


class Counter(Base):
    """A shared counter such as the invoice number of a year; locked last (DESIGN §3)."""

    __tablename__ = "counters"

    name: Mapped[str] = mapped_column(String(40), primary_key=True)
    next_value: Mapped[int]


class PaymentState(StrEnum):
    CREATED = "created"
    SENT = "sent"
    UNKNOWN = "unknown"
    PROCESSING = "processing"
    SUCCEEDED = "succeeded"
    DECLINED = "declined"
    EXPIRED = "expired"
    CANCELLED = "cancelled"


UNDER_WAY = (PaymentState.CREATED, PaymentState.SENT, PaymentState.UNKNOWN)
ENDED = (
    PaymentState.SUCCEEDED,
    PaymentState.DECLINED,
    PaymentState.EXPIRED,
    PaymentState.CANCELLED,
)
_UNDER_WAY_SQL = text("state IN ('created', 'sent', 'unknown')")


class Payment(Base):
    """One intent to pay, committed under its key before the gateway hears of it.

    `gateway` is also `counter`, `bank` or `voucher`: money that came without one, entered by the
    member of staff `taken_by_id`, from a bank's file, or with a voucher. `method_id`: it was taken
    from a saved method, without a hosted page; `planned_id`: as it was planned.
    """

    __tablename__ = "payments"
    __table_args__ = (
        one_of("state", PaymentState),
        CheckConstraint("amount_minor > 0", name="amount"),
        CheckConstraint("(state = 'succeeded') = (entry_id IS NOT NULL)", name="entry"),
        Index(
            "uq_payments_one_under_way",
            "account_id",
            unique=True,
            sqlite_where=_UNDER_WAY_SQL,
            postgresql_where=_UNDER_WAY_SQL,
        ),
        Index(None, "account_id", "created_at"),
        Index(
            "ix_payments_declined",
            "ended_at",
            sqlite_where=text("state = 'declined'"),
            postgresql_where=text("state = 'declined'"),
        ),
        # Notices of gateways name what they are about by the gateway's reference.
        Index(
            "ix_payments_gateway_reference",
            "gateway_reference",
            sqlite_where=text("gateway_reference IS NOT NULL"),
            postgresql_where=text("gateway_reference IS NOT NULL"),
        ),
        Index(
            "ix_payments_due",
            "ask_at",
            sqlite_where=text("ask_at IS NOT NULL"),
            postgresql_where=text("ask_at IS NOT NULL"),
        ),
    )

    id: Mapped[int] = primary_key()
    public_id: Mapped[str] = public_id_column()
    key: Mapped[str] = mapped_column(String(64), unique=True)
    account_id: Mapped[int] = mapped_column(ForeignKey("accounts.id"))
    customer_id: Mapped[int | None] = mapped_column(ForeignKey("customers.id"))
    invoice_id: Mapped[int | None] = mapped_column(ForeignKey("invoices.id"))
    amount_minor: Mapped[int]
    currency: Mapped[str] = mapped_column(String(3))
    state: Mapped[str] = mapped_column(String(12))
    revision: Mapped[int] = mapped_column(default=1)
    gateway: Mapped[str] = mapped_column(String(20))
    gateway_reference: Mapped[str | None] = mapped_column(String(120))
    hosted_url: Mapped[str | None] = mapped_column(String(2000))
    method: Mapped[str] = mapped_column(String(120), default="")
    method_id: Mapped[int | None] = mapped_column(ForeignKey("payment_methods.id"))
    planned_id: Mapped[int | None] = mapped_column(ForeignKey("planned_payments.id"), index=True)
    taken_by_id: Mapped[int | None] = mapped_column(ForeignKey("customers.id"))
    note: Mapped[str] = added_text(200)
    decline_reason: Mapped[str] = mapped_column(String(300), default="")
    created_at: Mapped[datetime]
    ended_at: Mapped[datetime | None]
    entry_id: Mapped[int | None] = mapped_column(ForeignKey("journal_entries.id"), unique=True)
    ask_at: Mapped[datetime | None]
    ask_count: Mapped[int] = mapped_column(Integer, default=0)
    claimed_until_at: Mapped[datetime | None]


class GatewayNotice(Base):
    """An event of a gateway that has taken effect, kept for good, so that it counts once."""

    __tablename__ = "gateway_notices"

    gateway: Mapped[str] = mapped_column(String(20), primary_key=True)
    event_id: Mapped[str] = mapped_column(String(200), primary_key=True)
    received_at: Mapped[datetime]


# Payment methods, planned payments, arrangements ----------------------------------------------


class GatewayCustomer(Base):
    """What a gateway calls a customer of ours, where it keeps methods for them."""

    __tablename__ = "gateway_customers"

    gateway: Mapped[str] = mapped_column(String(20), primary_key=True)
    customer_id: Mapped[int] = mapped_column(ForeignKey("customers.id"), primary_key=True)
    account_id: Mapped[int] = mapped_column(ForeignKey("accounts.id"), primary_key=True)
    reference: Mapped[str] = mapped_column(String(120), info=PERSON)


class MethodKind(StrEnum):
    CARD = "card"
    BANK = "bank"


class MethodState(StrEnum):
    ADDING = "adding"
    USABLE = "usable"
    FAILED = "failed"
    REMOVED = "removed"


class PaymentMethod(Base):
    """A card or bank account that a customer saved for an account, at the gateway; we know its
    reference there and the title to show ("Visa ending 4242"). Only who saved it uses it.

    `expires_on` is the last day it can be used; `told_on` when "expires soon" was said. `ask_at`:
    when the worker asks how adding it ended.
    """

    __tablename__ = "payment_methods"
    __table_args__ = (
        one_of("kind", MethodKind),
        one_of("state", MethodState),
        Index(
            "uq_payment_methods_default",
            "account_id",
            "customer_id",
            unique=True,
            sqlite_where=text("is_default"),
            postgresql_where=text("is_default"),
        ),
        Index(None, "account_id"),
        Index(
            "ix_payment_methods_gateway_reference",
            "gateway_reference",
            sqlite_where=text("gateway_reference IS NOT NULL"),
            postgresql_where=text("gateway_reference IS NOT NULL"),
        ),
        Index(
            "ix_payment_methods_due",
            "ask_at",
            sqlite_where=text("ask_at IS NOT NULL"),
            postgresql_where=text("ask_at IS NOT NULL"),
        ),
    )

    id: Mapped[int] = primary_key()
    public_id: Mapped[str] = public_id_column()
    key: Mapped[str] = mapped_column(String(64), unique=True)
    account_id: Mapped[int] = mapped_column(ForeignKey("accounts.id"))
    customer_id: Mapped[int] = mapped_column(ForeignKey("customers.id"), index=True)
    gateway: Mapped[str] = mapped_column(String(20))
    gateway_reference: Mapped[str | None] = mapped_column(String(120), info=PERSON)
    hosted_url: Mapped[str | None] = mapped_column(String(2000))
    kind: Mapped[str] = mapped_column(String(4), default=MethodKind.CARD)
    title: Mapped[str] = mapped_column(String(120), default="", info=PERSON)
    name: Mapped[str] = mapped_column(String(60), default="", info=PERSON)
    expires_on: Mapped[date | None]
    told_on: Mapped[date | None]
    is_default: Mapped[bool] = mapped_column(default=False)
    state: Mapped[str] = mapped_column(String(8))
    failure: Mapped[str] = mapped_column(String(300), default="")
    created_at: Mapped[datetime]
    ended_at: Mapped[datetime | None]
    ask_at: Mapped[datetime | None]
    ask_count: Mapped[int] = mapped_column(Integer, default=0)
    claimed_until_at: Mapped[datetime | None]


class AutopayMandate(Base):
    """That a customer lets their method pay an account's bills `days_before` the due day.

    Above `ceiling_minor` they are asked first. Of a bank account, `range_from_minor` to
    `range_to_minor` is the range within which no notice of ten days is needed (12 CFR 1005.10(d)).
    The consent is kept as it was shown, with time and address. It stands while `ended_at` is empty;
    `ended_because` is a word: off, changed, method_removed, method_expired, method_moved,
    account_closed, failed.
    """

    __tablename__ = "autopay_mandates"
    __table_args__ = (
        CheckConstraint("days_before BETWEEN 0 AND 10", name="days_before"),
        Index(
            "uq_autopay_mandates_standing",
            "account_id",
            unique=True,
            sqlite_where=text("ended_at IS NULL"),
            postgresql_where=text("ended_at IS NULL"),
        ),
    )

    id: Mapped[int] = primary_key()
    public_id: Mapped[str] = public_id_column()
    account_id: Mapped[int] = mapped_column(ForeignKey("accounts.id"), index=True)
    customer_id: Mapped[int] = mapped_column(ForeignKey("customers.id"))
    method_id: Mapped[int] = mapped_column(ForeignKey("payment_methods.id"))
    days_before: Mapped[int] = mapped_column(Integer)
    ceiling_minor: Mapped[int | None]
    range_from_minor: Mapped[int | None]
    range_to_minor: Mapped[int | None]
    consent: Mapped[str] = mapped_column(Text)
    consent_language: Mapped[str] = mapped_column(String(10))
    consent_address: Mapped[str] = mapped_column(String(45), info=PERSON)
    consented_at: Mapped[datetime]
    ended_at: Mapped[datetime | None]
    ended_because: Mapped[str] = mapped_column(String(20), default="")


class ArrangementState(StrEnum):
    STANDING = "standing"
    KEPT = "kept"
    BROKEN = "broken"
    CANCELLED = "cancelled"


class Arrangement(Base):
    """An agreement to pay `total_minor` later, at once (a promise) or in instalments, which are
    its planned payments. While it stands, reminders and holding rest.

    `agreed_by_id`: the member of staff who made it for the customer, if one did.
    """

    __tablename__ = "arrangements"
    __table_args__ = (
        one_of("state", ArrangementState),
        Index(
            "uq_arrangements_standing",
            "account_id",
            unique=True,
            sqlite_where=text("state = 'standing'"),
            postgresql_where=text("state = 'standing'"),
        ),
        Index(None, "account_id", "created_at"),
        Index(None, "state"),
    )

    id: Mapped[int] = primary_key()
    public_id: Mapped[str] = public_id_column()
    account_id: Mapped[int] = mapped_column(ForeignKey("accounts.id"))
    customer_id: Mapped[int | None] = mapped_column(ForeignKey("customers.id"))
    agreed_by_id: Mapped[int | None] = mapped_column(ForeignKey("customers.id"))
    state: Mapped[str] = mapped_column(String(9))
    total_minor: Mapped[int]
    created_at: Mapped[datetime]
    ended_at: Mapped[datetime | None]


class PlannedKind(StrEnum):
    AUTOPAY = "autopay"
    SCHEDULED = "scheduled"
    INSTALMENT = "instalment"


class PlannedState(StrEnum):
    WAITING = "waiting"
    ASKING = "asking"
    TAKING = "taking"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


class PlannedPayment(Base):
    """A payment to be taken on `due_on`: by autopay for an invoice, as scheduled, or an instalment.

    `method_id` is empty for an instalment that is paid by hand. `asking`: autopay found it above
    the ceiling and the customer is asked first. `try_at`: when the worker takes it, or tries again.
    `told_at`: when its notice was written.
    """

    __tablename__ = "planned_payments"
    __table_args__ = (
        one_of("kind", PlannedKind),
        one_of("state", PlannedState),
        CheckConstraint("amount_minor > 0", name="amount"),
        Index(
            "uq_planned_payments_autopay",
            "invoice_id",
            unique=True,
            sqlite_where=text("kind = 'autopay' AND state <> 'cancelled'"),
            postgresql_where=text("kind = 'autopay' AND state <> 'cancelled'"),
        ),
        Index(None, "account_id", "due_on"),
        Index(None, "state"),
        Index(
            "ix_planned_payments_due",
            "try_at",
            sqlite_where=text("try_at IS NOT NULL"),
            postgresql_where=text("try_at IS NOT NULL"),
        ),
    )

    id: Mapped[int] = primary_key()
    public_id: Mapped[str] = public_id_column()
    kind: Mapped[str] = mapped_column(String(10))
    account_id: Mapped[int] = mapped_column(ForeignKey("accounts.id"))
    customer_id: Mapped[int | None] = mapped_column(ForeignKey("customers.id"))
    method_id: Mapped[int | None] = mapped_column(ForeignKey("payment_methods.id"), index=True)
    mandate_id: Mapped[int | None] = mapped_column(ForeignKey("autopay_mandates.id"))
    invoice_id: Mapped[int | None] = mapped_column(ForeignKey("invoices.id"))
    arrangement_id: Mapped[int | None] = mapped_column(ForeignKey("arrangements.id"), index=True)
    amount_minor: Mapped[int]
    due_on: Mapped[date]
    state: Mapped[str] = mapped_column(String(9))
    failure: Mapped[str] = mapped_column(String(300), default="")
    told_at: Mapped[datetime | None]
    created_at: Mapped[datetime]
    ended_at: Mapped[datetime | None]
    try_at: Mapped[datetime | None]
    try_count: Mapped[int] = mapped_column(Integer, default=0)
    claimed_until_at: Mapped[datetime | None]


# What comes back, corrections, disputes -------------------------------------------------------


class ReversalKind(StrEnum):
    REFUND = "refund"
    CHARGEBACK = "chargeback"
    CHARGEBACK_WON = "chargeback_won"
    RETURN = "return"
    REFUND_FAILED = "refund_failed"


COMES_AGAIN = (ReversalKind.CHARGEBACK_WON, ReversalKind.REFUND_FAILED)
"""Kinds by which money comes to us that had gone back."""


class ReversalState(StrEnum):
    ASKED = "asked"
    CREATED = "created"
    UNKNOWN = "unknown"
    PROCESSING = "processing"
    SUCCEEDED = "succeeded"
    DECLINED = "declined"
    REFUSED = "refused"


class PaymentReversal(Base):
    """Money of a payment that goes back: a refund by staff (and one that had arrived and failed
    later), a chargeback (and one that was won), a bank debit that was returned. It has its own key
    and its own entry. What failed has the `gateway_reference` of its refund.

    `asked`: over the limit, so that a second member of staff must approve it. A refund is committed
    as `created` under its key before the gateway hears of it.
    """

    __tablename__ = "payment_reversals"
    __table_args__ = (
        one_of("kind", ReversalKind),
        one_of("state", ReversalState),
        CheckConstraint("amount_minor > 0", name="amount"),
        CheckConstraint("(state = 'succeeded') = (entry_id IS NOT NULL)", name="entry"),
        CheckConstraint("approved_by_id <> asked_by_id", name="two_people"),
        Index(None, "payment_id"),
        Index(None, "account_id", "created_at"),
        Index(
            "ix_payment_reversals_due",
            "ask_at",
            sqlite_where=text("ask_at IS NOT NULL"),
            postgresql_where=text("ask_at IS NOT NULL"),
        ),
    )

    id: Mapped[int] = primary_key()
    public_id: Mapped[str] = public_id_column()
    key: Mapped[str] = mapped_column(String(160), unique=True)
    kind: Mapped[str] = mapped_column(String(14))
    payment_id: Mapped[int] = mapped_column(ForeignKey("payments.id"))
    account_id: Mapped[int] = mapped_column(ForeignKey("accounts.id"))
    amount_minor: Mapped[int]
    currency: Mapped[str] = mapped_column(String(3))
    state: Mapped[str] = mapped_column(String(10))
    reason: Mapped[str] = mapped_column(String(300), default="", info=PERSON)
    gateway_reference: Mapped[str | None] = mapped_column(String(120))
    decline_reason: Mapped[str] = mapped_column(String(300), default="")
    asked_by_id: Mapped[int | None] = mapped_column(ForeignKey("customers.id"))
    approved_by_id: Mapped[int | None] = mapped_column(ForeignKey("customers.id"))
    created_at: Mapped[datetime]
    ended_at: Mapped[datetime | None]
    entry_id: Mapped[int | None] = mapped_column(ForeignKey("journal_entries.id"), unique=True)
    ask_at: Mapped[datetime | None]
    ask_count: Mapped[int] = mapped_column(Integer, default=0)
    claimed_until_at: Mapped[datetime | None]


class AdjustmentState(StrEnum):
    ASKED = "asked"
    BOOKED = "booked"
    REFUSED = "refused"


class Adjustment(Base):
    """A credit (or, not `is_credit`, a charge) that staff book on an account at once, with a
    reason; over the limit a second member of staff approves it first.

    With `invoice_id` it is a credit note over that invoice: over all that is left of it, or over
    `amounts`, minor units before tax by the position of a line. `amount_minor` is its total then.
    """

    __tablename__ = "adjustments"
    __table_args__ = (
        one_of("state", AdjustmentState),
        CheckConstraint("amount_minor > 0", name="amount"),
        CheckConstraint("(state = 'booked') = (entry_id IS NOT NULL)", name="entry"),
        CheckConstraint("approved_by_id <> asked_by_id", name="two_people"),
        Index(None, "account_id", "created_at"),
        Index(None, "state"),
    )

    id: Mapped[int] = primary_key()
    public_id: Mapped[str] = public_id_column()
    key: Mapped[str] = mapped_column(String(64), unique=True)
    account_id: Mapped[int] = mapped_column(ForeignKey("accounts.id"))
    is_credit: Mapped[bool]
    amount_minor: Mapped[int]
    reason: Mapped[str] = mapped_column(String(300), info=PERSON)
    state: Mapped[str] = mapped_column(String(7))
    asked_by_id: Mapped[int | None] = mapped_column(ForeignKey("customers.id"))
    approved_by_id: Mapped[int | None] = mapped_column(ForeignKey("customers.id"))
    invoice_id: Mapped[int | None] = mapped_column(ForeignKey("invoices.id"))
    amounts: Mapped[dict[str, int] | None] = mapped_column(JSON(none_as_null=True))
    created_at: Mapped[datetime]
    ended_at: Mapped[datetime | None]
    entry_id: Mapped[int | None] = mapped_column(ForeignKey("journal_entries.id"), unique=True)


class DisputeState(StrEnum):
    OPEN = "open"
    GRANTED = "granted"
    REFUSED = "refused"
    WITHDRAWN = "withdrawn"


class Dispute(Base):
    """That a customer does not agree with one line of an invoice. While it is open,
    `amount_minor` rests from dunning; granting it makes the credit note `credit_note_id`, by way
    of `adjustment_id`, which over the limit waits for a second member of staff."""

    __tablename__ = "disputes"
    __table_args__ = (
        one_of("state", DisputeState),
        CheckConstraint("amount_minor > 0", name="amount"),
        Index(
            "uq_disputes_open",
            "invoice_id",
            "position",
            unique=True,
            sqlite_where=text("state = 'open'"),
            postgresql_where=text("state = 'open'"),
        ),
        Index(None, "account_id", "created_at"),
        Index(None, "state"),
    )

    id: Mapped[int] = primary_key()
    public_id: Mapped[str] = public_id_column()
    account_id: Mapped[int] = mapped_column(ForeignKey("accounts.id"))
    customer_id: Mapped[int | None] = mapped_column(ForeignKey("customers.id"))
    invoice_id: Mapped[int] = mapped_column(ForeignKey("invoices.id"))
    position: Mapped[int] = mapped_column(Integer)
    amount_minor: Mapped[int]
    state: Mapped[str] = mapped_column(String(9))
    decided_by_id: Mapped[int | None] = mapped_column(ForeignKey("customers.id"))
    credit_note_id: Mapped[int | None] = mapped_column(ForeignKey("invoices.id"))
    adjustment_id: Mapped[int | None] = mapped_column(ForeignKey("adjustments.id"), unique=True)
    created_at: Mapped[datetime]
    ended_at: Mapped[datetime | None]


class DisputePost(Base):
    """What one side wrote about a dispute."""

    __tablename__ = "dispute_posts"

    id: Mapped[int] = primary_key()
    dispute_id: Mapped[int] = mapped_column(ForeignKey("disputes.id"), index=True)
    author_id: Mapped[int | None] = mapped_column(ForeignKey("customers.id"))
    is_staff: Mapped[bool]
    body: Mapped[str] = mapped_column(Text, info=PERSON)
    posted_at: Mapped[datetime]


# Money without a card -------------------------------------------------------------------------


class VoucherBatch(Base):
    """Vouchers of one amount made at once, printed and sold elsewhere."""

    __tablename__ = "voucher_batches"

    id: Mapped[int] = primary_key()
    public_id: Mapped[str] = public_id_column()
    name: Mapped[str] = mapped_column(String(80))
    amount_minor: Mapped[int]
    currency: Mapped[str] = mapped_column(String(3))
    voucher_count: Mapped[int] = mapped_column(Integer)
    made_by_id: Mapped[int | None] = mapped_column(ForeignKey("customers.id"))
    made_at: Mapped[datetime]
    expires_on: Mapped[date | None]
    cancelled_at: Mapped[datetime | None]


class Voucher(Base):
    """One code, of which only the keyed hash is stored; redeemed once, as a payment."""

    __tablename__ = "vouchers"
    __table_args__ = (UniqueConstraint("batch_id", "serial"),)

    id: Mapped[int] = primary_key()
    batch_id: Mapped[int] = mapped_column(ForeignKey("voucher_batches.id"))
    serial: Mapped[int] = mapped_column(Integer)
    code_hash: Mapped[bytes] = mapped_column(LargeBinary(32), unique=True, info=SECRET)
    redeemed_at: Mapped[datetime | None]
    payment_id: Mapped[int | None] = mapped_column(ForeignKey("payments.id"), unique=True)


class BankImport(Base):
    """A file of the bank that was read; the same file again changes nothing."""

    __tablename__ = "bank_imports"

    id: Mapped[int] = primary_key()
    public_id: Mapped[str] = public_id_column()
    file_hash: Mapped[bytes] = mapped_column(LargeBinary(32), unique=True)
    file_name: Mapped[str] = mapped_column(String(120))
    imported_by_id: Mapped[int | None] = mapped_column(ForeignKey("customers.id"))
    imported_at: Mapped[datetime]
    line_count: Mapped[int] = mapped_column(Integer)


class BankLineState(StrEnum):
    MATCHED = "matched"
    PROPOSED = "proposed"
    UNMATCHED = "unmatched"
    IGNORED = "ignored"


class BankLine(Base):
    """Money that arrived on the ISP's bank account. `key` is the bank's reference of it, or what
    makes it one of a kind, so that it counts once whatever file it comes in.

    `matched`: booked as `payment_id`; `proposed`: staff confirm `account_id`, or name another.
    """

    __tablename__ = "bank_lines"
    __table_args__ = (
        one_of("state", BankLineState),
        CheckConstraint("(state = 'matched') = (payment_id IS NOT NULL)", name="matched"),
        Index(None, "state"),
    )

    id: Mapped[int] = primary_key()
    public_id: Mapped[str] = public_id_column()
    import_id: Mapped[int] = mapped_column(ForeignKey("bank_imports.id"), index=True)
    key: Mapped[str] = mapped_column(String(120), unique=True)
    booked_on: Mapped[date]
    amount_minor: Mapped[int]
    currency: Mapped[str] = mapped_column(String(3))
    payer: Mapped[str] = mapped_column(String(200), info=PERSON)
    reference: Mapped[str] = mapped_column(String(400), info=PERSON)
    state: Mapped[str] = mapped_column(String(9))
    account_id: Mapped[int | None] = mapped_column(ForeignKey("accounts.id"), index=True)
    payment_id: Mapped[int | None] = mapped_column(ForeignKey("payments.id"), unique=True)
    decided_by_id: Mapped[int | None] = mapped_column(ForeignKey("customers.id"))


# When it is not paid --------------------------------------------------------------------------


class DunningStep(Base):
    """A step of the policy that was taken for an invoice; each is taken once. `step` names it
    as the policy does: "remind:-3", "fee" or monthly "fee:2026-03", "hold" and later "hold:2",
    "close"; once the invoice was settled and open again, "fee:was:17"."""

    __tablename__ = "dunning_steps"
    __table_args__ = (UniqueConstraint("invoice_id", "step"), Index(None, "account_id", "taken_on"))

    id: Mapped[int] = primary_key()
    account_id: Mapped[int] = mapped_column(ForeignKey("accounts.id"))
    invoice_id: Mapped[int] = mapped_column(ForeignKey("invoices.id"))
    step: Mapped[str] = mapped_column(String(40))
    taken_on: Mapped[date]
    charge_id: Mapped[int | None] = mapped_column(ForeignKey("charges.id"))


class DunningRest(Base):
    """That an account is left alone until and with `until_on`, as staff decided, with a reason."""

    __tablename__ = "dunning_rests"
    __table_args__ = (Index(None, "account_id", "until_on"),)

    id: Mapped[int] = primary_key()
    public_id: Mapped[str] = public_id_column()
    account_id: Mapped[int] = mapped_column(ForeignKey("accounts.id"))
    until_on: Mapped[date]
    reason: Mapped[str] = mapped_column(String(300), info=PERSON)
    made_by_id: Mapped[int | None] = mapped_column(ForeignKey("customers.id"))
    made_at: Mapped[datetime]
    ended_at: Mapped[datetime | None]


# Messages, activity, worker -----------------------------------------------------------------


class MessageState(StrEnum):
    QUEUED = "queued"
    SENT = "sent"
    UNCERTAIN = "uncertain"
    FAILED = "failed"


class Message(Base):
    """A message to send, written in the transaction of what it tells; the worker sends it."""

    __tablename__ = "messages"
    __table_args__ = (
        one_of("state", MessageState),
        Index(
            "ix_messages_due",
            "try_at",
            sqlite_where=text("try_at IS NOT NULL"),
            postgresql_where=text("try_at IS NOT NULL"),
        ),
    )

    id: Mapped[int] = primary_key()
    public_id: Mapped[str] = public_id_column()
    account_id: Mapped[int | None] = mapped_column(ForeignKey("accounts.id"), index=True)
    customer_id: Mapped[int | None] = mapped_column(ForeignKey("customers.id"), index=True)
    channel: Mapped[str] = mapped_column(String(10))
    kind: Mapped[str] = mapped_column(String(40))
    recipient: Mapped[str] = mapped_column(String(254), info=CONTACT)
    language: Mapped[str] = mapped_column(String(10))
    facts: Mapped[dict[str, Any]] = mapped_column(JSON, info=PERSON)
    state: Mapped[str] = mapped_column(String(10), default=MessageState.QUEUED)
    created_at: Mapped[datetime]
    sent_at: Mapped[datetime | None]
    try_at: Mapped[datetime | None]
    try_count: Mapped[int] = mapped_column(Integer, default=0)
    claimed_until_at: Mapped[datetime | None]


class Activity(Base):
    """One security or money event the customer can read; `digest` proves `facts` once sealed."""

    __tablename__ = "activity"
    __table_args__ = (
        Index(None, "account_id", "happened_at"),
        Index(None, "customer_id", "happened_at"),
    )

    id: Mapped[int] = primary_key()
    account_id: Mapped[int | None] = mapped_column(ForeignKey("accounts.id"))
    customer_id: Mapped[int | None] = mapped_column(ForeignKey("customers.id"))
    kind: Mapped[str] = mapped_column(String(40))
    facts: Mapped[dict[str, Any] | None] = mapped_column(JSON, info=PERSON)
    happened_at: Mapped[datetime]
    salt: Mapped[bytes] = mapped_column(LargeBinary(16))
    digest: Mapped[bytes] = mapped_column(LargeBinary(32))


class ActivitySeal(Base):
    """A hash over the events from `first_id` to `last_id` and over the seal before it."""

    __tablename__ = "activity_seals"

    id: Mapped[int] = mapped_column(BigId, primary_key=True, autoincrement=False)
    first_id: Mapped[int] = mapped_column(unique=True)
    last_id: Mapped[int]
    row_count: Mapped[int] = mapped_column(Integer)
    sealed_at: Mapped[datetime]
    hash: Mapped[bytes] = mapped_column(LargeBinary(32))


class WorkerBeat(Base):
    """When a worker was last alive."""

    __tablename__ = "worker_beats"

    name: Mapped[str] = mapped_column(String(40), primary_key=True)
    beat_at: Mapped[datetime]


class PlannedJob(Base):
    """Something the worker does at its hour, once for all nodes."""

    __tablename__ = "planned_jobs"

    id: Mapped[int] = primary_key()
    name: Mapped[str] = mapped_column(String(40), unique=True)
    due_at: Mapped[datetime | None]
    claimed_until_at: Mapped[datetime | None]
    done_at: Mapped[datetime | None]
    failed_at: Mapped[datetime | None]
    failure: Mapped[str] = mapped_column(String(500), default="")
