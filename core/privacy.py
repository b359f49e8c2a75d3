"""Of every column whose data it holds, and how long its rows are kept (bar 79).

`info={"privacy": …}` in models.py marks what is personal. Every other column is named here, table
by table, so that a new one is no accident: a test fails until it is in one of the two.
docs/privacy.md shows the table.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from sqlalchemy import String, cast, delete, or_, select, update
from sqlalchemy.orm import Session

from core import erasures
from core.db import reading, unit_of_work
from models import Base, CallImport, CallRecord, ContactChange, Customer, Invitation, Message

PENDING_KEPT = timedelta(days=90)
MESSAGES_KEPT = timedelta(days=400)
CALLS_KEPT = timedelta(days=549)
"""Eighteen months, in which bills with calls on them must be proven (47 CFR 42.6)."""
EMPTY_MESSAGE: Mapping[str, Any] = {"recipient": "", "facts": {}}
"""What is in the place of a person's data in a message when the online account is closed."""


_AT_ONCE = 500
_OLD_AT_ONCE = 2_000


class Privacy(StrEnum):
    """Whose data a column holds."""

    NONE = "none"
    PERSON = "person"
    CONTACT = "contact"
    SECRET = "secret"  # noqa: S105 - the name of a class of columns


class Kept(StrEnum):
    """How long the rows of a table are kept, in the words of the documentation."""

    SETTINGS = "as long as the portal runs; nobody's data"
    BOOKS = "for good: the books and what tax law asks to be kept"
    CONTRACT = "as long as the contract and its books"
    TRAIL = "for good; what an event tells of a person goes when the online account is closed"
    CLOSED = "until the online account is closed, then pseudonymised or deleted"
    SESSION = "a day after the session ended"
    DEVICE = "400 days after the device was last seen, or until the online account is closed"
    ATTEMPT = "two days"
    FORM_KEY = "seven days"
    FLOW = "a day after it ran out"
    LETTER = "90 days after it ended"
    USAGE = "hours 35 days, days 13 months, sessions 100 days"
    CALL = "18 months after the call"
    PENDING = "90 days after it ran out"
    MESSAGE = "400 days; emptied with the online account, what waits then once it has gone"


@dataclass(frozen=True, slots=True)
class Table:
    """How long the rows are kept, and the names of the columns that hold nobody's data."""

    kept: Kept
    plain: str


