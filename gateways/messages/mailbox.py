"""The demo's mailbox: messages become files in a folder, named by their id, so that one sent twice
is there once."""

from __future__ import annotations

import email
import os
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from email.policy import default as default_policy
from pathlib import Path

from gateways.messages.base import MessageGateway, OutgoingMessage
from gateways.messages.envelope import compose

SHOWN = 50


@dataclass(frozen=True, slots=True)
class ReceivedMessage:
    public_id: str
    recipient: str
    subject: str
    sent_at: datetime
    text: str


class Mailbox(MessageGateway):
    """A folder of `.eml` files."""

    def __init__(self, folder: Path, sender: str) -> None:
        self._folder, self._sender = folder, sender
        folder.mkdir(mode=0o700, exist_ok=True)

    def send(self, message: OutgoingMessage) -> None:
        name = _safe(message.message_id)
        temporary = self._folder / f".{name}.{os.getpid()}"
        temporary.write_bytes(bytes(compose(message, self._sender)))
        temporary.replace(self._folder / f"{name}.eml")

    def greet(self, timeout_seconds: float) -> str:
        """See MessageGateway."""
        del timeout_seconds
        return f"The demo's mailbox ({self._folder})"

    def list_latest(self) -> list[ReceivedMessage]:
        """The newest messages first."""
        paths = sorted(
            self._folder.glob("*.eml"), key=lambda path: path.stat().st_mtime_ns, reverse=True
        )
        return [_read(path) for path in paths[:SHOWN]]

    def find(self, public_id: str) -> ReceivedMessage | None:
        path = self._folder / f"{_safe(public_id)}.eml"
        return _read(path) if path.is_file() else None


def _safe(message_id: str) -> str:
    return re.sub(r"[^a-z0-9-]", "", message_id.split("@", maxsplit=1)[0].lower())


def _read(path: Path) -> ReceivedMessage:
    parsed = email.message_from_bytes(path.read_bytes(), policy=default_policy)
    body = parsed.get_body(("plain",))
    return ReceivedMessage(
        public_id=path.stem,
        recipient=str(parsed["To"]),
        subject=str(parsed["Subject"]),
        sent_at=datetime.fromtimestamp(path.stat().st_mtime, UTC),
        text=str(body.get_content()) if body is not None else "",
    )
