"""A message as RFC 5322 has it: plain text with an HTML alternative."""

from __future__ import annotations

from email.message import EmailMessage
from email.utils import formatdate

from gateways.messages.base import OutgoingMessage


def compose(message: OutgoingMessage, sender: str) -> EmailMessage:
    """The e-mail to send; the Message-ID is the message's own, so a repeated one is recognised."""
    mail = EmailMessage()
    mail["From"] = sender
    mail["To"] = message.recipient
    mail["Subject"] = message.subject
    mail["Date"] = formatdate(localtime=False)
    mail["Message-ID"] = f"<{message.message_id}>"
    mail["Auto-Submitted"] = "auto-generated"
    mail.set_content(message.text)
    mail.add_alternative(message.html, subtype="html")
    return mail