TABLES: dict[str, Table] = {
    "accounts": Table(
        Kept.CONTRACT,
        "id public_id number status area_code group_code language bill_day opened_on "
        "billed_through_on currency balance_minor revision",
    ),
    "activity": Table(
        Kept.TRAIL,
        "id account_id customer_id kind happened_at salt digest",
    ),
    "activity_seals": Table(
        Kept.TRAIL,
        "id first_id last_id row_count sealed_at hash",
    ),
    "adjustments": Table(
        Kept.BOOKS,
        "id public_id key account_id is_credit amount_minor state asked_by_id "
        "approved_by_id invoice_id amounts created_at ended_at entry_id",
    ),
    "allocations": Table(
        Kept.BOOKS,
        "id invoice_id entry_id amount_minor created_at",
    ),
    "areas": Table(
        Kept.SETTINGS,
        "code name",
    ),
    "arrangements": Table(
        Kept.BOOKS,
        "id public_id account_id customer_id agreed_by_id state total_minor created_at ended_at",
    ),
    "autopay_mandates": Table(
        Kept.BOOKS,
        "id public_id account_id customer_id method_id days_before ceiling_minor "
        "range_from_minor range_to_minor consent consent_language consented_at ended_at "
        "ended_because",
    ),
    "bank_imports": Table(
        Kept.BOOKS,
        "id public_id file_hash file_name imported_by_id imported_at line_count",
    ),
    "bank_lines": Table(
        Kept.BOOKS,
        "id public_id import_id key booked_on amount_minor currency state account_id "
        "payment_id decided_by_id",
    ),
    "bill_runs": Table(
        Kept.BOOKS,
        "id public_id as_of_on state is_preview planned_count planned_minor found account_count "
        "done_count issued_count issued_minor accepted_minor stopped_because started_by_id "
        "started_at beat_at ended_at stop_asked_at stopped_by_id revision",
    ),
    "call_imports": Table(
        Kept.CALL,
        "id public_id file_name imported_by_id imported_at ended_at kept_count known_count "
        "refused_count columns",
    ),
    "call_records": Table(
        Kept.CALL,
        "id key content_key account_id number_id import_id amount_minor month_on charge_id",
    ),
    "charges": Table(
        Kept.BOOKS,
        "id public_id account_id is_credit kind amount_minor added_by_id created_at from_on "
        "taxes invoice_id cancelled_at",
    ),
    "contact_changes": Table(
        Kept.PENDING,
        "id public_id customer_id account_id kind replaces_id asked_at expires_at ended_at",
    ),
    "contacts": Table(
        Kept.CONTRACT,
        "id account_id customer_id kind since_on ended_on",
    ),
    "counters": Table(
        Kept.BOOKS,
        "name next_value",
    ),
    "customer_groups": Table(
        Kept.SETTINGS,
        "code name dunning",
    ),
    "customers": Table(
        Kept.CLOSED,
        "id public_id language is_disabled session_generation revision created_at "
        "failed_in_a_row password_disabled_at",
    ),
    "data_accesses": Table(
        Kept.TRAIL,
        "id reader_id account_id customer_id fields read_at",
    ),
    "devices": Table(
        Kept.DEVICE,
        "id customer_id first_seen_at last_seen_at trusted_until_at",
    ),
    "dispute_posts": Table(
        Kept.BOOKS,
        "id dispute_id author_id is_staff posted_at",
    ),
    "disputes": Table(
        Kept.BOOKS,
        "id public_id account_id customer_id invoice_id position amount_minor state "
        "decided_by_id credit_note_id adjustment_id created_at ended_at",
    ),
    "dunning_rests": Table(
        Kept.BOOKS,
        "id public_id account_id until_on made_by_id made_at ended_at",
    ),
    "dunning_steps": Table(
        Kept.BOOKS,
        "id account_id invoice_id step taken_on charge_id",
    ),
    "factor_resets": Table(
        Kept.CLOSED,
        "id public_id customer_id state asked_at proofed_at proofed_by_id approved_by_id ended_at",
    ),
    "factors": Table(
        Kept.CLOSED,
        "id public_id customer_id kind last_step sign_count contact_id created_at "
        "confirmed_at last_used_at",
    ),
    "flows": Table(
        Kept.FLOW,
        "id kind step account_id customer_id created_at expires_at ended_at",
    ),
    "form_keys": Table(
        Kept.FORM_KEY,
        "key_hash subject content_hash result arrived_at",
    ),
    "gateway_customers": Table(
        Kept.CONTRACT,
        "gateway customer_id account_id",
    ),
    "gateway_notices": Table(
        Kept.BOOKS,
        "gateway event_id received_at",
    ),
    "invitations": Table(
        Kept.PENDING,
        "id public_id account_id invited_by_id role kind created_at expires_at ended_at "
        "accepted_by_id",
    ),
    "invoice_balances": Table(
        Kept.BOOKS,
        "invoice_id account_id open_minor settled_at",
    ),
    "invoice_lines": Table(
        Kept.BOOKS,
        "invoice_id position kind ledger description subscription_id quantity rate_bp "
        "amount_minor period_from period_to corrects_position",
    ),
    "invoices": Table(
        Kept.BOOKS,
        "id public_id number kind account_id entry_id issued_on due_on period_from "
        "period_to total_minor tax_minor currency line_count corrects_id run_id",
    ),
    "isp": Table(
        Kept.SETTINGS,
        "id revision name id_name currency timezone languages support_phone support_email "
        "accent accent_dark logo_svg terms_days frn pay_how is_demo "
        "requires_second_factor requires_mixed_password contact_rest_days billing_hour "
        "postal_address billing_rules bank_account",
    ),
    "journal_entries": Table(
        Kept.BOOKS,
        "id key kind account_id booked_on description line_count created_at",
    ),
    "journal_lines": Table(
        Kept.BOOKS,
        "entry_id position ledger account_id amount_minor currency",
    ),
    "line_holds": Table(
        Kept.CONTRACT,
        "id line_id reason since_at released_at",
    ),
    "line_openings": Table(
        Kept.CONTRACT,
        "id line_id from_at until_at",
    ),
    "lines": Table(
        Kept.CONTRACT,
        "id public_id account_id is_closed down_kbps up_kbps wanted_state reached_state "
        "reached_down_kbps reached_up_kbps "
        "opened_until_at sync_at sync_count sync_failure claimed_until_at alert_percents "
        "look_at slow_down_kbps slow_up_kbps limited_until_on",
    ),
    "maintenance": Table(
        Kept.SETTINGS,
        "id is_on from_at until_at messages",
    ),
    "memberships": Table(
        Kept.CLOSED,
        "customer_id account_id role",
    ),
    "message_choices": Table(
        Kept.CLOSED,
        "customer_id topic channel is_on",
    ),
    "messages": Table(
        Kept.MESSAGE,
        "id public_id account_id customer_id channel kind language state created_at "
        "sent_at try_at try_count claimed_until_at",
    ),
    "moves": Table(
        Kept.CONTRACT,
        "id public_id account_id customer_id wished_on state move_on area_code change_id "
        "decided_by_id created_at ended_at due_at claimed_until_at",
    ),
    "nases": Table(
        Kept.SETTINGS,
        "id name heard_at rebooted_at lacks_gigawords doubted_at",
    ),
    "one_time_codes": Table(
        Kept.FLOW,
        "id purpose bound_to channel contact_id created_at expires_at ended_at",
    ),
    "one_time_links": Table(
        Kept.CLOSED,
        "id purpose account_id customer_id created_at expires_at ended_at",
    ),
    "passkey_challenges": Table(
        Kept.FLOW,
        "bound_to expires_at",
    ),
    "payment_methods": Table(
        Kept.CONTRACT,
        "id public_id key account_id customer_id gateway hosted_url kind expires_on "
        "told_on is_default state failure created_at ended_at ask_at ask_count "
        "claimed_until_at",
    ),
    "payment_reversals": Table(
        Kept.BOOKS,
        "id public_id key kind payment_id account_id amount_minor currency state "
        "gateway_reference decline_reason asked_by_id approved_by_id created_at ended_at "
        "entry_id ask_at ask_count claimed_until_at",
    ),
    "payments": Table(
        Kept.BOOKS,
        "id public_id key account_id customer_id invoice_id amount_minor currency state "
        "revision gateway gateway_reference hosted_url method method_id planned_id "
        "taken_by_id note decline_reason created_at ended_at entry_id ask_at ask_count "
        "claimed_until_at",
    ),
    "planned_jobs": Table(
        Kept.SETTINGS,
        "id name due_at claimed_until_at done_at failed_at failure",
    ),
    "plan_labels": Table(
        Kept.SETTINGS,
        "id plan_id unique_id facts from_on until_on",
    ),
    "plan_suffixes": Table(
        Kept.SETTINGS,
        "suffix plan_id",
    ),
    "planned_payments": Table(
        Kept.BOOKS,
        "id public_id kind account_id customer_id method_id mandate_id invoice_id "
        "arrangement_id amount_minor due_on state failure told_at created_at ended_at "
        "try_at try_count claimed_until_at",
    ),
    "plans": Table(
        Kept.SETTINGS,
        "id code kind name is_offered technology price_minor intro_price_minor "
        "intro_months setup_minor contract_months early_termination_minor down_kbps "
        "up_kbps typical_down_kbps typical_up_kbps typical_latency_ms data_included_bytes "
        "overage_minor overage_bytes over_rule slow_down_kbps slow_up_kbps top_up_bytes "
        "top_up_minor top_up_days plan_id_suffix changes_to requires requires_kind "
        "channels streaming features areas excludes needs_staff price_steps withdrawn_at",
    ),
    "phone_numbers": Table(
        Kept.CONTRACT,
        "id public_id account_id subscription_id from_on ended_on pending_at sync_at sync_count "
        "sync_failure claimed_until_at",
    ),
    "pauses": Table(
        Kept.CONTRACT,
        "id public_id account_id customer_id from_on until_on counts_until_on kinds "
        "subscription_id is_prolonging prolonged state quote created_at ended_at due_at "
        "claimed_until_at",
    ),
    "plan_changes": Table(
        Kept.CONTRACT,
        "id public_id account_id customer_id from_id to_plan_id to_id is_end ended effective_on "
        "state quote charges decided_by_id created_at ended_at due_at claimed_until_at",
    ),
    "postal_letters": Table(
        Kept.LETTER,
        "id public_id account_id flow_id contact_id asked_at printed_at printed_by_id ended_at",
    ),
    "price_changes": Table(
        Kept.BOOKS,
        "id public_id plan_id from_on was_minor price_minor existing state planned_by_id "
        "withdrawn_by_id created_at ended_at tell_on told_id told_at told_count unreached_count "
        "off_id due_at claimed_until_at",
    ),
    "recovery_codes": Table(
        Kept.CLOSED,
        "id customer_id created_at confirmed_at used_at",
    ),
    "search_terms": Table(
        Kept.CONTRACT,
        "account_id",
    ),
    "sessions": Table(
        Kept.SESSION,
        "id customer_id generation is_own_device created_at last_used_at expires_at "
        "password_at ended_at kept_until_at is_staff has_second_factor viewer_id "
        "viewer_session_id",
    ),
    "sign_in_attempts": Table(
        Kept.ATTEMPT,
        "id state tried_at",
    ),
    "staff_members": Table(
        Kept.CLOSED,
        "customer_id role added_at is_disabled",
    ),
    "subscriptions": Table(
        Kept.CONTRACT,
        "id public_id account_id plan_id line_id started_on ended_on billed_until_on "
        "billed_price_minor intro_price_minor intro_until_on billed_taxes bound_until_on "
        "termination_minor paused billed_paused price_minor priced_on billed_prices "
        "elsewhere_until_on",
    ),
    "tax_exemptions": Table(
        Kept.CONTRACT,
        "account_id tax_code from_on to_on",
    ),
    "taxes": Table(
        Kept.SETTINGS,
        "code name rate_bp flat_minor applies_to from_on to_on areas",
    ),
    "top_up_uses": Table(
        Kept.BOOKS,
        "top_up_id period_on",
    ),
    "top_ups": Table(
        Kept.BOOKS,
        "id public_id key line_id customer_id amount_bytes bought_at expires_on charge_id",
    ),
    "usage_alerts": Table(
        Kept.USAGE,
        "line_id period_on percent told_at",
    ),
    "usage_blocks": Table(
        Kept.BOOKS,
        "line_id period_on number count data_bytes charge_id",
    ),
    "usage_days": Table(
        Kept.USAGE,
        "line_id day_on",
    ),
    "usage_marks": Table(
        Kept.USAGE,
        "line_id period_on subscription_id began_on earned",
    ),
    "usage_sessions": Table(
        Kept.USAGE,
        "id line_id nas_id session started_at counted_at counted_seconds seen_at ended_at "
        "interval_seconds is_stale is_stopped is_start_guessed lacks_gigawords is_doubted "
        "cause",
    ),
    "usage_sources": Table(
        Kept.SETTINGS,
        "id name cursor due_at claimed_until_at read_at failed_at failure",
    ),
    "voucher_batches": Table(
        Kept.BOOKS,
        "id public_id name amount_minor currency voucher_count made_by_id made_at "
        "expires_on cancelled_at",
    ),
    "vouchers": Table(
        Kept.BOOKS,
        "id batch_id serial redeemed_at payment_id",
    ),
    "worker_beats": Table(
        Kept.SETTINGS,
        "name beat_at",
    ),
}


