"""Maintenance: every page says so, nothing is written, and it is said beforehand."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from dataclasses import fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

from core import clock, maintenance, worker
from core.isp import IspView
from core.policy import POLICY, Proof, Who
from gateways.payments.sandbox.store import Decision
from models import FlowKind
from tests import crawl, factors
from tests.conftest import Portal, Queries
from tests.factors import app_code, give_code, half_way
from tests.page import BASE, BOOSTED, FRAGMENT, Page, Visitor
from tests.staff.test_viewing import view, view_path
from tests.test_forms_at_random import ANYTHING
from tests.world import NOW, PASSWORD

Tick = Callable[..., None]
UNTIL = "2026-06-20 14:00"  # NOW is noon at the ISP


@pytest.fixture(autouse=True)
def open_again(portal: Portal) -> Any:
    yield
    remove_file(portal)


def remove_file(portal: Portal) -> None:
    (portal.settings.data / maintenance.FILE).unlink(missing_ok=True)
    maintenance.forget_file()


def flask(portal: Portal, *arguments: str) -> Result:
    return portal.app.test_cli_runner().invoke(args=["maintenance", *arguments])


def close(portal: Portal, *more: str, until: str = UNTIL) -> None:
    result = flask(portal, "on", "--until", until, *more)
    assert result.exit_code == 0, result.output


def close_by_row(portal: Portal, *more: str) -> None:
    """As it looks on a node where the command did not run."""
    close(portal, *more)
    remove_file(portal)


def health(portal: Portal) -> Any:
    response = portal.app.test_client().get("/health", base_url=BASE)
    assert response.status_code == 200
    return response.json


@pytest.mark.parametrize("closing", [close, close_by_row])
@pytest.mark.parametrize("who", [None, "alice"])
def test_closed_portal_answers_503_everywhere_and_changes_nothing(
    portal: Portal, closing: Callable[[Portal], None], who: str | None
) -> None:
    crawl.prepare(portal)
    visitor = portal.visitor(who)
    guard = crawl.token_of(visitor) if who else {}
    if who is None:
        visitor.get("/sign-in")
    paths, methods = crawl.addresses(portal), crawl.methods_of(portal.app)
    closing(portal)
    differs = crawl.watch(portal.app)
    for endpoint, path in paths.items():
        for method in sorted(methods[endpoint] - {"OPTIONS"}):
            data = guard if method == "POST" else None
            response = crawl.send(visitor, method, path, data=data)
            rule = POLICY[endpoint]
            if rule.flow is FlowKind.SIGN_IN and rule.open_to_staff:
                # Nobody here is half-way in; the way in of staff says that the portal is closed.
                where = response.headers.get("Location") or response.headers["HX-Redirect"]
                assert where == "/staff/sign-in?done=ended", endpoint
                continue
            if rule.stays_open:
                # Staff's pages send everybody else to sign in as one of them, which nobody filled
                # in here.
                others = (303, 422) if endpoint.startswith(("staff.", "auth.staff")) else ()
                assert response.status_code in (200, 404, *others), endpoint
                continue
            assert response.status_code == 503, (endpoint, method)
            assert response.headers["Retry-After"] == "3600"
            assert response.headers["Cache-Control"] == "no-store"
    assert differs() == set()


CLOSINGS = pytest.mark.parametrize("closing", [close, close_by_row])


def staff_sign_in(visitor: Visitor, name: str, password: str = PASSWORD) -> Page:
    page = visitor.get(visitor.get("/").select("footer a[href^='/staff']")[0].get("href"))
    return visitor.submit(page, "/staff/sign-in", sign_in_id=name, password=password)


@CLOSINGS
def test_staff_sign_in_while_the_portal_is_closed_work_and_leave(
    portal: Portal, closing: Callable[[Portal], None]
) -> None:
    factors.give_app(portal, "sue")
    closing(portal)
    sue = portal.visitor()
    assert sue.get("/staff/").location == "/staff/sign-in?next=%2Fstaff%2F"
    assert staff_sign_in(sue, "sue").location == "/sign-in/second-step"
    assert give_code(sue, app_code()).location == "/staff/"
    page = sue.get("/staff/")
    assert page.status == 200
    assert sue.get("/confirm").status == 200
    assert sue.get("/settings/").status == 503
    assert not page.select("a[href^='/settings']")
    out = sue.submit(page, "/sign-out")
    assert out.location == "/staff/sign-in?done=signed-out"
    assert "You are signed out." in sue.get(out.location).text
    assert sue.get("/staff/").status == 303


def test_settings_are_in_the_bar_of_staff_while_the_portal_is_open(portal: Portal) -> None:
    assert portal.visitor("sue").get("/staff/").select("a[href='/settings/']")


@CLOSINGS
def test_half_sign_in_of_staff_that_ran_out_begins_anew_in_words(
    portal: Portal, closing: Callable[[Portal], None], tick: Tick
) -> None:
    factors.give_app(portal, "sue")
    closing(portal)
    sue = portal.visitor()
    staff_sign_in(sue, "sue")
    page = sue.get("/sign-in/second-step")
    assert page.select("footer a[href='/staff/sign-in']")
    assert not page.select("a[href='/sign-in']")
    tick(minutes=6)
    for answer in (
        sue.get("/sign-in/second-step"),
        sue.submit(page, "/sign-in/second-step", code=app_code()),
    ):
        assert answer.location == "/staff/sign-in?done=ended"
    again = sue.get("/staff/sign-in?done=ended")
    assert "That has ended: it took too long" in again.text
    assert sue.submit(again, "/staff/sign-in", sign_in_id="sue", password=PASSWORD).location == (
        "/sign-in/second-step"
    )


@CLOSINGS
def test_view_that_was_begun_before_ends_by_pages_alone(
    portal: Portal, closing: Callable[[Portal], None]
) -> None:
    sue = view(portal)
    closing(portal)
    page = sue.get(portal.path())
    assert page.status == 503
    page = sue.get(page.select("footer a[href^='/staff']")[0].get("href"))
    assert "Sue, you see the portal as Alice does." in page.text
    assert "no-store" in page.response.headers["Cache-Control"]
    assert sue.submit(page, "/staff/view/end").location == "/staff/"
    assert sue.get("/staff/").status == 200


@CLOSINGS
def test_view_is_left_by_signing_out_or_when_nothing_is_behind_it(
    portal: Portal, closing: Callable[[Portal], None]
) -> None:
    sue = view(portal)
    page = sue.get(portal.path())
    closing(portal)
    assert sue.submit(page, "/sign-out").location == "/staff/sign-in?done=signed-out"
    assert "session" not in sue.cookies()
    assert sue.submit(page, "/staff/view/end").location == "/staff/sign-in"


def test_own_session_that_ran_out_behind_a_view_is_said(portal: Portal) -> None:
    sue = view(portal)
    page = sue.get(portal.path())
    close_by_row(portal)
    portal.execute("UPDATE sessions SET expires_at = :now WHERE viewer_id IS NULL", now=clock.now())
    assert sue.submit(page, "/staff/view/end").location == "/staff/sign-in?done=ended"


@CLOSINGS
def test_view_cannot_be_begun_while_the_portal_is_closed(
    portal: Portal, closing: Callable[[Portal], None]
) -> None:
    sue = portal.visitor("sue")
    path = view_path(portal)
    person = path.removesuffix("/view")
    form = sue.get(path)
    assert sue.get(person).select(f"a[href='{path}']")
    closing(portal)
    assert sue.get(path).status == 503
    assert sue.submit(form, "/view", reason="a call").status == 503
    assert not sue.get(person).select(f"a[href='{path}']")
    assert portal.one("SELECT count(*) FROM sessions WHERE viewer_id IS NOT NULL") == 0


def test_closed_portal_shows_no_view_to_a_customer(portal: Portal) -> None:
    alice = portal.visitor("alice")
    page = alice.get(portal.path())
    close_by_row(portal)
    assert not alice.get("/staff/sign-in").select("form[action='/staff/view/end']")
    assert alice.submit(page, "/sign-out").status == 503
    assert "session" in alice.cookies()


def test_what_stays_open_is_shown_whatever_the_catalog_has(portal: Portal) -> None:
    """A bank account, and rules of every kind: none of them is on a page that stays open."""
    rules = {"pause": {"kinds": ["tv"]}, "dunning": {"hour": 8}, "prices": {"notice_days": 20}}
    account = {"holder": "Pinecrest", "bank": "Bank", "routing": "123456780", "account": "1"}
    portal.execute(
        "UPDATE isp SET billing_rules = :rules, bank_account = :account, revision = revision + 1",
        rules=json.dumps(rules),
        account=json.dumps(account),
    )
    close(portal)
    page = portal.visitor().get("/help")
    assert page.status == 503
    assert "Closed for maintenance" in page.text


@pytest.mark.parametrize("engine_kind", ["sqlite"])
@pytest.mark.parametrize("cookie", ["session", "flow-sign-in"])
def test_node_closed_by_its_file_says_so_while_the_database_is_away(
    portal: Portal, tmp_path: Path, cookie: str
) -> None:
    close(portal)
    crawl.prepare(portal)
    paths, methods = crawl.addresses(portal), crawl.methods_of(portal.app)
    typed = {"sign_in_id": "sue", "password": PASSWORD, "csrf_token": "x"}
    spanish = {"Accept-Language": "es"}
    served = [name for name, rule in POLICY.items() if rule.serves_staff]
    asked = 0
    with crawl.another_app(portal, database_url=f"sqlite:///{tmp_path / 'none.db'}") as app:
        for endpoint in served:
            if cookie != "session" and POLICY[endpoint].who is not Who.FLOW:
                continue
            for method in sorted(methods[endpoint] & {"GET", "POST"}):
                client = app.test_client()
                for name in (cookie, "here"):
                    client.set_cookie(name, "x" * 43, domain="127.0.0.1")
                data = typed if method == "POST" else None
                answer = client.open(
                    paths[endpoint], method=method, base_url=BASE, data=data, headers=spanish
                )
                if cookie == "session" and POLICY[endpoint].who is Who.FLOW:
                    # Without the cookie of a flow nothing is asked of the database.
                    assert answer.status_code in (303, 503), endpoint
                    continue
                asked += 1
                assert answer.status_code == 503, (endpoint, method)
                assert answer.headers["Retry-After"] == "3600", (endpoint, method)
                assert "Cerrado por mantenimiento" in answer.text, (endpoint, method)
    assert asked > (25 if cookie == "session" else 6)


@pytest.mark.parametrize("engine_kind", ["sqlite"])
def test_way_in_of_staff_is_shown_without_the_database_and_says_when_it_is_away(
    portal: Portal, tmp_path: Path
) -> None:
    close(portal)
    with crawl.another_app(portal, database_url=f"sqlite:///{tmp_path / 'none.db'}") as app:
        visitor = Visitor(app)
        page = visitor.get("/staff/sign-in")
        assert page.status == 200
        answer = visitor.submit(page, "/staff/sign-in", sign_in_id="sue", password=PASSWORD)
        assert (answer.status, answer.response.headers["Retry-After"]) == (503, "3600")
        assert "Closed for maintenance" in answer.text


@CLOSINGS
def test_staff_without_a_factor_set_one_up_while_the_portal_is_closed(
    portal: Portal, closing: Callable[[Portal], None]
) -> None:
    closing(portal)
    sue = portal.visitor()
    staff_sign_in(sue, "sue")
    page = sue.get("/sign-in/second-step/new")
    sue.submit(page, "/sign-in/second-step/new/app")
    page = sue.get("/sign-in/second-step/new")
    code = app_code(page.select("code.key")[0].text_content().replace(" ", ""))
    assert sue.submit(page, "/sign-in/second-step/new", code=code).location == "/staff/"
    assert sue.get("/staff/").status == 200


@CLOSINGS
@pytest.mark.parametrize("who", ["alice", "vera"])
def test_customer_is_told_nothing_by_the_way_in_of_staff(
    portal: Portal, closing: Callable[[Portal], None], who: str, tick: Tick
) -> None:
    factors.give_app(portal, "vera")
    closing(portal)
    told = []
    names = ("session", "flow-sign-in")
    for name, password in ((who, PASSWORD), (who, "wrong"), ("sue", "wrong"), ("nobody", "wrong")):
        visitor = portal.visitor()
        answer = staff_sign_in(visitor, name, password)
        told.append((answer.status, answer.response.data, set(visitor.cookies()) & set(names)))
        tick(seconds=2)
    assert told[0][0] == 503
    assert b"only staff can be at the moment" in told[0][1]
    assert told == [told[0]] * 4
    assert told[0][2] == set()
    assert portal.one("SELECT count(*) FROM sessions") == 0
    assert portal.one("SELECT count(*) FROM flows") == 0


@pytest.mark.parametrize("who", ["alice", "sue", "nobody"])
def test_form_of_staff_sent_twice_at_once_tells_no_right_password_of_a_customer(
    portal: Portal, who: str
) -> None:
    close_by_row(portal)
    told = {}
    for password in (PASSWORD, "wrong"):
        portal.execute("DELETE FROM sign_in_attempts")
        answers = [staff_sign_in(portal.visitor(), who, password) for _ in range(2)]
        told[password] = [(answer.status, answer.response.data) for answer in answers]
        states = portal.rows("SELECT state FROM sign_in_attempts")
        if (who, password) == ("sue", PASSWORD):
            assert [status for status, _data in told[password]] == [303, 303]
            continue
        assert [status for status, _data in told[password]] == [503, 429]
        assert states == [("failed",)]
    assert who == "sue" or told[PASSWORD] == told["wrong"]


def test_names_of_customers_count_in_the_limit_of_the_network_right_passwords_too(
    portal: Portal,
) -> None:
    close_by_row(portal)
    names = ["alice", "bob", *(f"nobody{number}" for number in range(8))]
    assert {staff_sign_in(portal.visitor(), name).status for name in names} == {503}
    assert staff_sign_in(portal.visitor(), "vera").status == 429


def test_tries_at_the_way_in_of_staff_write_nothing_of_customers(portal: Portal) -> None:
    portal.execute("UPDATE customers SET failed_in_a_row = 99")
    close_by_row(portal)
    before = portal.rows("SELECT * FROM customers ORDER BY id")
    differs = crawl.watch(portal.app)
    for who, password in (("alice", "wrong"), ("bob", PASSWORD)):
        assert staff_sign_in(portal.visitor(), who, password).status == 503
    assert differs() == {"sign_in_attempts"}
    assert portal.rows("SELECT * FROM customers ORDER BY id") == before


def test_refusal_and_wait_lead_back_to_the_way_in_of_staff(portal: Portal) -> None:
    close_by_row(portal)
    refused = staff_sign_in(portal.visitor(), "sue", "wrong")
    waits = staff_sign_in(portal.visitor(), "sue", "wrong")
    assert (refused.status, waits.status) == (503, 429)
    for page in (refused, waits):
        assert [link.get("href") for link in page.select("main a.button")] == ["/staff/sign-in"]
        assert not page.select("a[href='/recover']")


def test_tries_at_the_way_in_of_staff_are_counted(portal: Portal, tick: Tick) -> None:
    close_by_row(portal)
    statuses = []
    for _ in range(11):
        statuses.append(staff_sign_in(portal.visitor(), "sue", "wrong").status)
        tick(seconds=20)
    assert statuses[0] == 503
    assert statuses[-1] == 429


def test_form_of_the_way_in_of_staff_takes_anything(portal: Portal) -> None:
    close_by_row(portal)
    visitor = portal.visitor()
    visitor.get("/staff/sign-in")
    good = {"sign_in_id": "sue", "password": "wrong", "next": "/staff/"}
    told = set()
    for name in good:
        for value in ANYTHING:
            portal.execute("DELETE FROM sign_in_attempts")
            answer = visitor.client.post("/staff/sign-in", base_url=BASE, data=good | {name: value})
            told.add((answer.status_code, "Retry-After" in answer.headers))
    assert told <= {(400, False), (422, False), (503, True)}
    assert {(422, False), (503, True)} <= told
    assert portal.one("SELECT count(*) FROM sessions") == 0


def test_customer_half_way_in_cannot_finish_while_the_portal_is_closed(portal: Portal) -> None:
    factors.give_app(portal, "alice")
    alice = half_way(portal, "alice")
    page = alice.get("/sign-in/second-step")
    close_by_row(portal)
    assert alice.get("/sign-in/second-step").status == 503
    assert alice.submit(page, "/sign-in/second-step", code=app_code()).status == 503
    assert portal.one("SELECT count(*) FROM sessions") == 0


def test_disabled_member_is_no_staff_at_the_way_in(portal: Portal) -> None:
    portal.execute("UPDATE staff_members SET is_disabled = :yes", yes=True)
    close_by_row(portal)
    assert staff_sign_in(portal.visitor(), "sue").status == 503


def test_way_in_of_staff_is_the_usual_one_when_the_portal_is_open(portal: Portal) -> None:
    close(portal)
    late = portal.visitor()
    page = late.get("/staff/sign-in", next="/staff/letters")
    flask(portal, "off")
    visitor = portal.visitor()
    answer = visitor.get("/staff/sign-in", next="/staff/letters")
    assert (answer.status, answer.location) == (303, "/sign-in?next=/staff/letters")
    answer = late.submit(page, "/staff/sign-in", sign_in_id="alice", password=PASSWORD)
    assert answer.status == 303
    assert "session" in late.cookies()


def test_closed_page_says_why_and_until_when_in_the_readers_language(portal: Portal) -> None:
    close_by_row(portal, "--message", "We move the server.", "--message-in", "es", "Nos mudamos.")
    page = portal.visitor().get("/sign-in")
    assert "We expect to be back by Jun 20, 2026, 2:00" in page.text
    assert "We move the server." in page.text
    spanish = portal.visitor().get("/", headers={"Accept-Language": "es"})
    assert "Cerrado por mantenimiento" in spanish.text
    assert "Nos mudamos." in spanish.text
    french = portal.visitor().get("/help", headers={"Accept-Language": "fr"})
    assert "Fermé pour maintenance" in french.text
    assert "We move the server." in french.text


def test_signed_in_reader_is_answered_in_the_language_chosen(portal: Portal) -> None:
    alice = portal.visitor("alice")
    portal.execute("UPDATE customers SET language = 'fr' WHERE sign_in_id = 'alice'")
    close_by_row(portal)
    assert "Fermé pour maintenance" in alice.get(portal.path()).text


def test_message_is_shown_as_it_was_typed(portal: Portal) -> None:
    close(portal, "--message", "<script>x</script> & {{7*7}}")
    page = portal.visitor().get("/sign-in")
    assert "<script>x</script> & {{7*7}}" in page.text


def test_fragment_makes_the_browser_load_the_whole_page(portal: Portal) -> None:
    alice = portal.visitor("alice")
    close_by_row(portal)
    answer = alice.get(portal.path("billing/invoices/"), headers=FRAGMENT)
    assert (answer.status, answer.response.data) == (503, b"")
    assert answer.response.headers["HX-Refresh"] == "true"
    boosted = alice.get(portal.path("billing/invoices/"), headers=BOOSTED)
    assert "HX-Refresh" not in boosted.response.headers
    assert "Closed for maintenance" in boosted.text


def test_form_that_was_sent_leads_on_to_the_start_afterwards(portal: Portal) -> None:
    alice = portal.visitor("alice")
    page = alice.get(portal.path("billing/pay"))
    close_by_row(portal)
    answer = alice.submit(page, "/pay", choice="balance")
    assert answer.status == 503
    assert [link.get("href") for link in answer.select("main a.button")] == ["/"]
    assert flask(portal, "off").exit_code == 0
    assert alice.submit(page, "/pay", choice="balance").status == 303


def test_page_kept_on_an_own_device_is_not_shown_as_unchanged(portal: Portal) -> None:
    alice = portal.visitor("alice", own_device="y")
    held = {"If-None-Match": alice.get(portal.path()).response.headers["ETag"]}
    assert alice.get(portal.path(), headers=held).status == 304
    close_by_row(portal)
    assert alice.get(portal.path(), headers=held).status == 503
    flask(portal, "off")
    assert alice.get(portal.path(), headers=held).status == 200  # what was said meanwhile is gone


def test_notice_of_a_gateway_is_asked_for_again_and_then_taken(portal: Portal) -> None:
    alice = portal.visitor("alice")
    started = alice.submit(alice.get(portal.path("billing/pay")), "/pay", choice="balance")
    assert started.status == 303
    key = portal.one("SELECT key FROM payments WHERE state = 'sent'")
    portal.bank.decide(key, Decision.PAY)
    close_by_row(portal)
    answer = portal.app.test_client().post(
        "/webhooks/payments/sandbox", base_url=BASE, data=b"{}", content_type="application/json"
    )
    assert answer.status_code == 503
    assert int(answer.headers["Retry-After"]) > 0
    assert answer.mimetype == "text/plain"


def test_customer_coming_back_from_the_bank_sees_what_is_known(portal: Portal) -> None:
    alice = portal.visitor("alice")
    alice.submit(alice.get(portal.path("billing/pay")), "/pay", choice="balance")
    [(public_id, key)] = portal.rows("SELECT public_id, key FROM payments WHERE state = 'sent'")
    portal.bank.decide(key, Decision.PAY)
    close_by_row(portal)
    differs = crawl.watch(portal.app)
    for page in (alice.get(f"/pay/{public_id}/return"), alice.post(f"/pay/{public_id}/return")):
        assert page.status == 200
        assert "Please do not pay again" in page.text
        assert not page.select("main a.button")
    assert differs() == set()
    flask(portal, "off")
    assert alice.get(f"/pay/{public_id}/return").status == 303
    assert portal.one("SELECT state FROM payments WHERE key = :key", key=key) == "succeeded"


def test_worker_rests_and_still_beats(portal: Portal) -> None:
    stop = threading.Event()
    ran: list[int] = []

    def duty() -> int:
        ran.append(1)
        stop.set()
        return 0

    close_by_row(portal)
    with portal.app.app_context():
        clockwork = worker.first_clockwork()
        assert worker.turn(portal.app, (duty,), clockwork) == 0
        assert ran == []
        assert worker.is_alive()
    flask(portal, "off")
    worker.run(portal.app, (duty,), stop)
    assert ran == [1]


def test_node_with_the_file_asks_no_database(portal: Portal, queries: Queries) -> None:
    alice = portal.visitor("alice")
    close(portal, "--message", "We move.")
    with queries:
        page = alice.get(portal.path())
        assert (page.status, "We move." in page.text) == (503, True)
        assert alice.get("/sign-in").status == 503
        assert health(portal)["worker"] is None
        with portal.app.app_context():
            worker.turn(portal.app, (), worker.first_clockwork())
    assert queries.statements == []


def test_file_outlives_a_database_that_is_restored_to_before(portal: Portal) -> None:
    close(portal)
    portal.execute("DELETE FROM maintenance")
    assert portal.visitor().get("/help").status == 503
    assert "Closed" in flask(portal, "status").output
    assert flask(portal, "off").output == "The portal is open.\n"
    assert portal.visitor().get("/help").status == 200


def test_file_that_another_process_leaves_or_takes_away_is_seen_soon(
    portal: Portal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(maintenance, "LOOK_EVERY_SECONDS", 0.0)
    path = portal.settings.data / maintenance.FILE
    close(portal)
    kept = path.read_text()
    flask(portal, "off")
    for text, status in ((None, 200), (kept, 503), (None, 200), (kept, 503)):
        path.write_text(text) if text else path.unlink(missing_ok=True)
        assert portal.visitor().get("/help").status == status


def test_file_that_cannot_be_read_leaves_the_word_to_the_database(
    portal: Portal, caplog: pytest.LogCaptureFixture
) -> None:
    (portal.settings.data / maintenance.FILE).write_text("{")
    maintenance.forget_file()
    assert portal.visitor().get("/help").status == 200
    assert "cannot be read" in caplog.text


def test_health_says_maintenance_and_that_it_is_overdue(portal: Portal, tick: Tick) -> None:
    close_by_row(portal)
    until = "2026-06-20T21:00:00+00:00"
    expected: dict[str, object] = {"status": "maintenance", "until": until, "worker": False}
    expected |= {"backup_age_hours": None}
    assert health(portal) == expected | {"overdue": False}
    tick(hours=3)
    assert health(portal) == expected | {"overdue": True}


def test_overdue_maintenance_stays_on_and_asks_to_come_back_soon(
    portal: Portal, tick: Tick
) -> None:
    close_by_row(portal)
    for hours, seconds in ((0, 3600), (1.5, 1800), (0.499, 60), (0.1, 300), (1000, 300)):
        tick(hours=hours)
        page = portal.visitor().get("/sign-in")
        assert (page.status, page.response.headers["Retry-After"]) == (503, str(seconds))
    assert "It takes longer than planned" in page.text
    assert "OVERDUE" in flask(portal, "status").output


def announce(portal: Portal) -> None:
    result = flask(portal, "announce", "--from", "22:00", "--until", "23:30", "--message", "Power.")
    assert result.exit_code == 0, result.output


def test_planned_maintenance_is_announced_on_every_page(portal: Portal) -> None:
    alice = portal.visitor("alice")
    announce(portal)
    said = "the portal is closed on Jun 20, 2026 from 10:00 PM until 11:30 PM."
    for path in (portal.path(), portal.path("billing/"), "/accounts", "/help", "/sign-in"):
        text = alice.get(path).text.replace("\u202f", " ")
        assert said in text, path
        assert "Power." in text
    assert flask(portal, "off").exit_code == 0
    assert all("Power." not in alice.get(path).text for path in (portal.path(), "/sign-in"))


def test_maintenance_over_midnight_is_announced_with_both_days(portal: Portal) -> None:
    flask(portal, "announce", "--from", "22:00", "--until", "2026-06-21 00:30")
    text = portal.visitor().get("/sign-in").text.replace("\u202f", " ")
    assert "is closed from Jun 20, 2026, 10:00 PM until Jun 21, 2026, 12:30 AM." in text
    page = portal.visitor().get("/sign-in", headers={"Accept-Language": "es"})
    assert "estará cerrado del 20 jun 2026, 22:00 al 21 jun 2026, 0:30." in page.text


def test_announcement_goes_when_its_time_is_over_kept_pages_included(
    portal: Portal, tick: Tick
) -> None:
    alice = portal.visitor("alice", own_device="y")
    announce(portal)
    held = {"If-None-Match": alice.get(portal.path()).response.headers["ETag"]}
    assert alice.get(portal.path(), headers=held).status == 304
    assert "Power." in portal.visitor().get("/sign-in").text
    tick(hours=11.4)  # 23:24
    assert alice.get(portal.path(), headers=held).status == 304
    tick(hours=0.2)
    again = alice.get(portal.path(), headers=held)
    assert (again.status, "Power." in again.text) == (200, False)
    assert "Power." not in portal.visitor().get("/sign-in").text


def test_it_is_closed_as_announced(portal: Portal) -> None:
    announce(portal)
    assert portal.visitor().get("/help").status == 200
    assert flask(portal, "on").exit_code == 0
    page = portal.visitor().get("/help")
    assert page.status == 503
    assert "Power." in page.text


def test_hot_pages_take_no_query_more(portal: Portal, queries: Queries) -> None:
    alice, visitor = portal.visitor("alice"), portal.visitor()
    counts = []
    for prepare in (lambda: None, lambda: announce(portal)):
        prepare()
        alice.get(portal.path()), visitor.get("/sign-in")
        queries.statements.clear()
        with queries:
            alice.get(portal.path())
            visitor.get("/sign-in")
        counts.append(queries.count)
    assert counts[0] == counts[1]
    assert len([text for text in queries.statements if "maintenance" in text]) == 0


def test_two_nodes_on_one_database_close_and_open_together(portal: Portal) -> None:
    folder = portal.settings.data / "node"
    folder.mkdir(exist_ok=True)
    with crawl.another_app(portal, data=folder) as other:
        client = other.test_client()
        assert client.get("/help", base_url=BASE).status_code == 200
        close(portal)
        assert client.get("/help", base_url=BASE).status_code == 503
        flask(portal, "off")
        assert client.get("/help", base_url=BASE).status_code == 200


@pytest.mark.parametrize(
    ("typed", "utc"),
    [
        ("2026-06-21 02:00", "2026-06-21T09:00"),
        ("2026-06-21T02:00", "2026-06-21T09:00"),
        ("2026-06-21T02:00Z", "2026-06-21T02:00"),
        ("2026-06-21T02:00+02:00", "2026-06-21T00:00"),
        ("14:30", "2026-06-20T21:30"),
        ("2:00", "2026-06-21T09:00"),
        ("12:00", "2026-06-21T19:00"),
        ("2026-11-01 01:30", "2026-11-01T08:30"),
    ],
)
def test_times_are_the_isps(typed: str, utc: str) -> None:
    with clock.set_to(NOW):
        found = maintenance.read_time(typed, "America/Los_Angeles")
    assert found == datetime.fromisoformat(utc).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    "typed", ["", "soon", "25:00", "2026-13-01 00:00", "2027-03-14 02:30", "1:2:3:4"]
)
def test_time_that_is_none_is_refused(typed: str) -> None:
    with clock.set_to(NOW), pytest.raises(maintenance.TimeUnclear):
        maintenance.read_time(typed, "America/Los_Angeles")


@pytest.mark.parametrize("engine_kind", ["sqlite"])
@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["on"], "--until is missing"),
        (["on", "--until", "soon"], "write it like"),
        (["on", "--until", "2026-06-19 12:00"], "in the past"),
        (["on", "--until", "2027-06-19 12:00"], "is the date right"),
        (["announce", "--until", "23:00"], "--from"),
        (["announce", "--from", "2026-06-20 23:00", "--until", "22:00"], "before the beginning"),
        (["on", "--until", "23:00", "--message", "x" * 301], "at most 300"),
        (["on", "--until", "23:00", "--message", "a\x1b[31m"], "printable"),
        (["on", "--until", "23:00", "--message-in", "xx", "a"], "en, es, fr"),
    ],
)
def test_bad_input_is_refused_in_words_and_changes_nothing(
    portal: Portal, arguments: list[str], says: str
) -> None:
    result = flask(portal, *arguments)
    assert result.exit_code != 0
    assert says in result.output
    assert portal.one("SELECT count(*) FROM maintenance") == 0
    assert not (portal.settings.data / maintenance.FILE).exists()


@pytest.mark.parametrize("engine_kind", ["sqlite"])
def test_database_that_is_away_is_said(portal: Portal, monkeypatch: pytest.MonkeyPatch) -> None:
    portal.execute("DROP TABLE maintenance")
    result = flask(portal, "on", "--until", "23:00")
    assert result.exit_code == 1
    assert "nothing was changed: no such table: maintenance." in result.output


@pytest.mark.parametrize("engine_kind", ["sqlite"])
def test_database_that_was_never_made_is_said_with_what_to_do(
    portal: Portal, tmp_path: Path
) -> None:
    missing = f"sqlite:///{tmp_path / 'none.db'}"
    with crawl.another_app(portal, database_url=missing) as app:
        for arguments in (["maintenance", "status"], ["activity", "verify"], ["backup", "x"]):
            result = app.test_cli_runner().invoke(args=arguments)
            assert result.exit_code == 1
            assert "(flask setup makes one; or see that LASTMILE_DATA" in result.output


def test_closed_page_fits_the_thin_line(portal: Portal) -> None:
    close_by_row(portal, "--message", "x" * 300)
    response = portal.app.test_client().get(
        portal.path(), base_url=BASE, headers={"Accept-Encoding": "br"}
    )
    assert response.headers["Content-Encoding"] == "br"
    head = sum(len(f"{name}: {value}\r\n") for name, value in response.headers)
    assert len(response.data) + head < 9_000


def test_policy_leaves_nothing_open_to_subscribers_that_writes() -> None:
    open_rules = {name: rule for name, rule in POLICY.items() if rule.stays_open}
    still = {name for name, rule in open_rules.items() if rule.who is not Who.STAFF}
    # Whoever of staff looks at the portal as a customer must be able to stop.
    assert still == {
        *("static", "health", "metrics", "staff.view_end"),
        *("billing.payment_return", "billing.method_return"),
        *("auth.staff_sign_in", "auth.staff_sign_in_post"),
    }
    assert POLICY["api.payment_notice"].proof is Proof.OWN


def test_file_holds_what_the_page_needs_and_nothing_secret(portal: Portal) -> None:
    close(portal)
    path = portal.settings.data / maintenance.FILE
    assert path.stat().st_mode & 0o777 == 0o600
    not_shown = {"bank", "billing_rules", "dunning", "pause", "price_notice_days"}
    assert set(json.loads(path.read_text())) == {each.name for each in fields(IspView)} - not_shown
