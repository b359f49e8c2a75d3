"""The pages of usage."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Any

from flask import Response, g, request
from flask_babel import gettext as _

from blueprints.dashboard.usage import bp, service
from blueprints.dashboard.usage.service import Carried, LineChoice
from core import charts, clock
from core.downloads import csv_answer
from core.forms import SpanForm
from core.htmx import render
from core.isp import current_isp
from core.units import format_data
from core.words import format_hour, format_month, language, month_letter

GB = 1_000_000_000
HIGHEST_PAGE = 10_000


def _today() -> date:
    return clock.today(current_isp().timezone)


def _lines() -> tuple[LineChoice | None, dict[str, Any]]:
    """The line that is asked for, and what a page says of the lines there are."""
    lines = service.list_lines(g.account_id)
    line = service.get_line(lines, request.args.get("line"))
    return line, {"line": line, "lines": lines if len(lines) > 1 else []}


def _chart(labels: list[str], carried: list[Carried], *, is_whole: bool = False) -> charts.Chart:
    """Download and upload stacked, or (`is_whole`) both as one."""
    highest = max((each.total_bytes for each in carried), default=0)
    whole = [[each.total_bytes] for each in carried]
    return charts.columns(
        [_("Download and upload")] if is_whole else [_("Download"), _("Upload")],
        labels,
        whole if is_whole else [[each.down_bytes, each.up_bytes] for each in carried],
        lambda amount: format_data(amount, language()) if amount else "0",
        GB if highest >= GB else GB // 1000,
    )


def _asked_day(today: date) -> date | None:
    try:
        day = date.fromisoformat(request.args.get("day", ""))
    except ValueError:
        return None
    return day if today - timedelta(days=400) <= day <= today else None


@bp.get("/", endpoint="period")
def period_page() -> Response:
    (line, shared), today = _lines(), _today()
    if line is None:
        return render("usage/none.html")
    day = _asked_day(today)
    hours = service.list_hours(line.line_id, day) if day is not None else []
    terms = service.find_terms(g.account_id, line.line_id, today)
    period = service.find_period(line.line_id, terms, today)
    days = list(period.days)
    return render(
        "usage/period.html",
        "hours",
        **shared,
        period=period,
        as_of=terms.as_of,
        today=today,
        day=day,
        hours=[(format_hour(at), carried) for at, carried in hours],
        hours_chart=_chart(
            [format_hour(at) for at, _each in hours],
            [carried for _each, carried in hours],
            is_whole=True,
        ),
        chart=_chart([str(on.day) for on, _carried in days], [carried for _on, carried in days]),
    )


@bp.get("/months", endpoint="months")
def months_page() -> Response:
    line, shared = _lines()
    if line is None:
        return render("usage/none.html")
    return _months_page(line, shared, SpanForm(_today()))


def _months_page(
    line: LineChoice, shared: dict[str, Any], form: SpanForm, status: int = 200
) -> Response:
    months = service.list_months(line.line_id, _today())
    return render(
        "usage/months.html",
        None,
        status,
        **shared,
        months=[(format_month(month), carried) for month, carried in months],
        chart=_chart(
            [month_letter(month) for month, _carried in reversed(months)],
            [carried for _month, carried in reversed(months)],
        ),
        form=form,
    )


@bp.get("/sessions", endpoint="sessions")
def sessions_page() -> Response:
    line, shared = _lines()
    if line is None:
        return render("usage/none.html")
    page = min(max(request.args.get("page", 1, type=int), 1), HIGHEST_PAGE)
    found = service.list_sessions(line.line_id, page)
    return render("usage/sessions.html", "session_rows", **shared, found=found)


@bp.get("/csv", endpoint="csv")
def usage_csv() -> Response:
    """A row for each day of the span, for a spreadsheet; bytes, not rounded."""
    (line, shared), form = _lines(), SpanForm(_today())
    if line is None:
        return render("usage/none.html")
    if not form.validate():
        return _months_page(line, shared, form, 422)
    from_on, to_on = form.days()
    return csv_answer(
        f"usage_{from_on}_{to_on}.csv",
        ("day", "up_bytes", "down_bytes", "total_bytes"),
        [
            (day, carried.up_bytes, carried.down_bytes, carried.total_bytes)
            for day, carried in service.list_days(line.line_id, from_on, to_on)
        ],
    )
