"""Bringing the network to what is wanted of each line, by the worker, and again until it is there.

What the network does not do is tried again with growing pauses; why it failed is kept with the
line, and `flask doctor` tells of lines that lag.
"""

from __future__ import annotations

import logging
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import func, or_, select, update
from sqlalchemy.orm import Session

from core import addressees, clock, due_work, outbox, revisions
from core.db import db, unit_of_work
from core.topics import Topic
from gateways.network.base import NetworkGateway, NetworkState, Setting
from gateways.network.errors import NetworkError
from models import Line, LineState

log = logging.getLogger("lastmile.lines")

PAUSES = (
    timedelta(seconds=5),
    timedelta(seconds=30),
    timedelta(minutes=2),
    timedelta(minutes=10),
    timedelta(hours=1),
)
LONGEST_FAILURE = 300


def wanted_now(line: Any, now: datetime) -> LineState:
    """What the network should do with a line (with `wanted_state` and `opened_until_at`) now: one
    that is held is open while its customer pays."""
    wanted = LineState(line.wanted_state)
    if wanted is LineState.HELD and line.opened_until_at and line.opened_until_at > now:
        return LineState.OPEN
    return wanted


def setting_now(line: Any, now: datetime) -> Setting:
    """The same, with the speeds wanted of the line: of one that has used up its data, the slow
    ones."""
    return Setting(
        NetworkState(wanted_now(line, now).value),
        line.slow_down_kbps or line.down_kbps,
        line.slow_up_kbps or line.up_kbps,
    )


def confirmed_of(line: Any) -> Setting | None:
    """What the network confirmed at last."""
    if line.reached_state is None:
        return None
    return Setting(NetworkState(line.reached_state), line.reached_down_kbps, line.reached_up_kbps)


class Syncing:
    """A duty of the worker: brings lines that are due to what is wanted of them."""

    def __init__(self, gateway: NetworkGateway | None) -> None:
        self.__name__ = "syncing of lines"  # as the log names a duty
        self._gateway = gateway
        self._has_planned = False

    def __call__(self) -> int:
        """Returns how many lines were tried; without a gateway none is."""
        gateway = self._gateway
        if not self._has_planned:
            unit_of_work(_forget_reached if gateway is None else _plan_unreached)
            self._has_planned = True
        if gateway is None:
            return 0
        return due_work.do(Line, Line.sync_at, lambda line_id: _sync(line_id, gateway))


def _forget_reached(session: Session) -> None:
    """Without a gateway nothing is known of the network, whatever one said before."""
    session.execute(update(Line).where(Line.reached_state.is_not(None)).values(reached_state=None))


def _plan_unreached(session: Session) -> None:
    """Have every line synced that the network has not confirmed and that nobody is about to ask
    for: those from before there was a gateway, say."""
    session.execute(
        update(Line)
        .where(
            Line.sync_at.is_(None),
            or_(
                Line.reached_state.is_(None),
                Line.reached_state != Line.wanted_state,
                Line.reached_down_kbps.is_distinct_from(
                    func.coalesce(Line.slow_down_kbps, Line.down_kbps)
                ),
                Line.reached_up_kbps.is_distinct_from(
                    func.coalesce(Line.slow_up_kbps, Line.up_kbps)
                ),
            ),
        )
        .values(sync_at=clock.now())
    )


def _sync(line_id: int, gateway: NetworkGateway) -> None:
    line = db.session.execute(
        select(
            Line.account_id,
            Line.username,
            Line.wanted_state,
            Line.opened_until_at,
            Line.down_kbps,
            Line.up_kbps,
            Line.slow_down_kbps,
            Line.slow_up_kbps,
            Line.reached_state,
            Line.reached_down_kbps,
            Line.reached_up_kbps,
        ).where(Line.id == line_id)
    ).one()
    wanted = setting_now(line, clock.now())
    failure = ""
    try:
        confirmed = confirmed_of(line)
        if confirmed is None and wanted.state is NetworkState.OPEN:
            confirmed = _find_held(line_id, line, gateway)
        gateway.set_line(line.username, wanted, confirmed)
    except NetworkError as error:
        failure = str(error)[:LONGEST_FAILURE] or type(error).__name__
        log.warning("the network did not change a line", extra={"why": failure})
    except Exception as error:
        # One line that cannot be set must not hold up the others.
        failure = type(error).__name__
        log.exception("the network gateway failed")
    if failure:
        unit_of_work(lambda session: _put_off(session, line_id, failure))
    else:
        unit_of_work(lambda session: _note(session, line_id, wanted), line.account_id)


def _find_held(line_id: int, line: Any, gateway: NetworkGateway) -> Setting | None:
    """What a line is known to be brought to that was held when the network was last connected, and
    released since; None of any other. Written before anything is changed, so that a session in the
    walled garden is told of it however often that takes."""
    if gateway.read_state(line.username) is not NetworkState.HELD:
        return None

    def work(session: Session) -> None:
        session.execute(
            update(Line).where(Line.id == line_id).values(reached_state=LineState.HELD.value)
        )
        revisions.raise_account(session, line.account_id)

    unit_of_work(work, line.account_id)
    return Setting(NetworkState.HELD, line.reached_down_kbps, line.reached_up_kbps)


def _put_off(session: Session, line_id: int, failure: str) -> None:
    count = session.execute(select(Line.sync_count).where(Line.id == line_id)).scalar_one()
    session.execute(
        update(Line)
        .where(Line.id == line_id)
        .values(
            sync_at=clock.now() + PAUSES[min(count, len(PAUSES) - 1)],
            sync_count=count + 1,
            sync_failure=failure,
            claimed_until_at=None,
        )
    )


def _note(session: Session, line_id: int, setting: Setting) -> None:
    """Write that the network is there, and what is to be done next: something else may be wanted
    by now, and an opening ends."""
    now, reached = clock.now(), LineState(setting.state.value)
    line = session.get_one(Line, line_id, populate_existing=True)
    is_back = (
        line.wanted_state == LineState.OPEN == reached
        and line.reached_state is not None
        and (line.reached_state != LineState.OPEN or line.opened_until_at is not None)
    )
    if line.reached_state != reached:
        revisions.raise_account(session, line.account_id)
    line.reached_state = reached.value
    line.reached_down_kbps, line.reached_up_kbps = setting.down_kbps, setting.up_kbps
    line.sync_count, line.sync_failure, line.claimed_until_at = 0, "", None
    if setting_now(line, now) != setting:
        line.sync_at = now
    elif line.wanted_state != reached:
        line.sync_at = line.opened_until_at
    else:
        line.sync_at = line.opened_until_at = None
    if is_back:
        _tell(session, line)


def _tell(session: Session, line: Line) -> None:
    outbox.queue(
        session,
        [
            outbox.Letter(
                "line_open",
                each.recipient,
                each.language,
                account_id=each.account_id,
                customer_id=each.customer_id,
                channel=each.channel.value,
                facts={"account_number": each.account_number, "line": line.username},
            )
            for each in addressees.find(session, [line.account_id], Topic.SERVICE)
        ],
    )
