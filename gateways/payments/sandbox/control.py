"""The side door of a running sandbox, for tests and developers: faults, decisions, its books."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from gateways.outbound import AllowedOrigin, OutboundClient
from gateways.payments.base import GatewayState
from gateways.payments.sandbox.faults import Fault, FaultPlan
from gateways.payments.sandbox.methods import Behaviour, Saving
from gateways.payments.sandbox.secrets import SandboxSecrets
from gateways.payments.sandbox.store import Decision, Reversing


@dataclass(frozen=True, slots=True)
class BookedPayment:
    """One payment in the sandbox's own books."""

    key: str
    reference: str
    state: GatewayState
    amount_minor: int
    currency: str
    customer_reference: str
    refunded_minor: int
    reversed_minor: int


class SandboxControl:
    """What only the sandbox offers; raises OutboundError or RuntimeError when it does not obey."""

    def __init__(self, base_url: str, secrets: SandboxSecrets) -> None:
        self._base_url = base_url.rstrip("/")
        self._secrets = secrets
        self._outbound = OutboundClient(
            [AllowedOrigin.from_url(self._base_url, is_loopback_demo=True)],
            max_answer_bytes=50_000_000,
        )

    def set_next_faults(self, faults: Iterable[Fault], *, hang_seconds: float = 60.0) -> None:
        """Let the next calls that begin something meet these faults, one each."""
        self._call("POST", "/v1/faults", {"next": list(faults), "hang_seconds": hang_seconds})

    def set_fault_plan(self, plan: FaultPlan, *, hang_seconds: float = 60.0) -> None:
        """Draw faults by this plan from now on; `FaultPlan()` ends them."""
        fields = {"plan": asdict(plan), "next": [], "hang_seconds": hang_seconds}
        self._call("POST", "/v1/faults", fields)

    def decide(self, key: str, decision: Decision) -> GatewayState:
        """Act as the customer on the hosted page; the state after it."""
        return GatewayState(
            self._call("POST", "/v1/decide", {"key": key, "decision": decision})["state"]
        )

    def choose_method(self, key: str, choice: Saving) -> GatewayState:
        """Act as the customer on the page where a method is saved; the state after it."""
        return GatewayState(self._call("POST", "/v1/save", {"key": key, "choice": choice})["state"])

    def set_behaviour(self, reference: str, behaviour: Behaviour) -> None:
        """Let a saved method pay, decline, ask its customer or be expired from now on."""
        self._call("POST", "/v1/behave", {"reference": reference, "behaviour": behaviour})

    def reverse(self, key: str, kind: Reversing) -> None:
        """Charge a payment back, let the portal win that, or return a debit."""
        self._call("POST", "/v1/reverse", {"key": key, "kind": kind})

    def list_books(self) -> list[BookedPayment]:
        """Every payment the sandbox knows, oldest first."""
        books: list[BookedPayment] = []
        after = 0
        while True:
            page = self._call("GET", f"/v1/books?after={after}")
            books.extend(
                BookedPayment(**{**row, "state": GatewayState(row["state"])})
                for row in page["payments"]
            )
            if page["next_after"] is None:
                return books
            after = page["next_after"]

    def _call(
        self, method: str, target: str, fields: Mapping[str, object] | None = None
    ) -> dict[str, Any]:
        headers = {"Authorization": f"Bearer {self._secrets.api_keys[0]}"}
        body = None if fields is None else json.dumps(fields).encode()
        answer = self._outbound.request(method, self._base_url + target, headers=headers, body=body)
        if answer.status != 200:
            raise RuntimeError(f"the sandbox answered {answer.status}: {answer.body[:200]!r}")
        value: dict[str, Any] = json.loads(answer.body)
        return value
