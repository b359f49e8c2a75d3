"""E-mail through the ISP's own SMTP server."""

from __future__ import annotations

import smtplib
import ssl
from contextlib import closing, suppress
from urllib.parse import unquote, urlsplit

from gateways.messages.base import (
    MessageGateway,
    MessageRefused,
    MessagesUnreachable,
    MessageUncertain,
    OutgoingMessage,
)
from gateways.messages.envelope import compose

TIMEOUT_SECONDS = 20


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
        try:
            server = self._connect()
            with closing(server):
                server.send_message(mail)
                # It is taken: how the server says good-bye makes no message uncertain.
                with suppress(smtplib.SMTPException, OSError):
                    server.quit()
        except smtplib.SMTPRecipientsRefused as error:
            code = next(iter(error.recipients.values()))[0]
            if code >= 500:
                raise MessageRefused(str(code)) from error
            raise MessageUncertain(str(code)) from error
        except (smtplib.SMTPException, OSError) as error:
            raise MessageUncertain(type(error).__name__) from error

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

    def _connect(self, timeout_seconds: float | None = None) -> smtplib.SMTP:
        timeout_seconds = TIMEOUT_SECONDS if timeout_seconds is None else timeout_seconds
        context = ssl.create_default_context()
        if self._scheme == "smtps":
            server: smtplib.SMTP = smtplib.SMTP_SSL(
                self._host, self._port, timeout=timeout_seconds, context=context
            )
        else:
            server = smtplib.SMTP(self._host, self._port, timeout=timeout_seconds)
        try:
            if self._scheme == "smtp+starttls":
                server.starttls(context=context)
            if self._user:
                server.login(self._user, self._password)
        except BaseException:
            server.close()
            raise
        return server
