"""What a router says, and having it do something.

A press is written down first (its form key, its event, its count), then the router is asked, then
how that ended takes the place of "on its way" with the key. So a form that is sent again, because
its answer was lost, finds how it ended and asks for nothing a second time. No password is stored.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from itertools import groupby
from typing import TypeVar

from sqlalchemy import select
from sqlalchemy.orm import Session

from blueprints.dashboard.equipment.errors import EquipmentNotOffered
from blueprints.dashboard.usage.service import LineChoice, get_line, list_lines
from core import activity, clock, form_keys, revisions, throttle
from core.db import db, give_back_connections, refuse_inside_unit, unit_of_work
from core.form_keys import ArrivedKey
from gateways.network.equipment import Equipment, EquipmentGateway, Outcome, WifiNetwork
from gateways.network.errors import (
    GatewayAway,
    GatewayTimeout,
    NetworkError,
    NoEquipment,
    SeveralEquipment,
)
from models import FormKey

log = logging.getLogger("lastmile.equipment")

T = TypeVar("T")


class Kind(StrEnum):
    """What a router can be asked for."""

    RESTART = "restart"
    WIFI = "wifi"
    REFRESH = "refresh"


class End(StrEnum):
    """How it ended."""

    SENT = "sent"  # not known yet
    DONE = "done"
    QUEUED = "queued"
    UNCLEAR = "unclear"
    AWAY = "away"
    NONE = "none"
    SEVERAL = "several"
    REFUSED = "refused"


LIMITS: dict[Kind, throttle.Windows] = {
    Kind.RESTART: (
        (timedelta(minutes=5), 2),
        (timedelta(hours=1), 4),
        (timedelta(days=1), 10),
    ),
    Kind.WIFI: ((timedelta(minutes=10), 4), (timedelta(days=1), 12)),
    Kind.REFRESH: ((timedelta(minutes=1), 2), (timedelta(days=1), 60)),
}
"""How often a router can be asked for the same; what changed nothing does not count."""
PRESSES: throttle.Windows = ((timedelta(hours=1), 30),)
"""How often it can be tried, whatever comes of it."""
CHANGED_NOTHING = {End.AWAY, End.NONE, End.SEVERAL, End.REFUSED}
EVENTS = {Kind.RESTART: "router_restart_asked", Kind.WIFI: "wifi_change_asked"}
MOST_AT_ONCE = 4
"""Calls of one process that wait for an answer: when none comes, the other pages go on."""
_calls = threading.BoundedSemaphore(MOST_AT_ONCE)
ANSWERED_WITHIN = timedelta(minutes=1)
"""Longer no press takes: whoever asked has died over it."""


@dataclass(frozen=True, slots=True)
class Wifi:
    """Networks of the same name, which are changed together."""

    keys: tuple[str, ...]
    name: str
    bands: tuple[str, ...]
    has_password: bool

    @property
    def form_value(self) -> str:
        """As the form names them."""
        return "-".join(self.keys)


@dataclass(frozen=True, slots=True)
class Press:
    """Who asks for what; `path` is the page that shows how it ended, with a query begun."""

    account_id: int
    customer_id: int
    line_id: int
    kind: Kind
    path: str
    key: ArrivedKey
    secret: bytes


def list_running(account_id: int) -> list[LineChoice]:
    """The lines that a router can be at."""
    return [line for line in list_lines(account_id) if not line.is_closed]


def choose_line(lines: Sequence[LineChoice], public_id: str | None) -> LineChoice:
    """The line that is meant. Raises LineNotFound, or EquipmentNotOffered where there is none."""
    line = get_line(lines, public_id or None)
    if line is None:
        raise EquipmentNotOffered
    return line


def line_of_form(lines: Sequence[LineChoice], public_id: str) -> LineChoice:
    """The same for a form that changes something: of several lines none is taken unsaid."""
    if not public_id and len(lines) != 1:
        raise EquipmentNotOffered
    return choose_line(lines, public_id)


def find(gateway: EquipmentGateway, line: LineChoice) -> Equipment | End:
    """What the router of a line says, or why it cannot be told."""
    try:
        return _outside(lambda: gateway.read(line.username))
    except NetworkError as error:
        log.info("a router was not read", extra={"why": str(error)})
        return _end_of(error)


def group(networks: Iterable[WifiNetwork]) -> list[Wifi]:
    """The networks by their names, in the order of the router."""
    networks = list(networks)
    order = list(dict.fromkeys(network.name for network in networks))
    by_name = sorted(networks, key=lambda network: order.index(network.name))
    found = []
    for name, same in groupby(by_name, key=lambda network: network.name):
        each = list(same)
        found.append(
            Wifi(
                tuple(network.key for network in each),
                name,
                tuple(network.band for network in each if network.band),
                all(network.has_password for network in each),
            )
        )
    return found


def ask(press: Press, call: Callable[[], Outcome]) -> str:
    """Have a router do something, once for each key; the path of the page that says how it ended.
    Raises TooManyAttempts."""
    line = f"\0{press.kind.value} of line {press.line_id}"
    subject = throttle.subject_of(press.secret, line)
    tries = throttle.subject_of(press.secret, line + ", tried")

    def begin(session: Session) -> tuple[str, throttle.Attempt | None]:
        found = form_keys.find_result(session, press.key)
        if found is not None:
            return found, None
        attempt = throttle.count_within(session, subject, LIMITS[press.kind])
        throttle.count_within(session, tries, PRESSES)
        if press.kind in EVENTS:
            event = activity.Event(
                EVENTS[press.kind],
                clock.now(),
                account_id=press.account_id,
                customer_id=press.customer_id,
            )
            activity.record(session, [event])
            revisions.raise_account(session, press.account_id)
        path = f"{_path(press, End.SENT)}&press={press.key.key_hash.hex()}"
        form_keys.consume(session, press.key, path)
        return path, attempt

    with throttle.noted():
        path, attempt = unit_of_work(begin, press.account_id)
    if attempt is None:
        return path
    end = _try(call)
    path = _path(press, end)

    def note_end(session: Session) -> None:
        form_keys.change_result(session, press.key, path)
        if end in CHANGED_NOTHING:
            throttle.note_passed(session, attempt)

    unit_of_work(note_end)
    return path


def _path(press: Press, end: End) -> str:
    return f"{press.path}done={press.kind.value}-{end.value}"


def _try(call: Callable[[], Outcome]) -> End:
    try:
        return End(_outside(call).value)
    except NetworkError as error:
        log.warning("a router was not told", extra={"why": str(error)})
        return _end_of(error)
    except Exception:
        # The key must not go on saying that it is on its way.
        log.exception("the equipment gateway failed")
        return End.UNCLEAR


def _outside(call: Callable[[], T]) -> T:
    """Do what leaves the machine: in no transaction, and holding no connection meanwhile. Raises
    GatewayAway at once where others wait already."""
    refuse_inside_unit("a call to a router")
    give_back_connections()
    if not _calls.acquire(blocking=False):
        raise GatewayAway(f"{MOST_AT_ONCE} others wait for an answer already")
    try:
        return call()
    finally:
        _calls.release()


def _end_of(error: NetworkError) -> End:
    if isinstance(error, GatewayTimeout):
        return End.UNCLEAR
    if isinstance(error, GatewayAway):
        return End.AWAY
    if isinstance(error, NoEquipment):
        return End.NONE
    if isinstance(error, SeveralEquipment):
        return End.SEVERAL
    return End.REFUSED


def find_press(press: str, subject: str) -> str | None:
    """Where a press of this person stands that was on its way: the path that says so, or None while
    it still is. One that nobody works at any more is unclear."""
    try:
        key_hash = bytes.fromhex(press)
    except ValueError:
        return None
    row = db.session.execute(
        select(FormKey.result, FormKey.arrived_at).where(
            FormKey.key_hash == key_hash, FormKey.subject == subject
        )
    ).one_or_none()
    if row is None:
        return None
    if f"-{End.SENT.value}&" not in row.result:
        return str(row.result)
    if clock.now() - row.arrived_at > ANSWERED_WITHIN:
        return str(row.result).partition("&press=")[0].replace(f"-{End.SENT}", f"-{End.UNCLEAR}")
    return None
