"""E-mail through the ISP's own SMTP server."""

from __future__ import annotations

import smtplib
import ssl
from contextlib import closing, suppress
from typing import Any
from urllib.parse import unquote, urlsplit

from gateways.messages.base import (
    MessageGateway,
    MessageNotSent,
    MessageRefused,
    MessagesUnreachable,
    MessageUncertain,
    OutgoingMessage,
)
from gateways.messages.envelope import compose

TIMEOUT_SECONDS = 20


class _Marked(smtplib.SMTP):
    """Knows whether the message itself has begun to leave."""

    has_begun = False

    def data(self, msg: Any) -> Any:
        self.has_begun = True
        return super().data(msg)


class _MarkedTls(_Marked, smtplib.SMTP_SSL):
    pass


class SmtpGateway(MessageGateway):
    """`url` is `smtp://host:25`, `smtp+starttls://user:password@host:587` or `smtps://…:465`.

    Raises ValueError for any other.
    """

    def __init__(self, url: str, sender: str) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("smtp", "smtp+starttls", "smtps") or not parts.hostname:
            raise ValueError("the SMTP address must look like smtp+starttls://user:pass@host:587")
        self._scheme, self._host = parts.scheme, parts.hostname
        self._port = parts.port or {"smtp": 25, "smtp+starttls": 587, "smtps": 465}[parts.scheme]
        self._user = unquote(parts.username or "")
        self._password = unquote(parts.password or "")
        self._sender = sender

    def send(self, message: OutgoingMessage) -> None:
        mail = compose(message, self._sender)
        server: _Marked | None = None
        try:
            server = self._connect()
            with closing(server):
                server.send_message(mail)
                # It is taken: how the server says good-bye makes no message uncertain.
                with suppress(smtplib.SMTPException, OSError):
                    server.quit()
        except smtplib.SMTPRecipientsRefused as error:
            code = next(iter(error.recipients.values()))[0]
            raise _of_code(code) from error
        except smtplib.SMTPResponseException as error:
            raise _of_code(error.smtp_code, is_ours=not _has_begun(server)) from error
        except (smtplib.SMTPException, OSError) as error:
            kind = MessageUncertain if _has_begun(server) else MessageNotSent
            raise kind(type(error).__name__) from error

    def greet(self, timeout_seconds: float) -> str:
        """Connect, say EHLO and sign in as for sending; see MessageGateway."""
        try:
            with self._connect(timeout_seconds) as server:
                server.ehlo_or_helo_if_needed()
                server.noop()
        except smtplib.SMTPAuthenticationError as error:
            raise MessagesUnreachable("it refuses the user or the password") from error
        except (smtplib.SMTPException, OSError) as error:
            words = getattr(error, "strerror", None) or str(error) or type(error).__name__
            raise MessagesUnreachable(str(words).splitlines()[0][:120]) from error
        return f"{self._host}:{self._port}"

    def _connect(self, timeout_seconds: float | None = None) -> _Marked:
        timeout_seconds = TIMEOUT_SECONDS if timeout_seconds is None else timeout_seconds
        context = ssl.create_default_context()
        if self._scheme == "smtps":
            server: _Marked = _MarkedTls(
                self._host, self._port, timeout=timeout_seconds, context=context
            )
        else:
            server = _Marked(self._host, self._port, timeout=timeout_seconds)
        try:
            if self._scheme == "smtp+starttls":
                server.starttls(context=context)
            if self._user:
                server.login(self._user, self._password)
        except BaseException:
            server.close()
            raise
        return server


def _has_begun(server: _Marked | None) -> bool:
    return server is not None and server.has_begun


def _of_code(code: int, *, is_ours: bool = False) -> Exception:
    """What an answer of the server says about the message (RFC 5321, 4.2.1): 4yz another time, 5yz
    never. `is_ours`: before there was a message, as when the password is wrong; that will be
    mended."""
    if code >= 500 and not is_ours:
        return MessageRefused(str(code))
    return MessageNotSent(str(code))
