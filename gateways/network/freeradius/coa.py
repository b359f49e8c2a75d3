"""Telling an access server of a running session: CoA-Request and Disconnect-Request (RFC 5176)."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, ip_address
from pathlib import Path
from typing import Any

from pyrad import packet
from pyrad.client import Client, Timeout
from pyrad.dictionary import Dictionary

from core import clock
from core.radius_settings import NasSettings
from gateways.network.errors import GatewayRefused, GatewayTimeout

log = logging.getLogger("lastmile.lines")

ANSWER_SECONDS = 3.0
TRIES = 2
SILENT_SECONDS = 30.0
"""How long an access server that did not answer is not asked again: one that is down must not hold
up the lines of the others."""
NO_SESSION = "Session-Context-Not-Found"
_OWN_DICTIONARY = Path(__file__).with_name("dictionary")


@dataclass(frozen=True, slots=True)
class Running:
    """A session that `radacct` says is running."""

    nas: str
    session_id: str
    username: str
    address: str = ""


class Refused(GatewayRefused):
    """The access server said no. `cause`: its Error-Cause in words, empty when it gave none."""

    def __init__(self, what: str, nas: str, cause: str) -> None:
        self.cause = cause
        super().__init__(f"{nas} refused the {what}{f': {cause}' if cause else ''}")


class Caller:
    """Sends requests, one at a time. `more`: a dictionary of further attributes."""

    def __init__(
        self, more: Path | None = None, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._dictionary = Dictionary(str(_OWN_DICTIONARY))
        if more is not None:
            self._dictionary.ReadDictionary(str(more))
        self._monotonic = monotonic
        self._silent_until: dict[tuple[str, int], float] = {}

    def knows(self, attribute: str) -> bool:
        """Whether a CoA may hold this attribute."""
        return attribute in self._dictionary

    def change(self, nas: NasSettings, session: Running, attributes: Mapping[str, str]) -> None:
        """Give the session the attributes, or end it where the access server will not or does not
        say. A session that it does not know is none. Raises GatewayRefused, GatewayTimeout."""
        self._check_speaks(nas, session)
        try:
            self._send(nas, packet.CoARequest, session, attributes)
        except Refused as refusal:
            if refusal.cause == NO_SESSION:
                return
            first = str(refusal)
        except GatewayTimeout as timeout:
            first = str(timeout)
        else:
            return
        log.warning("a session is ended that could not be changed", extra={"why": first})
        self._silent_until.pop(_where(nas, session), None)
        try:
            self.disconnect(nas, session)
        except GatewayRefused as refusal:
            raise GatewayRefused(f"{first}; {refusal}") from refusal
        except GatewayTimeout as timeout:
            raise GatewayTimeout(f"{first}; {timeout}") from timeout

    def disconnect(self, nas: NasSettings, session: Running) -> None:
        """End the session. Raises GatewayRefused, GatewayTimeout."""
        self._check_speaks(nas, session)
        try:
            self._send(nas, packet.DisconnectRequest, session, {})
        except Refused as refusal:
            if refusal.cause != NO_SESSION:
                raise

    def ask_about_nobody(self, nas: NasSettings, name: str, username: str) -> str:
        """Send a CoA for a session that cannot exist; the Error-Cause, empty for none. An answer of
        any kind shows that address and secret are right. Raises GatewayTimeout."""
        nobody = Running(name, username, username)
        try:
            self._send(nas, packet.CoARequest, nobody, {})
        except Refused as refusal:
            return refusal.cause
        return ""

    def _send(
        self, nas: NasSettings, code: int, session: Running, attributes: Mapping[str, str]
    ) -> None:
        what = "CoA" if code == packet.CoARequest else "Disconnect"
        where = _where(nas, session)
        client = Client(
            where[0],
            coaport=where[1],
            secret=nas.secret,
            dict=self._dictionary,
            retries=TRIES,
            timeout=ANSWER_SECONDS,
        )
        request = self._request(client, code, session, attributes)
        try:
            answer = client.SendPacket(request)
        except Timeout:
            self._silent_until[where] = self._monotonic() + SILENT_SECONDS
            raise GatewayTimeout(
                f"{session.nas} did not answer the {what} at {where[0]} port {where[1]}"
            ) from None
        except OSError as error:
            raise GatewayTimeout(f"{session.nas} cannot be reached: {error}") from error
        finally:
            client._CloseSocket()  # the only way there is
        if answer.code not in (packet.CoAACK, packet.DisconnectACK):
            raise Refused(what, session.nas, _cause_of(answer))

    def _check_speaks(self, nas: NasSettings, session: Running) -> None:
        if self._silent_until.get(_where(nas, session), 0.0) > self._monotonic():
            raise GatewayTimeout(f"{session.nas} did not answer a moment ago")

    def _request(
        self,
        client: Client,
        code: int,
        session: Running,
        attributes: Mapping[str, str],
    ) -> Any:
        request = client.CreateCoAPacket(code=code, message_authenticator=True)
        request["User-Name"] = session.username
        request["Acct-Session-Id"] = session.session_id
        request["Event-Timestamp"] = int(clock.now().timestamp())
        if _is_ipv4(session.nas):
            request["NAS-IP-Address"] = session.nas
        if _is_ipv4(session.address):
            request["Framed-IP-Address"] = session.address
        for name, value in attributes.items():
            if name not in self._dictionary:
                raise GatewayRefused(
                    f"no dictionary knows {name}, which {session.nas} is to be told: "
                    "see dictionary in docs/freeradius.md"
                )
            kind = self._dictionary[name].type
            try:
                request[name] = int(value) if kind in ("integer", "short", "byte") else value
            except (ValueError, TypeError) as error:
                raise GatewayRefused(f"{name} cannot be {value!r}: {error}") from error
        return request


def _where(nas: NasSettings, session: Running) -> tuple[str, int]:
    return nas.address or session.nas, nas.port


def _cause_of(answer: Any) -> str:
    try:
        return str(answer["Error-Cause"][0])
    except (KeyError, IndexError):
        return ""


def _is_ipv4(text: str) -> bool:
    try:
        return isinstance(ip_address(text), IPv4Address)
    except ValueError:
        return False