def unclassified() -> list[str]:
    """Columns that are in neither place, or in both, and names here that no column has."""
    found = []
    for table in Base.metadata.sorted_tables:
        known = TABLES.get(table.name)
        plain = set(known.plain.split()) if known is not None else set()
        found += [
            f"{table.name}.{column.name}"
            for column in table.columns
            if ("privacy" in column.info) == (column.name in plain)
        ]
        found += [f"{table.name}.{name}" for name in plain - set(table.columns.keys())]
    found += sorted(TABLES.keys() - Base.metadata.tables.keys())
    return found


def class_of(table: str, column: str) -> Privacy:
    """Whose data a column holds."""
    info = Base.metadata.tables[table].columns[column].info
    return Privacy(info.get("privacy", Privacy.NONE))


def as_markdown() -> str:
    """The table of docs/privacy.md."""
    lines = ["| table | what of it is personal | kept |", "|---|---|---|"]
    lines += [f"| {name} | {_personal(name) or '–'} | {TABLES[name].kept} |" for name in _names()]
    return "\n".join(lines)


def _names() -> Iterator[str]:
    yield from sorted(TABLES)


def _personal(name: str) -> str:
    columns = Base.metadata.tables[name].columns
    marked = [(column.name, class_of(name, column.name)) for column in columns]
    return ", ".join(f"{column} ({kind})" for column, kind in marked if kind is not Privacy.NONE)


