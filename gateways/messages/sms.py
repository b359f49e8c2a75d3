"""Text messages by a provider's HTTP interface, as the settings describe it.

URL, headers and body are templates with `{to}` (the number in E.164), `{text}` and `{id}` (the same
each time the message is sent). What is put in is quoted as the place asks: for an address, for a
form, or for JSON when the Content-Type says so.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from urllib.parse import quote, quote_plus

from core.settings import SmsSettings
from gateways.messages.base import (
    MessageGateway,
    MessageNotSent,
    MessageRefused,
    MessageUncertain,
    OutgoingMessage,
)
from gateways.outbound import (
    AllowedOrigin,
    OutboundClient,
    OutboundForbidden,
    OutboundUnclear,
    OutboundUnreachable,
)

_PLACE = re.compile(r"\{(to|text|id)\}")
_TRY_LATER = (408, 425, 429, 503)
_FORM = "application/x-www-form-urlencoded"


class SmsGateway(MessageGateway):
    """One call for each text message. It goes well when the status is 2xx and `settings.success` is
    found in the answer. Raises ValueError, with what is wrong, for settings that cannot work."""

    def __init__(self, settings: SmsSettings, client: OutboundClient | None = None) -> None:
        _check(settings)
        self._settings = settings
        self._origin = _origin(settings)
        self._client = client or OutboundClient([self._origin])

    def send(self, message: OutgoingMessage) -> None:
        settings = self._settings
        headers = {name.title(): value for name, value in settings.headers.items()}
        body = None
        if settings.body:
            kind = headers.setdefault("Content-Type", _FORM)
            body = _filled(settings.body, message, _quoting_for(kind)).encode()
        url = _filled(settings.url, message, lambda value: quote(value, safe=""))
        try:
            answer = self._client.request(settings.method, url, headers=headers, body=body)
        except OutboundUnreachable as error:
            raise MessageNotSent("the text gateway cannot be reached") from error
        except OutboundForbidden as error:
            raise MessageNotSent(str(error)) from error
        except OutboundUnclear as error:
            raise MessageUncertain("the text gateway gave no whole answer") from error
        self._judge(answer.status, answer.body.decode("utf-8", "replace"))

    def _judge(self, status: int, text: str) -> None:
        if 200 <= status < 300:
            if self._settings.success and not re.search(self._settings.success, text):
                raise MessageRefused(f"{status} without what means success")
            return
        if status in _TRY_LATER:
            raise MessageNotSent(str(status))
        if status >= 500:
            raise MessageUncertain(str(status))
        if status in (401, 403):
            # Nothing is wrong with the message: somebody will mend the key.
            raise MessageNotSent(f"{status}: the text gateway refuses our key")
        raise MessageRefused(str(status))

    def greet(self, timeout_seconds: float) -> str:
        """Where text messages go. Nothing is sent: a provider may charge for the question."""
        del timeout_seconds
        return f"{self._origin.host}:{self._origin.port}"


def _check(settings: SmsSettings) -> None:
    if settings.method not in ("GET", "POST", "PUT"):
        raise ValueError(f"the method must be GET, POST or PUT, not {settings.method!r}")
    try:
        re.compile(settings.success)
    except re.error as error:
        raise ValueError(f"the success pattern is no regular expression: {error}") from None
    places = set(_PLACE.findall(settings.url + settings.body))
    for place in ("to", "text"):
        if place not in places:
            raise ValueError(f"neither address nor body has {{{place}}} in it")
    for name, value in settings.headers.items():
        if not (name.isascii() and value.isascii() and (name + value).isprintable()):
            raise ValueError(f"the header {name!r} cannot be sent")


def _origin(settings: SmsSettings) -> AllowedOrigin:
    """The one origin that is called: over https, or a program on this machine."""
    address = _PLACE.sub("x", settings.url)
    is_here = address.startswith(("http://127.0.0.1:", "http://localhost:"))
    try:
        return AllowedOrigin.from_url(address, is_loopback_demo=is_here)
    except OutboundForbidden:
        raise ValueError("the address must be like https://sms.example.com/send") from None


def _quoting_for(content_type: str) -> Callable[[str], str]:
    if "json" in content_type.lower():
        return lambda value: json.dumps(value)[1:-1]
    if content_type.lower().startswith(_FORM):
        return quote_plus
    return lambda value: value


def _filled(template: str, message: OutgoingMessage, quoting: Callable[[str], str]) -> str:
    values = {"to": message.recipient, "text": message.text.strip(), "id": message.message_id}
    return _PLACE.sub(lambda found: quoting(values[found.group(1)]), template)
