"""Whoever has lost every second factor (bar 20)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import select

from blueprints.auth import losing_factors
from blueprints.auth.errors import FactorNotFound, ResetNotAllowed
from core.db import db
from models import FactorReset
from tests import factors, repeats
from tests.conftest import Base, Portal, together
from tests.factors import app_code, give_code, half_way, sent_codes, told
from tests.page import Page, Visitor

FACTORS = "SELECT count(*) FROM factors"
STATE = "SELECT state FROM factor_resets"


def lost(portal: Portal, name: str = "alice") -> Visitor:
    """A browser whose person has the password and says that everything else is lost."""
    visitor = half_way(portal, name)
    page = visitor.submit(visitor.get("/sign-in/second-step"), "/lost")
    assert page.location == "/sign-in/lost"
    return visitor


def prove(portal: Portal, visitor: Visitor) -> Page:
    """Have the next code sent and give it."""
    page = visitor.submit(visitor.get("/sign-in/lost"), "/send")
    return visitor.submit(
        visitor.get(page.location), "/sign-in/lost", code=sent_codes(portal)[-1][1]
    )


@pytest.fixture
def asked(portal: Portal) -> str:
    """A reset that alice has asked staff for; bob and vera are staff."""
    factors.give_app(portal, "alice")
    visitor = lost(portal)
    assert visitor.submit(visitor.get("/sign-in/lost"), "/staff").location == "/sign-in/lost"
    factors.make_staff(portal, "bob")
    factors.make_staff(portal, "vera")
    public_id: str = portal.one("SELECT public_id FROM factor_resets")
    return public_id


# By oneself -----------------------------------------------------------------------------------


def test_password_and_codes_to_two_kinds_of_contacts_take_the_factors_away(
    portal: Portal,
) -> None:
    factors.give_app(portal, "alice")
    factors.give_phone(portal, "alice")
    signed_in = half_way(portal, "alice")
    give_code(signed_in, app_code())
    visitor = lost(portal)
    assert prove(portal, visitor).location == "/sign-in/lost"
    assert portal.one(FACTORS) == 1
    assert "The code by e-mail was right" in visitor.get("/sign-in/lost").text
    page = prove(portal, visitor)
    assert page.location == "/sign-in?done=factors-reset"
    assert [recipient for recipient, _ in sent_codes(portal)] == [
        "alice@example.net",
        "+15415550123",
    ]
    assert (portal.one(FACTORS), "session" in visitor.cookies()) == (0, False)
    assert "taken away" in visitor.get(page.location).text
    assert told(portal)[-1] == ("alice@example.net", "factors_reset")
    assert signed_in.get(portal.path()).location.startswith("/sign-in")
    assert portal.visitor().sign_in("alice").location == portal.path()


def test_without_a_phone_on_file_the_pages_are_the_same_and_lead_nowhere(
    portal: Portal,
) -> None:
    factors.give_app(portal, "alice")
    visitor = lost(portal)
    prove(portal, visitor)
    page = visitor.submit(visitor.get("/sign-in/lost"), "/send")
    page = visitor.get(page.location)
    assert "If there is such a contact on file" in page.text
    assert len(sent_codes(portal)) == 1
    assert visitor.submit(page, "/sign-in/lost", code="000000").status == 422
    assert portal.one(FACTORS) == 1


def test_contact_of_late_receives_no_code(portal: Portal) -> None:
    factors.give_app(portal, "alice")
    factors.give_phone(portal, "alice")
    portal.execute("UPDATE contacts SET since_on = '2026-06-01' WHERE kind = 'phone'")
    visitor = lost(portal)
    prove(portal, visitor)
    visitor.submit(visitor.get("/sign-in/lost"), "/send")
    assert len(sent_codes(portal)) == 1


def test_lost_answer_to_each_step_is_pressed_again(portal: Portal) -> None:
    factors.give_app(portal, "alice")
    factors.give_phone(portal, "alice")
    visitor = lost(portal)
    for last in (False, True):
        page = visitor.get("/sign-in/lost")
        sent = [visitor.submit(page, "/send") for _ in range(2)]
        page = visitor.get(sent[1].location)
        code = sent_codes(portal)[-1][1]
        answers = [visitor.submit(page, "/sign-in/lost", code=code) for _ in range(2)]
        assert [answer.status for answer in answers] == [303, 303]
        again = "/sign-in?done=ended" if last else "/sign-in/lost"
        assert answers[1].location == again
    assert len(sent_codes(portal)) == 2
    assert portal.one(FACTORS) == 0


def test_guessing_is_limited_over_both_kinds_of_pages(portal: Portal) -> None:
    factors.give_app(portal, "alice")
    visitor, half = lost(portal), half_way(portal, "alice")
    page = visitor.get(visitor.submit(visitor.get("/sign-in/lost"), "/send").location)
    for _ in range(3):
        assert visitor.submit(page, "/sign-in/lost", code="x").status == 422
    for _ in range(2):
        assert give_code(half, "x").status == 422
    assert visitor.submit(page, "/sign-in/lost", code=sent_codes(portal)[0][1]).status == 429


def test_it_ends_after_an_hour(portal: Portal, tick: Callable[..., None]) -> None:
    factors.give_app(portal, "alice")
    visitor = lost(portal)
    tick(hours=1)
    assert visitor.get("/sign-in/lost").location == "/sign-in?done=ended"


def test_staff_cannot_do_it_alone(portal: Portal) -> None:
    factors.give_app(portal, "alice")
    factors.give_phone(portal, "alice")
    factors.make_staff(portal, "alice")
    visitor = lost(portal)
    page = visitor.get("/sign-in/lost")
    assert not page.select("form[action$='/send']")
    guard = {name: page.form("/staff")[1][name] for name in ("csrf_token", "form_key")}
    for way in ("email", "text"):
        visitor.post("/sign-in/lost/send", guard | {"by": way})
        visitor.post("/sign-in/lost", guard | {"by": way, "code": "000000"})
    assert sent_codes(portal) == []


# By staff -------------------------------------------------------------------------------------


def test_one_member_proofs_and_another_approves(portal: Portal, asked: str) -> None:
    bob, vera = (portal.world.customers[name] for name in ("bob", "vera"))
    assert ("alice@example.net", "factor_reset_asked") in told(portal)
    with portal.app.app_context():
        for _ in range(2):
            losing_factors.proof_reset(asked, bob, "called back on the number of the contract")
        with pytest.raises(ResetNotAllowed):
            losing_factors.approve_reset(asked, bob)
        assert portal.one(FACTORS) == 1
        for _ in range(2):
            losing_factors.approve_reset(asked, vera)
    assert (portal.one(FACTORS), portal.one(STATE)) == (0, "done")
    assert told(portal).count(("alice@example.net", "factors_reset")) == 1
    assert portal.visitor().sign_in("alice").location == portal.path()


def test_nothing_is_approved_before_it_is_proofed(portal: Portal, asked: str) -> None:
    with portal.app.app_context(), pytest.raises(ResetNotAllowed):
        losing_factors.approve_reset(asked, portal.world.customers["vera"])
    assert portal.one(FACTORS) == 1


def test_refused_reset_is_over(portal: Portal, asked: str) -> None:
    bob, vera = (portal.world.customers[name] for name in ("bob", "vera"))
    with portal.app.app_context():
        losing_factors.proof_reset(asked, bob, "x")
        losing_factors.refuse_reset(asked, vera)
        losing_factors.refuse_reset(asked, vera)
        with pytest.raises(ResetNotAllowed):
            losing_factors.approve_reset(asked, vera)
    assert (portal.one(FACTORS), portal.one(STATE)) == (1, "refused")


def test_nobody_helps_themselves_and_customers_help_nobody(portal: Portal, asked: str) -> None:
    factors.make_staff(portal, "alice")
    alice, mallory = (portal.world.customers[name] for name in ("alice", "mallory"))
    with portal.app.app_context():
        for who in (alice, mallory):
            with pytest.raises(ResetNotAllowed):
                losing_factors.proof_reset(asked, who, "x")
        with pytest.raises(FactorNotFound):
            losing_factors.proof_reset("0000000000000000", alice, "x")


def test_asking_twice_asks_once(portal: Portal) -> None:
    factors.give_app(portal, "alice")
    visitor = lost(portal)
    page = visitor.get("/sign-in/lost")
    together(4, lambda _number: visitor.submit(page, "/staff").status)
    assert portal.one("SELECT count(*) FROM factor_resets") == 1
    assert "We look into it" in visitor.get("/sign-in/lost").text


def test_whoever_has_asked_may_still_prove_it_alone(portal: Portal) -> None:
    factors.give_app(portal, "alice")
    factors.give_phone(portal, "alice")
    visitor = lost(portal)
    visitor.submit(visitor.get("/sign-in/lost"), "/staff")
    page = visitor.get("/sign-in/lost")
    assert not page.select("form[action$='/staff']")
    assert prove(portal, visitor).location == "/sign-in/lost"
    assert prove(portal, visitor).location == "/sign-in?done=factors-reset"
    assert (portal.one(FACTORS), portal.one(STATE)) == (0, "done")


def test_member_who_approves_and_one_who_refuses_at_once_leave_one_end(
    portal: Portal, asked: str
) -> None:
    bob, vera = (portal.world.customers[name] for name in ("bob", "vera"))
    with portal.app.app_context():
        losing_factors.proof_reset(asked, bob, "x")

    def one(number: int) -> None:
        with portal.app.app_context():
            (losing_factors.approve_reset, losing_factors.refuse_reset)[number](asked, vera)

    answers = together(2, one)
    assert [type(answer) for answer in answers].count(ResetNotAllowed) == 1
    with portal.app.app_context():
        row = db.session.execute(select(FactorReset)).scalar_one()
    assert (row.state == "done") == (portal.one(FACTORS) == 0)


# Any order of steps ---------------------------------------------------------------------------

STEPS = (
    "sign in", "lost", "send email", "send text", "give email", "give text", "give other's",
    "guess", "ask", "proof by bob", "approve by bob", "approve by vera", "refuse", "again",
)  # fmt: skip


class Walk:
    """Somebody who takes the steps in any order, with the codes of one mailbox in hand: what they
    have proven is what the portal has to ask for."""

    def __init__(self, portal: Portal, reads: str) -> None:
        self.portal, self.reads = portal, reads
        self.visitor = portal.visitor()
        self.guard: dict[str, str] = {}
        self.proofed_by: set[str] = set()

    def take(self, step: str) -> None:
        verb, _, rest = step.partition(" ")
        if step in ("sign in", "again"):
            self.visitor.sign_in("alice")
        elif step == "lost":
            self._post("/sign-in/second-step/lost", "/sign-in/second-step")
        elif step == "guess":
            self._post("/sign-in/lost", "/sign-in/lost", by="email", code="123456")
        elif verb == "send":
            self._post("/sign-in/lost/send", "/sign-in/lost", by=rest)
        elif verb == "give":
            self._give(rest)
        elif step == "ask":
            self._post("/sign-in/lost/staff", "/sign-in/lost")
        else:
            self._staff(verb, rest.removeprefix("by "))

    def _post(self, path: str, page: str, **values: str) -> None:
        shown = self.visitor.get(page)
        forms = shown.select("form[method=post]") if shown.tree is not None else []
        found = dict(forms[0].form_values()) if forms else self.guard
        guard = {name: found.get(name) or "" for name in ("csrf_token", "form_key")}
        self.visitor.post(path, guard | values)

    def _give(self, way: str) -> None:
        mine = {"email": "alice@example.net", "text": "+15415550123"}
        is_other = way == "other's"
        by = ("text" if self.reads == "email" else "email") if is_other else way
        # They can read one of the two alone.
        codes = [code for to, code in sent_codes(self.portal) if to == mine[self.reads]]
        if codes:
            self._post("/sign-in/lost", "/sign-in/lost", by=by, code=codes[-1])

    def _staff(self, verb: str, name: str) -> None:
        rows = self.portal.rows("SELECT public_id FROM factor_resets ORDER BY id DESC LIMIT 1")
        if not rows:
            return
        customers = self.portal.world.customers
        with self.portal.app.app_context():
            try:
                if verb == "proof":
                    losing_factors.proof_reset(rows[0][0], customers[name], "seen")
                elif verb == "approve":
                    losing_factors.approve_reset(rows[0][0], customers["bob"])
                else:
                    losing_factors.refuse_reset(rows[0][0], customers["vera"])
            except ResetNotAllowed:
                pass


@pytest.fixture
def fresh(portal: Portal, base: Base) -> Callable[[], None]:
    def again() -> None:
        base.reset()
        portal.app.extensions["remembered"].forget()
        factors.give_app(portal, "alice")
        factors.give_phone(portal, "alice")
        factors.make_staff(portal, "bob")
        factors.make_staff(portal, "vera")

    return again


ALONE = tuple(step for step in STEPS if step != "approve by vera")


@pytest.mark.parametrize("engine_kind", ["sqlite"])
@pytest.mark.parametrize("reads", ["email", "text"])
@settings(
    max_examples=repeats.sized(25, 60, 300),
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(steps=st.lists(st.sampled_from(ALONE), max_size=14))
def test_no_order_of_steps_gets_through_with_one_proof(
    portal: Portal, fresh: Callable[[], None], reads: str, steps: list[str]
) -> None:
    """The password and one mailbox, or the password and one member of staff, are not enough."""
    fresh()
    walk: Any = Walk(portal, reads)
    for step in ["sign in", "lost", *steps]:
        walk.take(step)
        assert portal.one(FACTORS) == 1, step
        assert "session" not in walk.visitor.cookies()