def delete_old(session: Session, now: datetime) -> None:
    """Delete messages, calls, invitations and new contacts that are older than they are kept."""
    # The oldest alone are looked at: all others wait while this unit of work goes on.
    oldest = select(Message.id).order_by(Message.id).limit(_OLD_AT_ONCE)
    session.execute(
        delete(Message).where(Message.id.in_(oldest), Message.created_at < now - MESSAGES_KEPT)
    )
    _delete_calls(session, now - CALLS_KEPT)
    session.execute(delete(ContactChange).where(ContactChange.expires_at < now - PENDING_KEPT))
    session.execute(delete(Invitation).where(Invitation.expires_at < now - PENDING_KEPT))


def _delete_calls(session: Session, before: datetime) -> None:
    """Delete calls that began earlier, and what is left of the files they came in."""
    oldest = select(CallRecord.id).order_by(CallRecord.started_at).limit(_OLD_AT_ONCE)
    session.execute(
        delete(CallRecord).where(CallRecord.id.in_(oldest), CallRecord.started_at < before)
    )
    of_file = select(CallRecord.id).where(CallRecord.import_id == CallImport.id)
    session.execute(delete(CallImport).where(CallImport.imported_at < before, ~of_file.exists()))


def empty_messages_of_erased() -> None:
    """Empty what waited, or was leaving, when its reader's online account was closed, and is over
    now."""
    # Every message is looked at: not within a unit of work, for which all others would wait.
    with reading() as session:
        found = session.scalars(
            select(Message.id)
            .where(
                Message.customer_id.in_(select(Customer.id).where(erasures.is_erased())),
                Message.try_at.is_(None),
                or_(Message.recipient != "", cast(Message.facts, String) != "{}"),
            )
            .limit(_AT_ONCE)
        ).all()

    def work(session: Session) -> None:
        session.execute(update(Message).where(Message.id.in_(found)).values(**EMPTY_MESSAGE))

    if found:
        unit_of_work(work)
