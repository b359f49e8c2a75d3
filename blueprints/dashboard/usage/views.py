"""The pages of usage."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Any

from flask import Response, g, request, url_for
from flask_babel import gettext as _
from werkzeug.wrappers import Response as BaseResponse

from blueprints.billing.periods import period_of
from blueprints.dashboard.equipment.offering import is_offered
from blueprints.dashboard.usage import bp, service
from blueprints.dashboard.usage.forms import AlertsForm
from blueprints.dashboard.usage.service import Carried, LineChoice
from blueprints.lines.allowances import top_ups
from blueprints.lines.allowances.errors import BoughtMeanwhile, NoTopUp, OfferChanged, PayFirst
from core import charts, clock
from core.db import db
from core.downloads import csv_answer
from core.form_guard import arrived_key
from core.forms import SpanForm, shown
from core.htmx import go_to, render
from core.isp import current_isp
from core.money import Money
from core.sessions import signed_in
from core.units import format_data
from core.words import format_hour, format_month, hour_of, language, month_letter

GB = 1_000_000_000
HIGHEST_PAGE = 10_000
DONE_WORDS = ("alerts", "top-up")


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


def _asked_day(today: date, name: str = "day") -> date | None:
    try:
        day = date.fromisoformat(request.args.get(name, ""))
    except ValueError:
        return None
    return day if _first_day(today) <= day <= today else None


def _first_day(today: date) -> date:
    """How far back pages lead: as far as days are kept."""
    return today - timedelta(days=400)


@bp.get("/", endpoint="period")
def period_page() -> Response:
    (line, shared), today = _lines(), _today()
    if line is None:
        return render("usage/none.html")
    day = _asked_day(today)
    hours = service.list_hours(line.line_id, day) if day is not None else []
    terms = service.find_terms(g.account_id, line.line_id, today)
    span = terms.span
    on = _asked_day(today, "on") or today
    if on >= span.from_on:
        period = service.find_period(line.line_id, terms, today)
    else:
        span = period_of(on, terms.bill_day)
        period = service.find_earlier(line.line_id, span)
    before_on = span.from_on - timedelta(days=1)
    days = list(period.days)
    return render(
        "usage/period.html",
        "hours",
        **shared,
        has_equipment=is_offered() and not line.is_closed,
        done=request.args.get("done") if request.args.get("done") in DONE_WORDS else None,
        period=period,
        as_of=terms.as_of,
        today=today,
        is_over=span != terms.span,
        before_on=before_on if before_on >= _first_day(today) else None,
        day=day,
        hours=[(format_hour(at), carried) for at, carried in hours],
        hours_chart=_chart(
            [str(hour_of(at)) for at, _each in hours],
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


# When to be told ------------------------------------------------------------------------------


@bp.get("/alerts", endpoint="alerts")
def alerts_page() -> Response:
    line, shared = _lines()
    if line is None:
        return render("usage/none.html")
    percents = service.find_percents(line.line_id)
    form = shown(AlertsForm, percents=", ".join(str(percent) for percent in percents))
    return render("usage/alerts.html", **shared, form=form)


@bp.post("/alerts", endpoint="alerts_post")
def alerts_post() -> Response | BaseResponse:
    (line, shared), form = _lines(), AlertsForm()
    if line is None:
        return render("usage/none.html", status=404)
    if not form.validate():
        return render("usage/alerts.html", status=422, **shared, form=form)
    path = _period_path(line, "alerts")
    return go_to(
        service.choose_percents(g.account_id, line.line_id, form.chosen, path, arrived_key())
    )


def _period_path(line: LineChoice, done: str) -> str:
    account = signed_in().account
    public_id = account.public_id if account else ""
    return url_for("usage.period", account_public_id=public_id, line=line.public_id, done=done)


# More data ------------------------------------------------------------------------------------


@bp.get("/top-up", endpoint="top_up")
def top_up_page() -> Response:
    line, shared = _lines()
    if line is None:
        return render("usage/none.html")
    return _top_up_page(line, shared)


@bp.post("/top-up", endpoint="top_up_post")
def top_up_post() -> Response | BaseResponse:
    line, shared = _lines()
    if line is None:
        raise NoTopUp
    try:
        path = top_ups.buy(
            g.account_id,
            line.line_id,
            signed_in().customer_id,
            request.form.get("stamp", "")[:60],
            _period_path(line, "top-up"),
            arrived_key(),
        )
    except (OfferChanged, BoughtMeanwhile, PayFirst) as refusal:
        return _top_up_page(line, shared, refusal.customer_message)
    return go_to(path)


def _top_up_page(line: LineChoice, shared: dict[str, Any], refusal: str = "") -> Response:
    offer = top_ups.find_offer(db.session(), g.account_id, line.line_id, _today())
    if offer is None:
        raise NoTopUp
    price = Money(offer.price_minor, current_isp().currency)
    status = 422 if refusal else 200
    if offer.is_held_unpaid:
        refusal = PayFirst().customer_message
    return render(
        "usage/top_up.html", None, status, **shared, offer=offer, price=price, refusal=refusal
    )
