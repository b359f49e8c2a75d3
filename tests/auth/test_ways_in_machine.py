"""Registering, recovering a password and finding an ID as state machines: every step in any order,
pressed again as often as one likes, its answer lost, by two browsers at once. No step is skipped or
counts twice, and every message, customer and password there is was earned (bars 13, 16, 18, 19).
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from blueprints.auth import finding_id, recovering, registering
from core import clock
from core.policy import POLICY, Who
from models import FlowKind
from tests import crawl, repeats, world
from tests.auth.mail import sent
from tests.auth.test_registering import PHONE, add_contact
from tests.conftest import Base, Portal
from tests.page import Page, Visitor
from tests.test_forms_at_random import ANYTHING, fresh_portal
from tests.world import PASSWORD

STEPS = repeats.sized(20, 20, 60)
SHARE = {"sqlite": 2, "postgresql": 20}
OUR_KINDS = (FlowKind.REGISTER, FlowKind.RECOVER, FlowKind.FIND_ID)
FIRST = ("/register", "/recover", "/forgot-id")
PATHS = {
    "/register": registering.PATHS,
    "/recover": recovering.PATHS,
    "/forgot-id": finding_id.PATHS,
}
PAGES = sorted(
    crawl._PATHS[name]
    for name, rule_ in POLICY.items()
    if rule_.who is Who.FLOW
    and rule_.flow in OUR_KINDS
    and not name.endswith(("_post", "_strength", "_free"))
)
WHO = ("3003", "rich@example.net", "1001", "alice", "alice@example.net", "9009", PHONE)
PROVEN = ("account", "id", "which", "password")
"""The last part of the pages that only a code leads to."""
NEW = "amber-violin-thursday"
OFTEN_FIRST = st.sampled_from([0, 0, 0, 1])


def prepare(portal: Portal) -> None:
    """3003 has no owner, and a phone; alice has one too, the same."""
    who = portal.world.customers["rich"]
    portal.execute("DELETE FROM messages")
    portal.execute("DELETE FROM memberships WHERE customer_id = :who", who=who)
    portal.execute("DELETE FROM customers WHERE id = :who", who=who)
    for name in ("alice", "rich"):
        add_contact(portal, name, "phone", PHONE)


class Ways(RuleBasedStateMachine):
    """Two browsers. What the messages say is known to the first one alone."""

    base: Base
    reached: set[str]

    def __init__(self) -> None:
        super().__init__()
        self._clock = clock.set_to(world.NOW)
        self._clock.__enter__()
        self.now = world.NOW
        self._open = fresh_portal(self.base)
        self.portal = self._open.__enter__()

    @initialize()
    def arrive(self) -> None:
        prepare(self.portal)
        self.browsers = [Visitor(self.portal.app), Visitor(self.portal.app)]
        for browser in self.browsers:
            browser.client.set_cookie("here", "1", domain="127.0.0.1")
        self.shown: list[Page | None] = [None, None]
        self.passwords = self._passwords()

    def teardown(self) -> None:
        self._open.__exit__(None, None, None)
        self._clock.__exit__(None, None, None)

    # What is done ------------------------------------------------------------------------------

    @rule(number=OFTEN_FIRST, first=st.sampled_from(FIRST), who=st.sampled_from(WHO))
    def begin(self, number: int, first: str, who: str) -> None:
        self._note(self.browsers[number].post(first, {"who": who}), number)

    @rule(
        first=st.sampled_from(FIRST),
        who=st.sampled_from(WHO),
        way=st.sampled_from(["email", "text"]),
        steps=st.integers(1, 3),
    )
    def go_some_steps(self, first: str, who: str, way: str, steps: int) -> None:
        """As it is meant: the first browser, one step after the other."""
        self._note(self.browsers[0].post(first, {"who": who}))
        self.shown[0] = self.browsers[0].get(f"{first}/way")
        for _ in range(steps):
            self.press(0, way, 1, False, 0)

    @rule(number=OFTEN_FIRST, path=st.sampled_from(PAGES))
    def look(self, number: int, path: str) -> None:
        page = self.browsers[number].get(path)
        if page.status == 303:
            page = self.browsers[number].get(page.location)
        self.shown[number] = page
        self._note(page, number)

    @rule(
        number=OFTEN_FIRST,
        way=st.sampled_from(["email", "text", "post"]),
        presses=st.integers(1, 3),
        is_lost=st.booleans(),
        form=st.integers(0, 3),
    )
    def press(self, number: int, way: str, presses: int, is_lost: bool, form: int) -> None:
        """Press a form of the page that is shown, as often as one likes; go on with its answer
        unless that is lost."""
        page = self.shown[number]
        if page is None or page.tree is None or page.status not in (200, 422):
            return
        actions = [each.get("action") for each in page.select("form[method=post]")]
        actions = [each for each in actions if each.startswith(FIRST)]
        if not actions:
            return
        action = actions[form % len(actions)]
        values = page.form(action)[1]
        typed = self._typed(number, values, way)
        before = self._dump()
        answer = self.browsers[number].post(action, values | typed)
        self._note(answer, number)
        once = self._dump()
        for _ in range(presses - 1):
            again = self.browsers[number].post(action, values | typed)
            self._note(again, number)
            if answer.status == 303:
                assert again.status in (303, 429), (action, again.status)
                assert self._dump() == once, action
        if answer.status not in (303, 422):
            assert self._dump() == before, (action, answer.status)
        if not is_lost:
            self.shown[number] = answer
            if answer.status == 303 and answer.location.startswith(FIRST):
                shown = self.browsers[number].get(answer.location)
                self._note(shown, number)
                self.shown[number] = shown

    @rule(number=OFTEN_FIRST, path=st.sampled_from(PAGES), way=st.sampled_from(["email", "text"]))
    def press_out_of_order(self, number: int, path: str, way: str) -> None:
        """Send a form of another step with the token and key of the page that is shown."""
        page = self.shown[number]
        if page is None or page.tree is None or not page.select("input[name=form_key]"):
            return
        guard = {
            name: page.select(f"input[name={name}]")[0].get("value")
            for name in ("csrf_token", "form_key")
        }
        typed = {"way": way, "code": "123456", "which": "nobody", "sign_in_id": "richard"}
        self._note(self.browsers[number].post(path, guard | typed | {"password": NEW}), number)

    @rule()
    def open_the_link(self) -> None:
        links = sent(self.portal, "recover_link")
        if links:
            page = self.browsers[0].get(f"/recover/link/{links[-1].facts['token']}")
            self._note(page)
            self.shown[0] = page

    @rule(seconds=st.sampled_from([2, 400, 4_000, 90_000]))
    def wait(self, seconds: int) -> None:
        self._clock.__exit__(None, None, None)
        self.now += timedelta(seconds=seconds)
        self._clock = clock.set_to(self.now)
        self._clock.__enter__()

    def _typed(self, number: int, values: dict[str, str], way: str) -> dict[str, str]:
        typed: dict[str, str] = {}
        if "way" in values:
            typed["way"] = way
        codes = sent(self.portal, "register_code", "recover_code")
        typed["code"] = codes[-1].code if codes and number == 0 else "000000"
        page = self.shown[number]
        choices = page.select("input[name=which]") if page is not None else []
        if choices:
            typed["which"] = choices[-1].get("value")
        if "sign_in_id" in values:
            typed["sign_in_id"] = "richard"
        if "password" in values:
            typed["password"] = NEW
        if "who" in values:
            typed["who"] = "3003"
        return typed

    # What must hold ----------------------------------------------------------------------------

    def _note(self, page: Page, number: int = 0) -> None:
        assert page.status < 500
        path = page.response.request.path
        self.reached.add(f"{path} {page.status}")
        # The other browser knows no code and gets nowhere.
        assert number == 0 or page.status != 200 or path.rpartition("/")[2] not in PROVEN

    def _dump(self) -> dict[str, int]:
        """How many rows there are of what a step may make once."""
        return {
            table: self.portal.one(f"SELECT count(*) FROM {table}")
            for table in ("customers", "memberships", "messages", "one_time_links",
                          "postal_letters", "flows")
        } | {"resets": self.portal.one(
            "SELECT count(*) FROM activity WHERE kind IN ('password_reset', 'registered')"
        )}  # fmt: skip

    def _passwords(self) -> dict[str, str]:
        return dict(self.portal.rows("SELECT sign_in_id, password_hash FROM customers"))

    @invariant()
    def everything_was_earned(self) -> None:
        portal = self.portal
        made = portal.rows(
            "SELECT c.sign_in_id, m.account_id, m.role FROM customers c"
            " JOIN memberships m ON m.customer_id = c.id WHERE c.id > 6"
        )
        if made:
            # One owner, of the account whose contact got a code.
            assert made == [("richard", portal.world.accounts["rich"], "owner")]
            assert sent(portal, "register_code")
        resets = [
            name
            for (name,) in portal.rows(
                "SELECT sign_in_id FROM activity JOIN customers ON customers.id = customer_id"
                " WHERE activity.kind = 'password_reset'"
            )
        ]
        changed = {
            name
            for name, stored in self._passwords().items()
            if name in self.passwords and self.passwords[name] != stored
        }
        assert changed <= {"alice"}
        # Whoever has registered since may have forgotten the password as well.
        assert set(resets) - {"richard"} == changed
        proofs = len(sent(portal, "recover_link", "recover_code"))
        assert len(resets) <= proofs
        # Nobody is signed in by a recovery, and what was open is closed.
        sessions = portal.rows("SELECT customer_id FROM sessions WHERE ended_at IS NULL")
        assert {customer for (customer,) in sessions} <= {
            customer
            for (customer,) in portal.rows("SELECT id FROM customers WHERE sign_in_id = 'richard'")
        }


def test_steps_in_any_order_make_nothing_that_was_not_earned(base: Base, engine_kind: str) -> None:
    reached: set[str] = set()
    examples = max(1, settings().max_examples // SHARE[engine_kind])
    run_state_machine_as_test(
        type("WaysAtRandom", (Ways,), {"base": base, "reached": reached}),
        settings=settings(
            max_examples=examples,
            stateful_step_count=STEPS,
            deadline=None,
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
        ),
    )
    # It did not only knock at closed doors.
    if examples >= 50:
        ends = {"/register/id 200", "/recover/password 200", "/forgot-id/sent 200"}
        assert len(ends & reached) >= 2, reached  # chance may leave out one


# Each answer lost, and each field attacked --------------------------------------------------------

Walk = Callable[[Portal, Visitor], list[Callable[[Page | None], tuple[str, dict[str, str]]]]]


def steps_of(portal: Portal, visitor: Visitor, first: str, way: str) -> list[dict[str, str]]:
    """What is typed at each step of a way in, in order; codes are looked up when it comes to it."""
    del portal, visitor
    who = "3003" if first == "/register" else "1001"
    steps: list[dict[str, str]] = [{"who": who}, {"way": way}]
    if first == "/register" or (first == "/recover" and way == "text"):
        steps.append({"code": ""})
        last = {"password": NEW}
        steps.append(last | {"sign_in_id": "richard"} if first == "/register" else last)
    return steps


WALKS = [
    ("/register", "email"),
    ("/register", "text"),
    ("/recover", "text"),
    ("/recover", "email"),
    ("/forgot-id", "email"),
]


def filled(portal: Portal, typed: dict[str, str]) -> dict[str, str]:
    if "code" not in typed:
        return typed
    return {"code": sent(portal, "register_code", "recover_code")[-1].code}


def walk(portal: Portal, first: str, way: str, lost: int | None) -> tuple[list[str], Any]:
    """Take every step; the answer to step `lost` never arrives, nor its cookies, and the form is
    pressed again. Where each led, and what the database holds of it."""
    visitor = portal.visitor()
    page = visitor.get(first)
    led = []
    for number, typed in enumerate(steps_of(portal, visitor, first, way)):
        action, values = page.form()
        values |= filled(portal, typed)
        if number == lost:
            before = visitor.cookies()
            assert visitor.post(action, values).status == 303
            for name in visitor.cookies().keys() - before.keys():
                visitor.client.delete_cookie(name, domain="127.0.0.1")
        answer = visitor.post(action, values)
        assert answer.status == 303, (number, answer.status)
        led.append(answer.location)
        page = visitor.get(answer.location)
    counted = {
        table: portal.one(f"SELECT count(*) FROM {table}")
        for table in ("customers", "messages", "memberships", "one_time_links", "form_keys")
    }
    return led, counted


@pytest.mark.parametrize(("first", "way"), WALKS)
def test_every_answer_may_be_lost(base: Base, first: str, way: str) -> None:
    with clock.set_to(world.NOW), fresh_portal(base) as portal:
        prepare(portal)
        wanted = walk(portal, first, way, None)
    for lost in range(len(wanted[0])):
        with clock.set_to(world.NOW), fresh_portal(base) as portal:
            prepare(portal)
            assert walk(portal, first, way, lost) == wanted, lost


@pytest.mark.parametrize("engine_kind", ["sqlite"])
@pytest.mark.parametrize(("first", "way"), WALKS)
def test_each_field_of_each_step_takes_anything(portal: Portal, first: str, way: str) -> None:
    prepare(portal)
    visitor = portal.visitor()
    page = visitor.get(first)
    count = 0
    for typed in steps_of(portal, visitor, first, way):
        action, values = page.form()
        values |= filled(portal, typed)
        cookies = visitor.cookies()
        for field in values:
            for value in ANYTHING:
                other = Visitor(portal.app)
                for name, held in cookies.items():
                    other.client.set_cookie(name, held, domain="127.0.0.1")
                if field in typed and value.decode("utf-8", "replace").strip():
                    odd: dict[str, Any] = values | {field: value}
                    answer = other.client.post(action, base_url="http://127.0.0.1:8000", data=odd)
                    assert answer.status_code < 500, (action, field, value)
                    count += 1
        portal.execute("DELETE FROM sign_in_attempts")
        answer_page = visitor.post(action, values)
        assert answer_page.status == 303, (action, answer_page.text)
        page = visitor.get(answer_page.location)
    assert count > 40


@pytest.mark.parametrize("engine_kind", ["sqlite"])
def test_password_of_another_is_never_needed(portal: Portal) -> None:
    """The world's passwords stand as they were after every walk that is not alice's."""
    prepare(portal)
    walk(portal, "/register", "email", None)
    for name in ("alice", "bob", "mallory"):
        assert portal.visitor().sign_in(name, PASSWORD).status == 303
