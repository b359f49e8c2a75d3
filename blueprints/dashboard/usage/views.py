"""The pages of usage."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Any

from flask import Response, g, request

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


def _line() -> LineChoice | None:
    return service.get_line(g.account_id, request.args.get("line"))


def _chart(labels: list[str], carried: list[Carried]) -> charts.Chart:
    highest = max((each.total_bytes for each in carried), default=0)
    return charts.columns(
        ["down", "up"],
        labels,
        [[each.down_bytes, each.up_bytes] for each in carried],
        lambda amount: format_data(amount, language()) if amount else "0",
        GB if highest >= GB else GB // 1000,
    )


def _asked_day(today: date) -> date | None:
    try:
        day = date.fromisoformat(request.args.get("day", ""))
    except ValueError:
        return None
    return day if today - timedelta(days=400) <= day <= today else None


def _lines(line: LineChoice) -> dict[str, Any]:
    lines = service.list_lines(g.account_id)
    return {"line": line, "lines": lines if len(lines) > 1 else []}


@bp.get("/", endpoint="period")
def period_page() -> Response:
    line, today = _line(), _today()
    if line is None:
        return render("usage/none.html")
    day = _asked_day(today)
    hours = service.list_hours(line.line_id, day) if day is not None else []
    period = service.find_period(g.account_id, line.line_id, today)
    days = list(period.days)
    return render(
        "usage/period.html",
        "hours",
        **_lines(line),
        period=period,
        as_of=service.find_as_of(line.line_id),
        today=today,
        day=day,
        hours=[(format_hour(at), carried) for at, carried in hours],
        hours_chart=_chart(
            [format_hour(at) for at, _carried in hours], [carried for _at, carried in hours]
        ),
        chart=_chart([str(on.day) for on, _carried in days], [carried for _on, carried in days]),
    )


@bp.get("/months", endpoint="months")
def months_page() -> Response:
    line, today = _line(), _today()
    if line is None:
        return render("usage/none.html")
    months = service.list_months(line.line_id, today)
    return render(
        "usage/months.html",
        **_lines(line),
        months=[(format_month(month), carried) for month, carried in months],
        chart=_chart(
            [month_letter(month) for month, _carried in reversed(months)],
            [carried for _month, carried in reversed(months)],
        ),
        form=SpanForm(today),
    )


@bp.get("/sessions", endpoint="sessions")
def sessions_page() -> Response:
    line = _line()
    if line is None:
        return render("usage/none.html")
    page = min(max(request.args.get("page", 1, type=int), 1), HIGHEST_PAGE)
    sessions, page_count = service.list_sessions(line.line_id, page)
    return render(
        "usage/sessions.html",
        "session_rows",
        **_lines(line),
        sessions=sessions,
        page=min(page, page_count),
        page_count=page_count,
    )


@bp.get("/csv", endpoint="csv")
def usage_csv() -> Response:
    """A row for each day of the span, for a spreadsheet; bytes, not rounded."""
    line, form = _line(), SpanForm(_today())
    if line is None:
        return render("usage/none.html")
    if not form.validate():
        months = service.list_months(line.line_id, _today())
        return render(
            "usage/months.html",
            status=422,
            **_lines(line),
            months=[(format_month(month), carried) for month, carried in months],
            chart=_chart([], []),
            form=form,
        )
    from_on, to_on = form.days()
    return csv_answer(
        f"usage_{from_on}_{to_on}.csv",
        ("day", "up_bytes", "down_bytes", "total_bytes"),
        [
            (day, carried.up_bytes, carried.down_bytes, carried.total_bytes)
            for day, carried in service.list_days(line.line_id, from_on, to_on)
        ],
    )
