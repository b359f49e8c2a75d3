"""What compression tells about a secret beside echoed input: nothing (bar 43)."""

from __future__ import annotations

import base64
import statistics

import brotli
import pytest

from tests import crawl
from tests.conftest import Portal
from tests.page import Visitor

ROUNDS = 60
GUESS = 20


def refused_with(portal: Portal, visitor: Visitor, echoed: str) -> bytes:
    """The pay page shown again with `echoed` in a field, which it repeats, beside the token."""
    values = crawl.token_of(visitor) | {"choice": "other", "amount": echoed}
    page = crawl.send(visitor, "POST", portal.path("billing/pay"), data=values)
    assert page.status_code == 422
    assert echoed.encode() in page.data
    assert b'name="csrf_token"' in page.data
    return bytes(page.data)


def sizes(portal: Portal, visitor: Visitor, echoed: list[str]) -> float:
    """Mean size as it goes over the wire, over several answers."""
    return statistics.mean(
        len(brotli.compress(refused_with(portal, visitor, text), quality=5))
        for _ in range(ROUNDS // len(echoed))
        for text in echoed
    )


def secret_of(portal: Portal) -> bytes:
    return bytes(
        portal.one(
            "SELECT csrf_secret FROM sessions WHERE customer_id = :id",
            id=portal.world.customers["alice"],
        )
    )


def written(secret: bytes) -> list[str]:
    """The secret as an attacker might echo it, cut to what the field takes."""
    doubled = base64.urlsafe_b64encode(bytes(len(secret)) + secret).decode()
    return [base64.urlsafe_b64encode(secret).decode()[:GUESS], doubled[-GUESS - 2 : -2]]


@pytest.mark.parametrize("engine_kind", ["sqlite"])
@pytest.mark.parametrize("is_masked", [True, False])
def test_right_guess_makes_no_smaller_answer_than_a_wrong_one(
    portal: Portal, is_masked: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the mask, shown for comparison, it would."""
    if not is_masked:
        monkeypatch.setattr("core.csrf.secrets.token_bytes", bytes)
    alice = portal.visitor("alice")
    secret = bytes(range(200, 216)) if not is_masked else secret_of(portal)
    if not is_masked:
        portal.execute("UPDATE sessions SET csrf_secret = :secret", secret=secret)
    right = sizes(portal, alice, written(secret))
    wrong = sizes(portal, alice, written(bytes(byte ^ 0x5A for byte in secret)))
    if is_masked:
        assert abs(right - wrong) < 4
    else:
        assert wrong - right > 6


@pytest.mark.parametrize("engine_kind", ["sqlite"])
def test_two_answers_hold_no_token_and_no_key_in_common(portal: Portal) -> None:
    alice = portal.visitor("alice")
    seen: list[str] = []
    for path in (portal.path(), portal.path("billing/pay"), "/accounts", "/help", "/nothing"):
        for _ in range(2):
            _, values = alice.get(path).form("/sign-out")
            seen += [values["csrf_token"], values["form_key"]]
    assert len(set(seen)) == len(seen)
    # Not even a part: 12 signs in a row are 72 bits.
    parts = [text[place : place + 12] for text in seen for place in range(len(text) - 11)]
    assert len(set(parts)) == len(parts)
    assert base64.urlsafe_b64encode(secret_of(portal)).decode()[:16] not in "".join(seen)
