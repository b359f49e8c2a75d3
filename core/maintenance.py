"""Closing the portal for a while, and saying so beforehand.

It is a row, which every node reads with the ISP's settings, and beside it a file in the data folder
of the node where the command ran: that node stays closed, without asking the database, while the
database is migrated, restored or away. Nothing is written during maintenance: pages and gateways'
notices are answered 503 with Retry-After (a gateway sends its notice again), the page that a
customer comes back to from the bank shows what is known, and the worker rests.
"""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

from flask import Response, request, url_for
from markupsafe import Markup
from sqlalchemy import delete, update
from sqlalchemy.orm import Session

from core import clock, constant_pages, htmx, isp
from core.db import count_changed, unit_of_work
from core.isp import IspView, MaintenanceWindow, current_isp
from models import Isp, Maintenance

log = logging.getLogger("lastmile.maintenance")

FILE = "maintenance.json"
LONGEST = timedelta(days=14)
LONGEST_MESSAGE = 300
LOOK_EVERY_SECONDS = 0.25
FIRST_RETRY, LAST_RETRY, OVERDUE_RETRY = 60, 3600, 300


class TimeUnclear(ValueError):
    """A time that was typed is none, or makes no sense; the text says why."""


# Switching ------------------------------------------------------------------------------------


def read_time(typed: str, timezone: str) -> datetime:
    """The instant that `typed` means in `timezone`: `2026-11-25 02:00`, `02:00` (the next one), or
    ISO 8601 with a zone of its own. Raises TimeUnclear."""
    zone = ZoneInfo(timezone)
    now = clock.now().astimezone(zone)
    text = typed.strip()
    is_time_only = len(text) <= 5 and ":" in text
    try:
        found = datetime.fromisoformat(f"{now.date()} {text:0>5}" if is_time_only else text)
    except ValueError:
        raise TimeUnclear(
            f"{typed!r} is no time: write it like 02:00, '2026-11-25 02:00' or 2026-11-25T02:00Z"
        ) from None
    if found.tzinfo is None:
        local = found.replace(tzinfo=zone)
        if is_time_only and local <= now:
            local = (found + timedelta(days=1)).replace(tzinfo=zone)
        if local.astimezone(ZoneInfo("UTC")).astimezone(zone).replace(tzinfo=None) != (
            local.replace(tzinfo=None)
        ):
            raise TimeUnclear(f"{typed!r} does not exist in {timezone}: the clocks are put forward")
        found = local
    return found.astimezone(ZoneInfo("UTC"))


def check_window(from_at: datetime, until_at: datetime) -> None:
    """Raise TimeUnclear for a window that is over, ends before it begins, or lasts for weeks."""
    if until_at <= clock.now():
        raise TimeUnclear("the end lies in the past")
    if until_at <= from_at:
        raise TimeUnclear("the end comes before the beginning")
    if until_at - from_at > LONGEST:
        raise TimeUnclear(f"it would last longer than {LONGEST.days} days: is the date right?")


def set_window(window: MaintenanceWindow, folder: Path) -> None:
    """Announce or begin maintenance on every node; with `is_on`, also in a file in `folder`."""

    def work(session: Session) -> None:
        session.merge(
            Maintenance(
                id=1,
                is_on=window.is_on,
                from_at=window.from_at,
                until_at=window.until_at,
                messages=dict(window.messages),
            )
        )
        session.execute(update(Isp).values(revision=Isp.revision + 1))

    unit_of_work(work)
    isp.forget()
    if window.is_on:
        _write(folder / FILE, replace(current_isp(), maintenance=window))
    else:
        (folder / FILE).unlink(missing_ok=True)
    forget_file()


def clear_window(folder: Path) -> bool:
    """End maintenance, or take an announcement back; False when there was neither."""

    def work(session: Session) -> bool:
        gone = count_changed(session, delete(Maintenance))
        if gone:
            session.execute(update(Isp).values(revision=Isp.revision + 1))
        return bool(gone)

    had_row = unit_of_work(work)
    isp.forget()
    had_file = (folder / FILE).exists()
    (folder / FILE).unlink(missing_ok=True)
    forget_file()
    return had_row or had_file


# The file -------------------------------------------------------------------------------------


_NOT_SHOWN = ("bank", "billing_rules", "dunning", "pause", "price_notice_days")
"""What the pages that stay open say nothing of."""


def _write(path: Path, view: IspView) -> None:
    facts = asdict(replace(view, maintenance=None))
    for name in _NOT_SHOWN:
        del facts[name]
    window = view.maintenance
    if window is not None:
        facts["maintenance"] = {
            "from_at": window.from_at.isoformat(),
            "until_at": window.until_at.isoformat(),
            "messages": dict(window.messages),
        }
    temporary = path.with_name(f".{path.name}-{os.getpid()}")
    temporary.write_text(json.dumps(facts))
    temporary.chmod(0o600)
    temporary.replace(path)


