"""The pages of reports: a list of them, each as page and as CSV."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, timedelta

from flask import Response
from flask_babel import lazy_gettext as _l
from flask_babel.speaklater import LazyString

from blueprints.staff.reports import bp, owed, paid, sold
from blueprints.staff.reports.report import Report
from core import clock
from core.downloads import csv_answer
from core.errors import NotFound
from core.forms import SpanForm, a_year_until
from core.htmx import render
from core.isp import current_isp


@dataclass(frozen=True, slots=True)
class Kind:
    """A report: its name in addresses, its words, and what makes it of the first and the last day.
    `is_of_a_day`: it says how things stood at the end of the last one."""

    name: str
    title: LazyString
    about: LazyString
    make: Callable[[date, date], Report]
    usual_days: int | None = None
    is_of_a_day: bool = False


KINDS = (
    Kind(
        "receivables",
        _l("What is owed, by age"),
        _l("Open bills by how long they are overdue, and credit that is not used."),
        owed.aged,
        is_of_a_day=True,
    ),
    Kind(
        "revenue",
        _l("Revenue by plan and area"),
        _l("What bills charge before tax, less what was credited."),
        sold.revenue,
    ),
    Kind(
        "payments",
        _l("Payments by day and kind"),
        _l("What arrived and how, and what went back."),
        paid.payments,
        usual_days=31,
    ),
    Kind(
        "autopay",
        _l("Share of autopay"),
        _l("How many payments come by themselves."),
        paid.autopay,
    ),
    Kind(
        "failed-payments",
        _l("Failed payments"),
        _l("Payments that were declined, by the reason given."),
        paid.failed,
    ),
    Kind(
        "tax",
        _l("Tax"),
        _l("What bills have added for the authorities, by tax."),
        sold.tax,
    ),
)
_BY_NAME = {kind.name: kind for kind in KINDS}


@bp.get("/", endpoint="list")
def report_list() -> Response:
    return render("staff/reports.html", kinds=KINDS)


@bp.get("/<name>")
def report(name: str) -> Response:
    kind = _get_kind(name)
    form = _form(kind)
    made = kind.make(*form.days()) if form.validate() else None
    return _page(kind, form, made)


@bp.get("/<name>/csv")
def report_csv(name: str) -> Response:
    """The report as a file, for a spreadsheet."""
    kind = _get_kind(name)
    form = _form(kind)
    if not form.validate():
        return _page(kind, form, None)
    made = kind.make(*form.days())
    first_on, last_on = form.days()
    return csv_answer(f"{name}_{first_on}_{last_on}.csv", made.columns, made.all_rows)


def _get_kind(name: str) -> Kind:
    kind = _BY_NAME.get(name)
    if kind is None:
        raise NotFound
    return kind


def _form(kind: Kind) -> SpanForm:
    today = clock.today(current_isp().timezone)
    if kind.is_of_a_day:
        return SpanForm(today, lambda last_on: last_on)
    if kind.usual_days is not None:
        days = timedelta(days=kind.usual_days - 1)
        return SpanForm(today, lambda last_on: last_on - days)
    return SpanForm(today, a_year_until)


def _page(kind: Kind, form: SpanForm, made: Report | None) -> Response:
    return render(
        "staff/report.html",
        None,
        200 if made is not None else 422,
        kind=kind,
        form=form,
        report=made,
    )
