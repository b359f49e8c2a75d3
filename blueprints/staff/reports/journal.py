"""The journal as a file, for whoever does the bookkeeping."""

from __future__ import annotations

from datetime import date, timedelta

from flask import Response
from sqlalchemy.orm import Session

from blueprints.billing import export as books
from blueprints.staff.reports import bp
from blueprints.staff.views import asking
from core import activity, clock, data_access
from core.db import db, reading, unit_of_work
from core.downloads import csv_answer, text_answer
from core.errors import NotFound
from core.forms import SpanForm
from core.htmx import render
from core.isp import current_isp
from core.step_up import recent_password

MOST_POSTINGS = 100_000
"""More than a request should gather; the command has no such limit."""
FIELDS = ("number", "amounts of entries")
CSV, BEANCOUNT = "csv", "beancount"


@bp.get("/journal")
def journal() -> Response:
    return _page(_form())


@bp.get("/journal/<file_format>")
@recent_password
def journal_file(file_format: str) -> Response:
    """The file. That it was made is noted, for it holds what every account was billed and paid."""
    if file_format not in (CSV, BEANCOUNT):
        raise NotFound
    form = _form()
    if not form.validate():
        return _page(form)
    first_on, last_on = form.days()
    days = books.Days(first_on, last_on)
    with reading() as session:
        if books.count_postings(session, days) > MOST_POSTINGS:
            return _page(form)
        answer = _make(session, file_format, days)
    by = asking.reader()

    def note(session: Session) -> None:
        event = activity.Event("ledger_exported", clock.now(), customer_id=by.customer_id)
        activity.record(session, [event])
        data_access.note(session, by, FIELDS, f"journal {first_on} to {last_on}")

    unit_of_work(note)
    return answer


def _make(session: Session, file_format: str, days: books.Days) -> Response:
    name = f"journal_{days.first_on}_{days.last_on}"
    if file_format == BEANCOUNT:
        lines = books.beancount(session, days)
        return text_answer(f"{name}.beancount", "".join(f"{line}\n" for line in lines))
    codes = books.Codes(dict(current_isp().billing_rules.journal_codes))
    return csv_answer(f"{name}.csv", books.COLUMNS, books.postings(session, days, codes))


def _form() -> SpanForm:
    """Of the month before this one, where nothing else is asked for."""
    this_month = clock.today(current_isp().timezone).replace(day=1)
    return SpanForm(this_month - timedelta(days=1), _first_of_month)


def _first_of_month(day: date) -> date:
    return day.replace(day=1)


def _page(form: SpanForm) -> Response:
    """What would be in the file, and where it is; what is wrong with the days."""
    is_valid = form.validate()
    count = books.count_postings(db.session(), books.Days(*form.days())) if is_valid else 0
    is_too_much = count > MOST_POSTINGS
    return render(
        "staff/journal.html",
        None,
        200 if is_valid and not is_too_much else 422,
        form=form,
        count=count,
        is_too_much=is_too_much,
        most=MOST_POSTINGS,
    )
