"""What staff do for people, in any order: no step is skipped, counts twice, or is taken by whoever
may not; each effect is one event that the person reads (bars 20, 23 and 35)."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any, NamedTuple

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from blueprints.auth import losing_factors
from blueprints.dashboard.activity.service import list_events
from core import clock
from tests import crawl, factors, repeats
from tests.auth.mail import sent
from tests.conftest import Base, Portal
from tests.page import Page
from tests.staff.test_helping import path_of
from tests.world import PASSWORD, STAFF

Tick = Callable[..., None]
HELPERS = {"sue", "ada"}
CALL_TAKERS = HELPERS | {"ben"}
LIST = "/staff/lost-factors"
NOTE = "came by with an identity card"
EFFECTS = {
    "send": "caller_code_sent",
    "check": "caller_verified",
    "reset": "recovery_started",
    "proof": "factor_reset_proofed",
    "approve": "factors_reset",
    "refuse": "factor_reset_refused",
    "print": "letter_printed",
    "view": "staff_saw_portal",
}
STEPS = (
    *("send", "send", "check", "check", "check theirs", "check wrong", "reset", "proof", "proof"),
    *("approve", "approve", "refuse", "print", "view", "end view", "pay", "again", "again"),
    *("alice asks", "sue asks", "confirm", "sign in", "wait 1", "wait 11", "wait 31"),
)
WHO = ("sue", "sue", "ada", "ada", "ben", "tess")
COUNTED = (
    "SELECT (SELECT count(*) FROM messages), (SELECT count(*) FROM factors),"
    " (SELECT count(*) FROM one_time_codes), (SELECT count(*) FROM one_time_links),"
    " (SELECT count(*) FROM postal_letters WHERE printed_at IS NOT NULL),"
    " (SELECT count(*) FROM sessions WHERE viewer_id IS NOT NULL),"
    " (SELECT count(*) FROM payments), (SELECT count(*) FROM memberships),"
    " (SELECT count(*) FROM factor_resets WHERE state = 'proofed'),"
    " (SELECT count(*) FROM factor_resets WHERE state = 'done'),"
    " (SELECT count(*) FROM factor_resets WHERE state = 'refused')"
)


class Code(NamedTuple):
    """What a caller was sent for one member of staff."""

    code: str
    sent_at: datetime


class Walk:
    """Each of the staff with a browser, and what they may have had an effect with."""

    def __init__(self, portal: Portal, tick: Tick) -> None:
        self.portal, self.tick = portal, tick
        self.browsers = {name: portal.visitor(name) for name in STAFF}
        self.codes: dict[str, Code] = {}
        self.last: dict[str, tuple[str, str, dict[str, str]]] = {}
        self.used: set[str] = set()
        self.views: set[str] = set()
        self.effects: Counter[str] = Counter()

    def take(self, who: str, step: str) -> None:
        verb, _, rest = step.partition(" ")
        if verb == "wait":
            self.tick(minutes=int(rest))
        elif rest == "asks":
            with self.portal.app.app_context():
                losing_factors.ask_reset(self.portal.world.customers[verb])
        elif verb == "confirm":
            self._post(who, "/confirm", {"password": PASSWORD})
        elif verb == "sign":
            self.browsers[who] = self.portal.visitor(who)
            self.views.discard(who)
            self.codes.pop(who, None)
        elif step == "end view":
            self._end_view(who)
        else:
            self._press(who, verb, rest)

    # One press, and what it may do --------------------------------------------------------------

    def _press(self, who: str, verb: str, rest: str) -> None:
        if verb == "again":
            if who not in self.last:
                return
            verb, path, values = self.last[who]
        else:
            path, values = self._form(who, verb, rest)
            values |= self._guard(who)
        row = self._reset_of(path)
        events, counted = self._events(), self._counted()
        is_viewer = who in self.views
        whole = self._dump() if is_viewer else None
        answer = self.browsers[who].post(path, values)
        assert answer.status < 500, (who, verb)
        self.last[who] = (verb, path, values)
        new = self._events() - events
        if not new:
            assert self._counted() == counted, (who, verb, answer.status)
            assert whole is None or self._dump() == whole, (who, verb)
            return
        assert not is_viewer, verb
        assert new == {EFFECTS[verb]: 1}, (who, verb)
        assert answer.status == (200 if verb == "print" else 303)
        self.effects += new
        self._check(who, verb, values, row)
        # Printing again is meant to make another code, and a view ends the one before.
        if verb not in ("print", "view"):
            assert values["form_key"] not in self.used, (who, verb)
        self.used.add(values["form_key"])

    def _form(self, who: str, verb: str, rest: str) -> tuple[str, dict[str, str]]:
        person = path_of(self.portal, "/people/alicecustomer")
        call = path_of(self.portal, "/call")
        reset = self.portal.rows("SELECT public_id FROM factor_resets ORDER BY id DESC LIMIT 1")
        lost = f"{LIST}/{reset[0][0] if reset else 'nothing'}"
        if verb == "check":
            others = [each.code for name, each in self.codes.items() if name != who]
            own = self.codes.get(who)
            code = {
                "": own.code if own else "000000",
                "theirs": others[-1] if others else "000001",
                "wrong": "999999",
            }[rest]
            return f"{call}/check", {"code": code}
        forms = {
            "send": (call, {"contact": str(self._contact())}),
            "reset": (f"{person}/reset", {}),
            "proof": (f"{lost}/proof", {"note": NOTE}),
            "approve": (f"{lost}/approve", {}),
            "refuse": (f"{lost}/refuse", {}),
            "print": ("/staff/letters/aliceletter/print", {}),
            "view": (f"{person}/view", {"reason": "a call about a bill"}),
            "pay": (self.portal.path("billing/pay"), {"choice": "balance"}),
        }
        return forms[verb]

    def _check(
        self, who: str, verb: str, values: dict[str, str], reset: tuple[Any, ...] | None
    ) -> None:
        """Whether `who` had earned what the step did; `reset` is the row as it was before."""
        me = self.portal.world.customers[who]
        assert who in (CALL_TAKERS if verb in ("send", "check") else HELPERS)
        if verb == "send":
            self.codes[who] = Code(sent(self.portal, "caller_code")[-1].code, clock.now())
        elif verb == "check":
            code = self.codes.pop(who)
            assert values["code"] == code.code
            assert clock.now() < code.sent_at + timedelta(minutes=10)
        elif verb == "view":
            self.views.add(who)
        elif verb in ("proof", "approve", "refuse"):
            assert reset is not None
            state, prover, about = reset
            assert about != me
            assert state in {"proof": ("asked",), "approve": ("proofed",)}.get(
                verb, ("asked", "proofed")
            )
            if verb == "approve":
                assert prover not in (None, me)
                assert self._factors_of(about) == 0

    def _end_view(self, who: str) -> None:
        before = self._events()
        self._post(who, "/staff/view/end", {})
        assert self._events() == before
        self.views.discard(who)

    # What there is -----------------------------------------------------------------------------

    def _post(self, who: str, path: str, values: dict[str, str]) -> Page:
        return self.browsers[who].post(path, values | self._guard(who))

    def _guard(self, who: str) -> dict[str, str]:
        page = self.browsers[who].get("/accounts")
        return {
            name: found[1]
            if (found := re.search(f'name="{name}" value="([^"]+)', page.response.text))
            else ""
            for name in ("csrf_token", "form_key")
        }

    def _contact(self) -> int:
        account = self.portal.world.accounts["alice"]
        found: int = self.portal.one(
            f"SELECT min(id) FROM contacts WHERE account_id = {account} AND kind = 'email'"
        )
        return found

    def _reset_of(self, path: str) -> tuple[Any, ...] | None:
        found = self.portal.rows(
            "SELECT state, proofed_by_id, customer_id FROM factor_resets WHERE public_id = :id",
            id=path.split("/")[3] if path.startswith(LIST) else "",
        )
        return found[0] if found else None

    def _factors_of(self, customer_id: int) -> int:
        count: int = self.portal.one(
            f"SELECT count(*) FROM factors WHERE customer_id = {customer_id}"
        )
        return count

    def _events(self) -> Counter[str]:
        rows = self.portal.rows("SELECT kind, count(*) FROM activity GROUP BY kind")
        return Counter({kind: count for kind, count in rows if kind in EFFECTS.values()})

    def _counted(self) -> tuple[Any, ...]:
        return self.portal.rows(COUNTED)[0]

    def _dump(self) -> dict[str, Any]:
        return crawl.dump(self.portal.app, without=("sessions.last_used_at",))

    def read(self) -> Counter[str]:
        """The effects as those whom they concern read them: alice, and sue of her own reset."""
        found: Counter[str] = Counter()
        with self.portal.app.app_context():
            for name in ("alice", "sue"):
                customer_id, page, pages = self.portal.world.customers[name], 1, 1
                while page <= pages:
                    shown = list_events(customer_id, "all", page)
                    found.update(each.kind for each in shown.events)
                    page, pages = page + 1, shown.page_count
        return Counter({kind: found[kind] for kind in EFFECTS.values() if found[kind]})


@pytest.fixture
def fresh(portal: Portal, base: Base) -> Callable[[], None]:
    def again() -> None:
        base.reset()
        portal.app.extensions["remembered"].forget()
        factors.give_app(portal, "alice")
        factors.give_app(portal, "sue")
        with portal.app.app_context():
            crawl.ask_for_letter(portal, "alice")

    return again


IN_ORDER = (
    *(("sue", step) for step in ("send", "check", "again", "reset", "again", "print")),
    *(("sue", step) for step in ("alice asks", "proof", "approve", "again")),
    *(("ada", step) for step in ("approve", "again", "proof", "view", "pay", "reset", "end view")),
    *(("ada", step) for step in ("alice asks", "sue asks", "refuse", "again", "wait 31", "print")),
)


@pytest.mark.parametrize("engine_kind", ["sqlite"])
def test_each_step_in_its_place_has_its_effect(
    portal: Portal, tick: Tick, fresh: Callable[[], None]
) -> None:
    fresh()
    walk = Walk(portal, tick)
    for who, step in IN_ORDER:
        walk.take(who, step)
    assert walk.effects == walk.read() == dict.fromkeys(EFFECTS.values(), 1)


@pytest.mark.parametrize("engine_kind", ["sqlite"])
@settings(
    max_examples=repeats.sized(15, 60, 600),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(steps=st.lists(st.tuples(st.sampled_from(WHO), st.sampled_from(STEPS)), max_size=16))
@example(steps=[("sue", "send"), ("ben", "check theirs"), ("sue", "check")])
def test_no_order_of_steps_gains_what_was_not_earned(
    portal: Portal,
    tick: Tick,
    fresh: Callable[[], None],
    steps: list[tuple[str, str]],
) -> None:
    fresh()
    walk = Walk(portal, tick)
    for who, step in steps:
        walk.take(who, step)
    assert walk.read() == walk.effects
