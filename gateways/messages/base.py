"""The interface between the portal and whatever delivers its messages."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass


class MessageNotSent(Exception):
    """The message has not left, for the reason in the text: it may be tried again."""


class MessageUncertain(Exception):
    """It is not known whether the message left: a notice is sent again under the same id."""


class MessagesUnreachable(Exception):
    """Messages could not be handed on now, for the reason in the text."""


class MessageRefused(Exception):
    """The message will never be delivered, for the reason in the text."""


@dataclass(frozen=True, slots=True)
class OutgoingMessage:
    """One message, ready to go. `message_id` is the same each time it is sent. A text message has
    neither subject nor HTML."""

    message_id: str
    recipient: str
    subject: str
    text: str
    html: str


class MessageGateway(ABC):
    """Delivers messages of one channel."""

    @abstractmethod
    def send(self, message: OutgoingMessage) -> None:
        """Deliver the message or hand it on.

        Raises MessageNotSent, MessageUncertain, MessageRefused.
        """

    def greet(self, timeout_seconds: float) -> str:
        """See that messages could be sent now, sending none; where they go, in words.

        Raises MessagesUnreachable.
        """
        del timeout_seconds
        return type(self).__name__
