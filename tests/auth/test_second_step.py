"""The second step of signing in (bars 6, 8, 9, 11, 19, 25 and 27)."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest

from blueprints.auth import recovery_codes, second_step
from blueprints.auth.errors import CodeWrong
from blueprints.auth.second_step import Typed
from blueprints.auth.service import Browser, Opened, SignInRules
from core import flows
from core.db import forget_reader
from core.flows import FlowInHand
from core.isp import current_isp
from core.throttle import TooManyAttempts
from tests import crawl, factors
from tests.conftest import Portal, Queries, together
from tests.factors import app_code, give_code, half_way, sent_codes, told
from tests.page import Visitor
from tests.world import PASSWORD

WRONG = "000000"


def recovery(portal: Portal, name: str) -> list[str]:
    """Recovery codes that count."""
    customer_id = portal.world.customers[name]
    with portal.app.app_context():
        shown = recovery_codes.make(customer_id, portal.settings.secret)
        recovery_codes.confirm(customer_id, shown.batch, 0)
    return list(shown.codes)


def form_of(visitor: Visitor, query: str = "") -> tuple[str, dict[str, str]]:
    return visitor.get(f"/sign-in/second-step{query}").form("/sign-in/second-step")


def flow_of(portal: Portal, visitor: Visitor) -> FlowInHand:
    with portal.app.app_context():
        found = flows.find("sign_in", visitor.cookies()["flow-sign-in"])
    assert found is not None
    return found


def finish(portal: Portal, flow: FlowInHand, code: str) -> Opened:
    """As the view does, without the pages around it."""
    with portal.app.app_context():
        current_isp()
        rules = SignInRules(portal.settings.secret, portal.settings.data, ())
        forget_reader()
        return second_step.finish(flow, Typed("totp", code), Browser("", "", None, None), rules)


# It works ------------------------------------------------------------------------------------


def test_code_of_the_app_opens_the_session(portal: Portal) -> None:
    factors.give_app(portal, "alice")
    visitor = half_way(portal, "alice")
    page = give_code(visitor, app_code())
    assert (page.status, page.location) == (303, portal.path())
    assert visitor.get(portal.path()).status == 200
    assert portal.one("SELECT has_second_factor FROM sessions")


def test_code_may_be_typed_with_gaps(portal: Portal) -> None:
    factors.give_app(portal, "alice")
    code = app_code()
    assert give_code(half_way(portal, "alice"), f" {code[:3]} {code[3:]} ").status == 303


@pytest.mark.parametrize("way", ["email", "text"])
def test_code_by_message_opens_the_session(portal: Portal, way: str) -> None:
    give = factors.give_email if way == "email" else factors.give_text
    give(portal, "alice")
    visitor = half_way(portal, "alice")
    page = visitor.get("/sign-in/second-step")
    page = visitor.submit(page, "/send")
    assert page.location == f"/sign-in/second-step?by={way}&sent=1"
    [(recipient, code)] = sent_codes(portal)
    assert recipient == ("alice@example.net" if way == "email" else "+15415550123")
    assert re.fullmatch(r"\d{3} \d{3}", code)
    typed = code if way == "email" else code.replace(" ", "")
    page = visitor.submit(visitor.get(page.location), "/sign-in/second-step", code=typed)
    assert (page.status, page.location) == (303, portal.path())


def test_recovery_code_opens_the_session_once_and_is_announced(portal: Portal) -> None:
    factors.give_app(portal, "alice")
    codes = recovery(portal, "alice")
    assert give_code(half_way(portal, "alice"), codes[0].lower(), "recovery").status == 303
    assert ("alice@example.net", "recovery_code_used") in told(portal)
    page = give_code(half_way(portal, "alice"), codes[0], "recovery")
    assert page.status == 422
    assert give_code(half_way(portal, "alice"), codes[1], "recovery").status == 303


def test_second_step_leads_back_to_the_page_that_was_wanted(portal: Portal) -> None:
    factors.give_app(portal, "alice")
    visitor = portal.visitor()
    wanted = portal.path("billing/invoices/?year=2026&state=open")
    page = visitor.get(visitor.get(wanted).location)
    page = visitor.submit(page, "/sign-in", sign_in_id="alice", password=PASSWORD)
    assert page.location == "/sign-in/second-step"
    assert give_code(visitor, app_code()).location == wanted


def test_each_way_is_offered_the_best_first(portal: Portal) -> None:
    factors.give_email(portal, "alice")
    factors.give_app(portal, "alice")
    recovery(portal, "alice")
    page = half_way(portal, "alice").get("/sign-in/second-step")
    assert "six digits that your app shows" in page.text
    links = [link.get("href") for link in page.select("aside a, .card--calm a")]
    assert [f"/sign-in/second-step?by={way}" in links for way in ("email", "recovery")] == [
        True,
        True,
    ]


def test_code_can_be_sent_again_and_the_older_one_is_dead(portal: Portal) -> None:
    factors.give_email(portal, "alice")
    visitor = half_way(portal, "alice")
    for _ in range(2):
        visitor.submit(visitor.get("/sign-in/second-step"), "/send")
    (_, first), (_, second) = sent_codes(portal)
    if first != second:
        assert give_code(visitor, first, "email").status == 422
    assert give_code(visitor, second, "email").status == 303


def test_form_that_asks_for_a_code_sends_one_when_it_is_sent_twice(portal: Portal) -> None:
    factors.give_email(portal, "alice")
    visitor = half_way(portal, "alice")
    page = visitor.get("/sign-in/second-step")
    assert visitor.submit(page, "/send").location == visitor.submit(page, "/send").location
    assert len(sent_codes(portal)) == 1


# It refuses ----------------------------------------------------------------------------------


def test_wrong_code_says_so_and_not_more(portal: Portal) -> None:
    factors.give_app(portal, "alice")
    factors.give_email(portal, "alice")
    recovery(portal, "alice")
    said = {}
    for way in ("totp", "email", "recovery", "text", "nothing"):
        visitor = half_way(portal, "alice")
        action, values = form_of(visitor)
        page = visitor.post(action, values | {"by": way, "code": WRONG})
        assert page.status == 422
        assert "session" not in visitor.cookies()
        said[way] = page.select(".notice--bad")[0].text_content()
    assert "changes every 30 seconds" in said.pop("totp")
    assert len(set(said.values())) == 1


@pytest.mark.parametrize("has_app", [True, False])
def test_words_about_the_app_do_not_tell_whether_there_is_one(
    portal: Portal, has_app: bool
) -> None:
    factors.give_email(portal, "alice")
    if has_app:
        factors.give_app(portal, "alice")
    visitor = half_way(portal, "alice")
    visitor.submit(visitor.get("/sign-in/second-step?by=email"), "/send")
    action, values = form_of(visitor, "?by=email&sent=1")
    page = visitor.post(action, values | {"by": "totp", "code": WRONG})
    assert "set its clock automatically" in page.select(".notice--bad")[0].text_content()


def test_code_of_the_app_counts_once_and_no_older_one_after_it(
    portal: Portal, tick: Callable[..., None]
) -> None:
    factors.give_app(portal, "alice")
    earlier, now = app_code(steps=-1), app_code()
    assert give_code(half_way(portal, "alice"), now).status == 303
    assert give_code(half_way(portal, "alice"), now).status == 422
    assert give_code(half_way(portal, "alice"), earlier).status == 422
    tick(seconds=30)
    assert give_code(half_way(portal, "alice"), app_code()).status == 303


def test_code_of_the_app_may_be_a_step_off_and_no_more(portal: Portal) -> None:
    factors.give_app(portal, "alice")
    for steps in (-2, 2):
        assert give_code(half_way(portal, "alice"), app_code(steps=steps)).status == 422
    assert give_code(half_way(portal, "alice"), app_code(steps=1)).status == 303


def test_code_of_another_half_finished_sign_in_opens_nothing(portal: Portal) -> None:
    factors.give_email(portal, "alice")
    asked, other = half_way(portal, "alice"), half_way(portal, "alice")
    asked.submit(asked.get("/sign-in/second-step"), "/send")
    [(_, code)] = sent_codes(portal)
    assert give_code(other, code, "email").status == 422
    assert give_code(asked, code, "email").status == 303


def test_half_finished_sign_in_dies_after_five_minutes(
    portal: Portal, tick: Callable[..., None]
) -> None:
    factors.give_app(portal, "alice")
    visitor = half_way(portal, "alice")
    page = visitor.get("/sign-in/second-step")
    tick(minutes=5)
    page = visitor.submit(page, "/sign-in/second-step", code=app_code())
    assert page.location == "/sign-in?done=ended"
    assert "That has ended" in visitor.get(page.location).text


def test_half_finished_sign_in_reaches_nothing_but_its_own_pages(portal: Portal) -> None:
    """Bar 11, for every route and method."""
    factors.give_app(portal, "alice")
    crawl.prepare(portal)
    stranger, visitor = portal.visitor(), half_way(portal, "alice")
    stranger.get("/sign-in")
    for endpoint, path in crawl.addresses(portal).items():
        if path.startswith(("/sign-in", "/pay/")):
            continue
        for method in ("GET", "POST"):
            half, none = (crawl.send(each, method, path) for each in (visitor, stranger))
            assert crawl.decision(half) == crawl.decision(none), endpoint
            assert half.status_code == none.status_code, endpoint
    assert "session" not in visitor.cookies()


def test_page_of_the_second_step_needs_its_own_token(portal: Portal) -> None:
    for name in ("alice", "mallory"):
        factors.give_app(portal, name)
    visitor, mallory = half_way(portal, "alice"), half_way(portal, "mallory")
    foreign = mallory.get("/sign-in/second-step").form("/sign-in/second-step")[1]
    for token in ("", "x", foreign["csrf_token"]):
        page = visitor.post("/sign-in/second-step", {"code": app_code(), "csrf_token": token})
        assert page.status == 403
    assert "session" not in visitor.cookies()


# Limits --------------------------------------------------------------------------------------


def test_five_wrong_codes_in_five_minutes_twenty_an_hour_fifty_a_day(
    portal: Portal, tick: Callable[..., None]
) -> None:
    factors.give_app(portal, "alice")
    let_through = []
    for _ in range(15):
        visitor = half_way(portal, "alice")
        let_through.append(0)
        while give_code(visitor, WRONG).status == 422:
            let_through[-1] += 1
        assert give_code(visitor, app_code()).status == 429
        tick(minutes=5)
    assert let_through[:5] == [5, 5, 5, 5, 0]
    assert sum(let_through[:12]) == 20
    for _ in range(3):
        tick(hours=1)
        visitor = half_way(portal, "alice")
        while give_code(visitor, WRONG).status == 422:
            let_through.append(1)
            if sum(let_through) % 5 == 0:
                tick(minutes=5)
                visitor = half_way(portal, "alice")
    assert sum(let_through) == 50


def test_asking_for_a_new_code_resets_no_limit(portal: Portal) -> None:
    factors.give_email(portal, "alice")
    visitor = half_way(portal, "alice")
    for _ in range(5):
        visitor.submit(visitor.get("/sign-in/second-step"), "/send")
        assert give_code(visitor, "x", "email").status == 422
    assert give_code(visitor, sent_codes(portal)[-1][1], "email").status == 429


def test_codes_are_not_sent_without_end(portal: Portal) -> None:
    factors.give_email(portal, "alice")
    visitor = half_way(portal, "alice")
    sent = [visitor.submit(visitor.get("/sign-in/second-step"), "/send").status for _ in range(7)]
    assert sent == [303] * 5 + [429] * 2
    assert len(sent_codes(portal)) == 5


def test_fifty_guesses_at_once_let_five_through(portal: Portal) -> None:
    factors.give_app(portal, "alice")
    flow = flow_of(portal, half_way(portal, "alice"))
    answers = together(50, lambda _number: finish(portal, flow, WRONG))
    assert sum(isinstance(answer, CodeWrong) for answer in answers) == 5
    assert [type(answer) for answer in answers].count(TooManyAttempts) == 45


# Fifty at once, and answers that were lost (bar 8) --------------------------------------------


def test_one_code_at_once_by_fifty_half_finished_sign_ins_opens_one_session(
    portal: Portal,
) -> None:
    factors.give_app(portal, "alice")
    halves = [flow_of(portal, half_way(portal, "alice")) for _ in range(50)]
    code = app_code()
    answers = together(50, lambda number: finish(portal, halves[number], code))
    refused = [answer for answer in answers if isinstance(answer, (CodeWrong, TooManyAttempts))]
    assert len(refused) == 49, answers
    assert portal.one("SELECT count(*) FROM sessions") == 1


def test_lost_answer_is_asked_for_again_within_a_minute(
    portal: Portal, tick: Callable[..., None]
) -> None:
    factors.give_app(portal, "alice")
    visitor = half_way(portal, "alice")
    page = visitor.get("/sign-in/second-step")
    flow = visitor.cookies()["flow-sign-in"]
    code = app_code()
    sessions = []
    for seconds in (0, 30, 29):
        tick(seconds=seconds)
        again = Visitor(portal.app)
        again.client.set_cookie("flow-sign-in", flow, domain="127.0.0.1")
        answer = again.submit(page, "/sign-in/second-step", code=code)
        assert (answer.status, answer.location) == (303, portal.path())
        sessions.append(again)
    lives = [visitor.get(portal.path()).status for visitor in sessions]
    assert lives == [303, 303, 200]
    tick(seconds=1)
    again = Visitor(portal.app)
    again.client.set_cookie("flow-sign-in", flow, domain="127.0.0.1")
    assert again.submit(page, "/sign-in/second-step", code=code).location == "/sign-in?done=ended"


def test_fifty_presses_of_one_form_leave_one_session(portal: Portal) -> None:
    factors.give_app(portal, "alice")
    flow, code = flow_of(portal, half_way(portal, "alice")), app_code()
    answers = together(50, lambda _number: finish(portal, flow, code))
    assert all(isinstance(answer, Opened) for answer in answers), answers
    assert portal.one("SELECT count(*) FROM sessions WHERE ended_at IS NULL") == 1
    assert portal.one("SELECT count(*) FROM sign_in_attempts WHERE state = 'pending'") == 0


def test_lost_code_by_message_is_asked_for_again(portal: Portal) -> None:
    factors.give_email(portal, "alice")
    visitor = half_way(portal, "alice")
    visitor.submit(visitor.get("/sign-in/second-step"), "/send")
    page = visitor.get("/sign-in/second-step", by="email", sent="1")
    [(_, code)] = sent_codes(portal)
    answers = [visitor.submit(page, "/sign-in/second-step", code=code) for _ in range(2)]
    assert [answer.status for answer in answers] == [303, 303]


# A device that is trusted ---------------------------------------------------------------------


def test_own_device_is_not_asked_for_thirty_days(portal: Portal, tick: Callable[..., None]) -> None:
    factors.give_app(portal, "alice")
    visitor = half_way(portal, "alice", own_device="y")
    give_code(visitor, app_code(), trust="y")
    assert portal.visitor().sign_in("alice").location == "/sign-in/second-step"
    tick(days=29, hours=23)
    assert visitor.sign_in("alice").location == portal.path()
    assert portal.one("SELECT has_second_factor FROM sessions ORDER BY id DESC LIMIT 1")
    tick(hours=1)
    assert visitor.sign_in("alice").location == "/sign-in/second-step"


def test_device_of_others_cannot_be_trusted(portal: Portal) -> None:
    factors.give_app(portal, "alice")
    visitor = half_way(portal, "alice")
    assert not visitor.get("/sign-in/second-step").select("[name=trust]")
    give_code(visitor, app_code(), trust="y")
    assert visitor.sign_in("alice").location == "/sign-in/second-step"


def test_trust_ends_with_all_sessions(portal: Portal, tick: Callable[..., None]) -> None:
    factors.give_app(portal, "alice")
    visitor = half_way(portal, "alice", own_device="y")
    give_code(visitor, app_code(), trust="y")
    recovery(portal, "alice")
    tick(seconds=1)
    assert visitor.sign_in("alice").location == "/sign-in/second-step"


# Staff (bar 11) -------------------------------------------------------------------------------


def test_staff_give_a_strong_factor_and_are_never_trusted(
    portal: Portal, tick: Callable[..., None]
) -> None:
    factors.make_staff(portal, "bob")
    factors.give_app(portal, "bob")
    for _ in range(2):
        visitor = half_way(portal, "bob", own_device="y")
        assert not visitor.get("/sign-in/second-step").select("[name=trust]")
        assert give_code(visitor, app_code(), trust="y").status == 303
        tick(minutes=1)
    rows = portal.rows("SELECT is_staff, has_second_factor, is_own_device FROM sessions")
    assert [tuple(map(bool, row)) for row in rows] == [(True, True, False)] * 2


def test_code_by_e_mail_is_no_factor_for_staff(portal: Portal) -> None:
    factors.give_email(portal, "alice")
    factors.make_staff(portal, "alice")
    visitor = half_way(portal, "alice")
    assert visitor.get("/sign-in/second-step").location == "/sign-in/second-step/new"


def test_staff_without_a_factor_set_one_up_before_there_is_a_session(portal: Portal) -> None:
    factors.make_staff(portal, "bob")
    visitor = half_way(portal, "bob")
    page = visitor.get(visitor.get("/sign-in/second-step").location)
    visitor.submit(page, "/new/app")
    page = visitor.get("/sign-in/second-step/new")
    seed = page.select("code.key")[0].text_content().replace(" ", "")
    assert len(seed) == 32
    assert page.select(".qr-frame svg path")
    assert visitor.submit(page, "/new", code=WRONG).status == 422
    assert "session" not in visitor.cookies()
    again = visitor.submit(page, "/new", code=app_code(seed))
    assert (again.status, again.location) == (303, "/staff/")
    assert visitor.submit(page, "/new", code=app_code(seed)).status == 303
    assert portal.one("SELECT count(*) FROM sessions WHERE ended_at IS NULL") == 1
    assert portal.one("SELECT is_staff FROM sessions WHERE ended_at IS NULL")
    assert ("alice@example.net", "factor_added") not in told(portal)


def test_disabled_staff_are_customers(portal: Portal) -> None:
    factors.make_staff(portal, "alice")
    portal.execute("UPDATE staff_members SET is_disabled = :yes", yes=True)
    assert portal.visitor().sign_in("alice").location == portal.path()
    assert not portal.one("SELECT is_staff FROM sessions")


def test_customer_disabled_meanwhile_is_not_let_in(portal: Portal) -> None:
    factors.give_app(portal, "alice")
    visitor = half_way(portal, "alice")
    portal.execute("UPDATE customers SET is_disabled = :yes", yes=True)
    assert give_code(visitor, app_code()).location == "/sign-in?done=ended"
    assert "session" not in visitor.cookies()


# Without guessing ----------------------------------------------------------------------------


def test_showing_the_pages_writes_nothing(portal: Portal) -> None:
    factors.give_app(portal, "alice")
    factors.give_email(portal, "alice")
    visitor = half_way(portal, "alice")
    differs = crawl.watch(portal.app)
    for way in ("totp", "email", "passkey", "recovery", "x"):
        assert visitor.get("/sign-in/second-step", by=way).status == 200
    assert differs() == set()


def test_pages_take_few_queries(portal: Portal, queries: Queries) -> None:
    factors.give_app(portal, "alice")
    factors.give_email(portal, "alice")
    recovery(portal, "alice")
    visitor = half_way(portal, "alice")
    visitor.submit(visitor.get("/sign-in/second-step"), "/lost")
    for path in ("/sign-in/second-step", "/sign-in/second-step?by=passkey", "/sign-in/lost"):
        with queries:
            assert visitor.get(path).status == 200
        assert queries.count <= 6, queries.statements
        queries.statements.clear()


def test_session_that_the_browser_had_before_ends_with_the_second_step(portal: Portal) -> None:
    """Bar 26: nobody is left signed in, or handed a session of somebody else's choice."""
    factors.give_app(portal, "alice")
    visitor = portal.visitor("mallory")
    hers = visitor.cookies()["session"]
    assert visitor.sign_in("alice").location == "/sign-in/second-step"
    give_code(visitor, app_code())
    assert visitor.cookies()["session"] != hers
    old = portal.visitor()
    old.client.set_cookie("session", hers, domain="127.0.0.1")
    assert old.get("/accounts").location.startswith("/sign-in")


def test_form_that_waits_is_shown_again_after_the_second_step(
    portal: Portal, tick: Callable[..., None]
) -> None:
    factors.give_app(portal, "alice")
    visitor = half_way(portal, "alice")
    give_code(visitor, app_code())
    page = visitor.get(portal.path("billing/pay"))
    tick(hours=1)
    page = visitor.submit(page, "/billing/pay", choice="other", amount="12.34")
    page = visitor.submit(
        visitor.get(page.location), "/sign-in", sign_in_id="alice", password=PASSWORD
    )
    assert page.location == "/sign-in/second-step"
    page = give_code(visitor, app_code())
    assert page.location == portal.path("billing/pay")
    assert "12.34" in visitor.get(page.location).response.text
