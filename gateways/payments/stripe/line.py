"""How calls to Stripe leave: through the portal's one outbound client, never by the SDK's own.

So they have a real deadline, follow no redirect and reach no address that is not public.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import stripe

from gateways.outbound import (
    OutboundClient,
    OutboundError,
    OutboundForbidden,
    OutboundUnreachable,
)
from gateways.payments.errors import KEY_REUSED, GatewayRefused, GatewayTimeout

# What Stripe's own library would tell Stripe about calls before this one.
stripe.enable_telemetry = False

_CONFLICT = 409
_NO_SUCH_THING = "resource_missing"
_AMOUNTS = ("amount_too_small", "amount_too_large")
OUT_OF_BOUNDS = "amount out of bounds"


class Line(stripe.HTTPClient):
    """Stripe's client over the portal's."""

    name = "lastmile"

    def __init__(self, outbound: OutboundClient) -> None:
        super().__init__()
        self._outbound = outbound

    def request(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str] | None,
        post_data: Any = None,
        *,
        _usage: list[str] | None = None,
    ) -> tuple[str, int, Mapping[str, str]]:
        """One call; without a whole answer it raises stripe.APIConnectionError."""
        body = post_data.encode() if isinstance(post_data, str) else post_data
        try:
            answer = self._outbound.request(
                method.upper(), url, headers=dict(headers or {}), body=body
            )
        except OutboundError as failure:
            raise _unanswered(str(failure)) from failure
        return answer.body.decode("utf-8", "replace"), answer.status, answer.headers

    def close(self) -> None:
        """Nothing is kept open."""


def _unanswered(why: str) -> stripe.APIConnectionError:
    make: Any = stripe.APIConnectionError  # its signature has no types
    error: stripe.APIConnectionError = make(why)
    return error


@contextmanager
def calling(refusal: str) -> Iterator[None]:
    """Turn what Stripe's library raises into the gateway's own errors.

    Only what Stripe itself refuses is a no, and said with `refusal`; a busy key, an error of its
    own or no answer leaves it open what happened.
    """
    try:
        yield
    except stripe.IdempotencyError as error:
        if error.http_status == _CONFLICT:
            raise GatewayTimeout("another call with this key is under way") from error
        raise GatewayRefused(KEY_REUSED, refusal) from error
    except stripe.InvalidRequestError as error:
        raise GatewayRefused(_code_of(error), refusal) from error
    except stripe.APIConnectionError as error:
        cause = error.__cause__
        was_sent = not isinstance(cause, OutboundForbidden | OutboundUnreachable)
        raise GatewayTimeout(str(error), was_sent=was_sent) from error
    except stripe.StripeError as error:
        raise GatewayTimeout(f"Stripe answered {error.http_status}: {error}") from error


def _code_of(error: stripe.InvalidRequestError) -> str:
    if error.code == _NO_SUCH_THING:
        return "no such thing"
    if error.code == "charge_already_refunded" or "greater than" in str(error.user_message):
        return "too much"
    if error.code in _AMOUNTS:
        return OUT_OF_BOUNDS
    return "bad request"
