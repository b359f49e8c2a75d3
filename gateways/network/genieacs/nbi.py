"""Calls to the NBI of GenieACS, and what its answers mean.

A task is stored by GenieACS before its router is told, so that one whose answer did not come may be
done, or be queued. Of tasks with the same `uniqueKey` for a device only the newest stays queued.
"""

from __future__ import annotations

import json
import logging
import re
import time
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

from core.genieacs_settings import GenieacsSettings
from gateways.network.equipment import Outcome
from gateways.network.errors import GatewayAway, GatewayRefused, GatewayTimeout, NoEquipment
from gateways.outbound import (
    AllowedOrigin,
    OutboundAnswer,
    OutboundClient,
    OutboundError,
    OutboundUnclear,
)

log = logging.getLogger("lastmile.genieacs")

CONNECT_SECONDS = 1.5
READ_SECONDS = 2.5
TASK_SECONDS = 5.5
ROUTER_MILLISECONDS = 3000
"""How long GenieACS waits for a router that it has called."""
EXPIRES_SECONDS = 86_400
"""A task that no router has asked for by then is dropped."""
LONGEST_ANSWER = 2_000_000
CHECK_SECONDS = 1.0
"""What is left at least to look why a router has not done a task."""
_NOT_NOW = (429, 503)

Device = Mapping[str, Any]


class Nbi:
    """The NBI at `settings.url`."""

    def __init__(self, settings: GenieacsSettings) -> None:
        self.url = settings.url
        origin = AllowedOrigin.from_url(settings.url, is_own_network=True)
        self._headers = dict(settings.headers)
        self._client = OutboundClient(
            [origin],
            connect_seconds=CONNECT_SECONDS,
            total_seconds=max(READ_SECONDS, TASK_SECONDS),
            max_answer_bytes=LONGEST_ANSWER,
        )

    def find(
        self,
        collection: str,
        query: Mapping[str, Any],
        projection: Sequence[str],
        limit: int,
        *,
        until: float | None = None,
    ) -> list[Device]:
        """The documents that `query` finds, before `until` (monotonic). Raises GatewayAway."""
        values = {
            "query": json.dumps(query),
            "projection": ",".join(projection),
            "limit": str(limit),
        }
        asked = "&".join(f"{name}={quote(value, safe='')}" for name, value in values.items())
        try:
            answer = self._client.request(
                "GET",
                f"{self.url}/{collection}/?{asked}",
                headers=self._headers,
                seconds=READ_SECONDS if until is None else min(READ_SECONDS, _left(until)),
            )
        except OutboundError as error:
            raise GatewayAway(f"GenieACS: {error}") from error
        if answer.status != 200:
            raise GatewayAway(f"GenieACS answered {answer.status} to a question")
        found = _parsed(answer.body)
        if not isinstance(found, list) or not all(isinstance(each, dict) for each in found):
            raise GatewayAway("GenieACS answered a question with something else than a list")
        return found

    def tell(
        self, device_id: str, unique_key: str, task: Mapping[str, Any], until: float
    ) -> Outcome:
        """Give the device a task, and wait for it a little, until `until` at most. Raises
        GatewayAway, GatewayRefused, NoEquipment, or GatewayTimeout when it may be done or not."""
        body = {**task, "uniqueKey": unique_key, "expiry": EXPIRES_SECONDS}
        query = f"timeout={ROUTER_MILLISECONDS}&connection_request"
        try:
            answer = self._client.request(
                "POST",
                f"{self.url}/devices/{_in_path(device_id)}/tasks?{query}",
                headers={**self._headers, "Content-Type": "application/json"},
                body=json.dumps(body).encode(),
                seconds=min(TASK_SECONDS, _left(until)),
            )
        except OutboundUnclear as error:
            raise GatewayTimeout(f"GenieACS: {error}") from error
        except OutboundError as error:
            raise GatewayAway(f"GenieACS: {error}") from error
        _check(answer.status)
        if answer.status == 200:
            return Outcome.DONE
        self._check_fault(device_id, answer, until)
        return Outcome.QUEUED

    def _check_fault(self, device_id: str, answer: OutboundAnswer, until: float) -> None:
        """A router that refused is a task that is queued, too, and would be tried again and again:
        take it back. Raises GatewayRefused, or GatewayTimeout when it could not be."""
        task = _parsed(answer.body)
        task_id = task.get("_id") if isinstance(task, dict) else None
        if not isinstance(task_id, str) or not re.fullmatch(r"[0-9a-f]{1,40}", task_id):
            return
        try:
            fault_id = f"{device_id}:task_{task_id}"
            found = self.find("faults", {"_id": fault_id}, ["code"], 1, until=until)
        except GatewayAway as error:
            log.warning("a task was queued, and why is not known", extra={"why": str(error)})
            return
        if not found:
            return
        try:
            self._client.request(
                "DELETE",
                f"{self.url}/tasks/{task_id}",
                headers=self._headers,
                seconds=_left(until),
            )
        except OutboundError as error:
            raise GatewayTimeout(f"a refused task was not taken back: {error}") from error
        raise GatewayRefused(f"the router refused with {str(found[0].get('code'))[:60]!r}")


def deadline() -> float:
    """By when a press that begins now has ended, in monotonic seconds, whatever it needs."""
    return time.monotonic() + READ_SECONDS + TASK_SECONDS + CHECK_SECONDS


def _left(until: float) -> float:
    return max(0.0, until - time.monotonic())


def _check(status: int) -> None:
    """Raise what an answer to a task means that is neither 200 nor 202."""
    if status in (200, 202):
        return
    if status == 404:
        raise NoEquipment("GenieACS does not know the device any more")
    if status in (401, 403):
        raise GatewayAway(f"GenieACS refuses our key: {status}")
    if status in _NOT_NOW:
        raise GatewayAway(f"GenieACS is busy: {status}")
    if status >= 500 or status < 400:
        raise GatewayTimeout(f"GenieACS answered {status} to a task")
    raise GatewayRefused(f"GenieACS refused a task: {status}")


def _parsed(body: bytes) -> Any:
    """What JSON says; None for anything else."""
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None


def _in_path(device_id: str) -> str:
    """An id as GenieACS takes it in a path, where it knows letters, digits, - and _ alone."""
    return quote(device_id, safe="").replace(".", "%2E").replace("~", "%7E")
