"""The thread that carries the sandbox's notices to the portal, from a table and with pauses."""

import json
import sys
import threading
from collections.abc import Sequence
from datetime import UTC, datetime

from gateways.outbound import AllowedOrigin, OutboundClient, OutboundError
from gateways.payments.sandbox.books import DueNotice
from gateways.payments.sandbox.store import SandboxStore
from gateways.payments.signatures import signature_header

SIGNATURE_HEADER = "Sandbox-Signature"
NOTICE_PATH = "/webhooks/payments/sandbox"

_POLL_SECONDS = 0.25
_TOTAL_SECONDS = 5.0


class NoticeSender(threading.Thread):
    """Settles what is due and sends what waits, until `stop()`; a portal that is down is retried.

    Any 2xx counts as delivered. Nothing the portal does reaches the customer's page.
    """

    def __init__(self, store: SandboxStore, portal_url: str, secrets: Sequence[str]) -> None:
        super().__init__(name="sandbox-notices", daemon=True)
        self._store = store
        self._url = portal_url.rstrip("/") + NOTICE_PATH
        self._secrets = secrets
        self._outbound = OutboundClient(
            [AllowedOrigin.from_url(self._url, is_loopback_demo=True)],
            total_seconds=_TOTAL_SECONDS,
        )
        self._wake = threading.Event()
        self._is_stopped = threading.Event()

    def wake(self) -> None:
        """Look at the table at once instead of at the next poll."""
        self._wake.set()

    def stop(self) -> None:
        """End after the notice that is being sent now."""
        self._is_stopped.set()
        self._wake.set()

    def run(self) -> None:
        """Poll until stopped."""
        while not self._is_stopped.is_set():
            self._store.settle_due()
            for notice in self._store.list_due_notices(20):
                if self._is_stopped.is_set():
                    return
                self._store.mark_notice(notice, is_delivered=self._send(notice))
            self._wake.wait(_POLL_SECONDS)
            self._wake.clear()

    def _send(self, notice: DueNotice) -> bool:
        body = notice_body(notice)
        headers = {
            "Content-Type": "application/json",
            SIGNATURE_HEADER: signature_header(body, self._secrets[:1], datetime.now(UTC)),
        }
        try:
            answer = self._outbound.request("POST", self._url, headers=headers, body=body)
        except OutboundError as failure:
            _say(f"notice {notice.event_id} was not delivered: {failure}")
            return False
        if not 200 <= answer.status < 300:
            _say(f"notice {notice.event_id} was answered {answer.status}")
            return False
        return True


def notice_body(notice: DueNotice) -> bytes:
    """The bytes of a notice, the same each time the same event is sent."""
    fields = {
        "id": notice.event_id,
        "type": notice.type,
        "key": notice.key,
        "reference": notice.reference,
    }
    return json.dumps(fields).encode()


def _say(text: str) -> None:
    sys.stderr.write(f"sandbox: {text}\n")
