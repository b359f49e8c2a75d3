"""The pages of the demo's mailbox."""

from __future__ import annotations

from gateways.messages.base import OutgoingMessage
from models import Channel
from tests.conftest import Portal


def test_text_message_without_a_subject_can_be_opened(portal: Portal) -> None:
    gateway = portal.app.extensions["message_gateways"][Channel.TEXT]
    gateway.send(OutgoingMessage("a-text@example.net", "+15415550123", "", "Your code", ""))
    visitor = portal.visitor()
    [link] = visitor.get("/demo/mailbox").select("main a[href^='/demo/mailbox/']")
    assert link.text == "Text message"
    page = visitor.get(str(link.get("href")))
    assert "+1 541-555-0123" in page.text
    assert "Your code" in page.text
