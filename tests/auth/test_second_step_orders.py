"""The steps of a half-finished sign-in in any order: none is skipped, or counts twice (bars 8, 11
and 19)."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from blueprints.auth import recovery_codes
from core import clock
from tests import factors, repeats
from tests.conftest import Base, Portal
from tests.factors import app_code, give_code, half_way, sent_codes
from tests.page import Page, Visitor

WRONG = "wrong-lantern-orbit-47"
STEPS = (
    "sign in", "sign in wrongly", "look", "give app", "give app", "give recovery", "give email",
    "send email", "give nothing", "give again", "enrol app", "enrol code", "enrol passkey",
    "passkey", "lost", "wait a little", "wait a minute", "wait for long", "forget flow",
)  # fmt: skip


class Walk:
    """One browser that takes the steps, and what it has been let in with."""

    def __init__(self, portal: Portal, tick: Callable[..., None], codes: list[str]) -> None:
        self.portal, self.tick, self.recovery = portal, tick, codes
        self.visitor = portal.visitor()
        self.sign_ins = 0
        self.let_in: dict[str, int] = {}
        self.last: tuple[str, dict[str, str]] | None = None

    def sessions(self, only: str = "") -> int:
        count: int = self.portal.one(f"SELECT count(*) FROM sessions {only}")
        return count

    def take(self, step: str) -> None:
        before, proof = self.sessions(), self._act(step)
        opened = self.sessions() - before
        if not opened:
            return
        assert opened == 1
        assert proof is not None, f"{step} opened a session"
        # Another half-finished sign-in has not used it, and this one only the same proof.
        assert self.let_in.setdefault(proof, self.sign_ins) == self.sign_ins, step
        newest = "SELECT has_second_factor FROM sessions ORDER BY id DESC LIMIT 1"
        assert self.portal.one(newest)

    def _act(self, step: str) -> str | None:
        """Take a step; what it proves, if anything."""
        verb, _, rest = step.partition(" ")
        if step == "sign in":
            page = self.visitor.sign_in("alice")
            self.sign_ins += page.location == "/sign-in/second-step"
        elif step == "sign in wrongly":
            self.visitor.sign_in("alice", WRONG)
        elif verb == "give":
            return self._give(rest)
        elif verb == "wait":
            self.tick(**{"a little": {"seconds": 1}, "a minute": {"seconds": 61}}.get(
                rest, {"minutes": 6}))  # fmt: skip
        elif step == "forget flow":
            self.visitor.client.delete_cookie("flow-sign-in", domain="127.0.0.1")
        else:
            self._press(step)
        return None

    def _give(self, what: str) -> str | None:
        if what == "again":
            if self.last is not None:
                self.visitor.post("/sign-in/second-step", self._guard() | self.last[1])
            return self.last[0] if self.last is not None else None
        sent = sent_codes(self.portal)
        code = {
            "app": app_code(),
            "recovery": self.recovery[len(self.let_in) % len(self.recovery)],
            "email": sent[-1][1] if sent else "x",
            "nothing": "x",
        }[what]
        values = {"by": "totp" if what == "app" else what, "code": code}
        self.visitor.post("/sign-in/second-step", self._guard() | values)
        proof = f"{what} {code} {clock.now().timestamp() // 30 if what == 'app' else ''}"
        self.last = (proof, values)
        return proof if what != "nothing" else None

    def _press(self, step: str) -> None:
        path = {
            "look": "",
            "send email": "/send",
            "enrol app": "/new/app",
            "enrol code": "/new",
            "enrol passkey": "/new/passkey",
            "passkey": "/passkey",
            "lost": "/lost",
        }[step]
        if not path:
            self.visitor.get("/sign-in/second-step/new")
            return
        values = {"by": "email", "code": app_code(), "credential": "{}"}
        self.visitor.post(f"/sign-in/second-step{path}", self._guard() | values)

    def _guard(self) -> dict[str, str]:
        page: Page = self.visitor.get("/sign-in/second-step")
        text = page.response.text
        return {
            name: found[1] if (found := re.search(f'name="{name}" value="([^"]+)', text)) else ""
            for name in ("csrf_token", "form_key")
        }


@pytest.fixture
def fresh(portal: Portal, base: Base) -> Callable[[], list[str]]:
    def again() -> list[str]:
        base.reset()
        portal.app.extensions["remembered"].forget()
        factors.give_app(portal, "alice")
        factors.give_email(portal, "alice")
        customer_id = portal.world.customers["alice"]
        with portal.app.app_context():
            shown = recovery_codes.make(customer_id, portal.settings.secret)
            recovery_codes.confirm(customer_id, shown.batch, 0)
        return list(shown.codes)

    return again


@pytest.mark.parametrize("engine_kind", ["sqlite"])
@settings(
    max_examples=repeats.sized(40, 100, 1_000),
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(steps=st.lists(st.sampled_from(STEPS), max_size=16))
def test_no_order_of_steps_opens_a_session_without_both_factors(
    portal: Portal,
    tick: Callable[..., None],
    fresh: Callable[[], list[str]],
    steps: list[str],
) -> None:
    walk = Walk(portal, tick, fresh())
    for step in ["sign in", *steps]:
        walk.take(step)
    living = walk.sessions("WHERE ended_at IS NULL")
    assert living <= len(set(walk.let_in.values()))
    tick(days=2)
    visitor: Visitor = half_way(portal, "alice")  # and nobody is shut out for good
    assert give_code(visitor, app_code()).status == 303
