"""Broadband Facts: the label of an internet plan that 47 CFR 8.1 asks for.

An ISP without an FCC registration number (`frn` of the catalog) has no labels.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date

from sqlalchemy import select

from blueprints.dashboard.plans import offers
from core import clock
from core.db import db
from core.downloads import Cell
from core.isp import IspView, current_isp
from core.money import Money
from models import Isp, Plan, PlanKind

CSV_HEADER = (
    "unique_plan_id",
    "provider",
    "plan",
    "connection",
    "monthly_price",
    "introductory_price",
    "introductory_months",
    "contract_months",
    "one_time_fee",
    "early_termination_fee",
    "government_taxes",
    "typical_download_mbps",
    "typical_upload_mbps",
    "typical_latency_ms",
    "data_included_gb",
    "additional_data_price",
    "additional_data_gb",
    "support_phone",
    "support_email",
    "offered_until",
)
_KBPS_IN_MBPS = 1000
_BYTES_IN_GB = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Label:
    """What the label of a plan says; speeds in kbit/s, data in bytes, prices before tax."""

    unique_id: str
    provider: str
    support_phone: str
    support_email: str
    name: str
    technology: str
    price: Money
    intro: Money | None
    intro_months: int | None
    contract_months: int | None
    setup: Money
    termination: Money
    down_kbps: int
    up_kbps: int
    latency_ms: int | None
    included_bytes: int | None
    overage: Money | None
    overage_bytes: int | None


def find_label(plan: Plan) -> Label | None:
    """The plan's label; None where it needs none or the ISP has no registration number."""
    isp = current_isp()
    return make(plan, isp, clock.today(isp.timezone))


def make(plan: Plan, isp: IspView | Isp, today: date) -> Label | None:
    """The same as it is `today` with this ISP."""
    if plan.kind != PlanKind.INTERNET or not isp.frn or plan.plan_id_suffix is None:
        return None
    currency = isp.currency

    def money(minor: int | None) -> Money:
        return Money(minor or 0, currency)

    return Label(
        # F: fixed broadband. The identifier is never used again for another plan.
        unique_id=f"F{isp.frn}{plan.plan_id_suffix}",
        provider=isp.name,
        support_phone=isp.support_phone,
        support_email=isp.support_email,
        name=plan.name,
        technology=plan.technology,
        price=money(offers.list_price(plan, today)),
        intro=None if plan.intro_price_minor is None else money(plan.intro_price_minor),
        intro_months=plan.intro_months,
        contract_months=plan.contract_months,
        setup=money(plan.setup_minor),
        termination=money(plan.early_termination_minor),
        down_kbps=plan.typical_down_kbps or plan.down_kbps or 0,
        up_kbps=plan.typical_up_kbps or plan.up_kbps or 0,
        latency_ms=plan.typical_latency_ms,
        included_bytes=plan.data_included_bytes,
        overage=None if plan.overage_minor is None else money(plan.overage_minor),
        overage_bytes=plan.overage_bytes,
    )


def list_labels() -> list[Label]:
    """The labels of all internet plans that are offered, the cheapest first."""
    plans = db.session.scalars(
        select(Plan)
        .where(Plan.kind == PlanKind.INTERNET.value, Plan.is_offered)
        .order_by(Plan.price_minor, Plan.code)
    )
    return [label for plan in plans if (label := find_label(plan)) is not None]


def as_rows(labels: Iterable[tuple[Label, date | None]]) -> Iterator[Sequence[Cell]]:
    """The labels as rows under CSV_HEADER, for programs that compare; each with the day from which
    it is no longer offered."""
    for label, until_on in labels:
        yield (
            label.unique_id,
            label.provider,
            label.name,
            "fixed",
            label.price,
            label.intro,
            label.intro_months,
            label.contract_months or 0,
            label.setup,
            label.termination,
            "varies by location",
            _in_units(label.down_kbps, _KBPS_IN_MBPS),
            _in_units(label.up_kbps, _KBPS_IN_MBPS),
            label.latency_ms,
            "unlimited"
            if label.included_bytes is None
            else _in_units(label.included_bytes, _BYTES_IN_GB),
            label.overage,
            None if label.overage_bytes is None else _in_units(label.overage_bytes, _BYTES_IN_GB),
            label.support_phone,
            label.support_email,
            until_on,
        )


def _in_units(amount: int, unit: int) -> str:
    """The amount with as many decimals as it needs."""
    whole, rest = divmod(amount, unit)
    decimals = f"{rest:0{len(str(unit)) - 1}d}".rstrip("0")
    return f"{whole}.{decimals}" if decimals else str(whole)