def _read(path: Path) -> IspView:
    facts: dict[str, Any] = json.loads(path.read_text())
    window = facts.pop("maintenance")
    facts["languages"] = tuple(facts["languages"])
    facts["logo_svg"] = Markup(facts["logo_svg"]) if facts["logo_svg"] else None  # noqa: S704
    return IspView(
        **facts,
        maintenance=MaintenanceWindow(
            is_on=True,
            from_at=datetime.fromisoformat(window["from_at"]),
            until_at=datetime.fromisoformat(window["until_at"]),
            messages=tuple(window["messages"].items()),
        ),
    )


class _Look(NamedTuple):
    """What a look at the file found; `view` is None when there is no file, or none to be read."""

    looked_at: float
    changed_ns: int
    view: IspView | None


_looks: dict[str, _Look] = {}


def forget_file() -> None:
    """Look at the file anew: after it was written or removed by this process, and in tests."""
    _looks.clear()


def heed_file(folder: str) -> None:
    """When the file in `folder` says that the portal is closed, let this request do without the
    database. It is looked at a few times a second, for the sake of all the requests in between."""
    now = time.monotonic()
    look = _looks.get(folder)
    if look is None or now - look.looked_at >= LOOK_EVERY_SECONDS:
        look = _looks[folder] = _look_at(Path(folder, FILE), now, look)
    if look.view is not None:
        isp.pin(look.view)


def _look_at(path: Path, now: float, before: _Look | None) -> _Look:
    try:
        changed_ns = path.stat().st_mtime_ns
        if before is not None and before.changed_ns == changed_ns:
            return before._replace(looked_at=now)
        return _Look(now, changed_ns, _read(path))
    except FileNotFoundError:
        return _Look(now, 0, None)
    except (OSError, ValueError, KeyError, TypeError):
        log.exception("the file about maintenance cannot be read; the database is asked")
        return _Look(now, 0, None)


def is_closed_here(folder: Path) -> bool:
    """Whether this node is closed, asked outside a request. Where only the database can tell, and
    holds no ISP yet, it is not."""
    heed_file(str(folder))
    try:
        return current_isp().is_closed
    except isp.NotSetUp:
        return False


# Answering ------------------------------------------------------------------------------------


def retry_seconds(window: MaintenanceWindow) -> int:
    """What Retry-After says: until the end that was announced, from a minute to an hour; every five
    minutes once that has passed."""
    left = int((window.until_at - clock.now()).total_seconds())
    return max(FIRST_RETRY, min(left, LAST_RETRY)) if left > 0 else OVERDUE_RETRY


def answer(*, is_for_people: bool, is_refusal: bool = False) -> Response:
    """The 503 of every route that is closed: a page, for a fragment what makes the browser load
    that page, for programs a line of text. As a refusal it says that who tried to sign in was not
    let in, in the same words to whoever is no staff and to whoever had a wrong password."""
    window = current_isp().maintenance
    if window is None:
        raise LookupError("the portal is not closed")
    if not is_for_people:
        response = Response("closed for maintenance\n", 503, mimetype="text/plain")
    elif htmx.wants_fragment():
        response = htmx.load_again(503)
    else:
        response = _page(window, is_refusal=is_refusal)
    response.headers["Retry-After"] = str(retry_seconds(window))
    return response


def _page(window: MaintenanceWindow, *, is_refusal: bool) -> Response:
    is_overdue = window.until_at <= clock.now()
    # Whoever sent a form has nothing there to load again.
    again = "" if request.method in ("GET", "HEAD") else url_for("dashboard.index")
    if is_refusal:
        again = url_for("auth.staff_sign_in")
    response = constant_pages.answer(
        f"maintenance {is_overdue} {again} {is_refusal}",
        lambda: htmx.render(
            "errors/maintenance.html",
            None,
            503,
            window=window,
            is_overdue=is_overdue,
            again=again,
            is_refusal=is_refusal,
        ),
    )
    response.status_code = 503
    return response


def health(is_worker_alive: Callable[[], bool]) -> dict[str, object]:
    """What `/health` says. Raises NotSetUp, and SQLAlchemyError when the database is away.

    A node that is closed by its file does not ask the database, so `worker` is not known then.
    """
    view = current_isp()
    alive = None if isp.is_pinned() else is_worker_alive()
    if view.maintenance is None or not view.is_closed:
        return {"status": "ok", "worker": alive}
    return {
        "status": "maintenance",
        "until": view.maintenance.until_at.isoformat(timespec="seconds"),
        "overdue": view.maintenance.until_at <= clock.now(),
        "worker": alive,
    }
