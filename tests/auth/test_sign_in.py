"""Signing in (bars 4, 13, 24, 26, 39, 42)."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable
from typing import Any

import pytest
from argon2 import PasswordHasher
from flask.testing import FlaskClient

from core import log
from tests import crawl
from tests.auth.conftest import HTTPS, set_cookies
from tests.conftest import Portal, Queries, together
from tests.page import Page, Visitor
from tests.world import PASSWORD

WRONG = "wrong-lantern-orbit-47"


def cookie(visitor: Visitor, name: str) -> str:
    return visitor.cookies()[name]


def put(visitor: Visitor, **cookies: str) -> None:
    for name, value in cookies.items():
        visitor.client.set_cookie(name, value, domain="127.0.0.1")


# It works ------------------------------------------------------------------------------------


def test_customer_signs_in_with_id_or_e_mail(portal: Portal) -> None:
    for typed in ("alice", " Alice ", "ALICE", "alice@example.net", "Alice@Example.NET"):
        page = portal.visitor().sign_in(typed)
        assert (page.status, page.location) == (303, portal.path())


def test_customer_of_several_accounts_chooses(portal: Portal) -> None:
    portal.execute(
        "INSERT INTO memberships (customer_id, account_id, role) VALUES (:who, :account, 'payer')",
        who=portal.world.customers["alice"],
        account=portal.world.accounts["rich"],
    )
    visitor = portal.visitor()
    assert visitor.sign_in("alice").location == "/accounts"
    assert portal.path(account="rich") in visitor.get("/accounts").response.text


def test_customer_of_no_account_is_told_so(portal: Portal) -> None:
    portal.execute(
        "DELETE FROM memberships WHERE customer_id = :who", who=portal.world.customers["alice"]
    )
    visitor = portal.visitor()
    assert visitor.sign_in("alice").location == "/accounts"
    assert visitor.get("/accounts").status == 200


def test_password_is_taken_as_it_was_typed(portal: Portal) -> None:
    for almost in (f" {PASSWORD}", f"{PASSWORD} ", PASSWORD.title()):
        assert portal.visitor().sign_in("alice", almost).status in (422, 429)


def test_older_hash_is_replaced_at_sign_in(portal: Portal) -> None:
    old = PasswordHasher(time_cost=1, memory_cost=8_192, parallelism=1).hash(PASSWORD)
    portal.execute("UPDATE customers SET password_hash = :old WHERE sign_in_id = 'alice'", old=old)
    portal.visitor().sign_in("alice")
    new = portal.one("SELECT password_hash FROM customers WHERE sign_in_id = 'alice'")
    assert "m=19456,t=2,p=1" in new
    portal.visitor().sign_in("alice")
    assert new == portal.one("SELECT password_hash FROM customers WHERE sign_in_id = 'alice'")


def test_wrong_password_replaces_no_hash(portal: Portal) -> None:
    old = PasswordHasher(time_cost=1, memory_cost=8_192, parallelism=1).hash(PASSWORD)
    portal.execute("UPDATE customers SET password_hash = :old WHERE sign_in_id = 'alice'", old=old)
    portal.visitor().sign_in("alice", WRONG)
    assert old == portal.one("SELECT password_hash FROM customers WHERE sign_in_id = 'alice'")


# Where it leads ------------------------------------------------------------------------------


def test_sign_in_leads_back_to_the_page_that_was_wanted(portal: Portal) -> None:
    visitor = portal.visitor()
    wanted = portal.path("billing/invoices/?year=2026&state=open")
    page = visitor.get(visitor.get(wanted).location)
    page = visitor.submit(page, "/sign-in", sign_in_id="alice", password=PASSWORD)
    assert (page.status, page.location) == (303, wanted)


def test_wanted_page_survives_a_wrong_password_and_a_wait(
    portal: Portal, tick: Callable[..., None]
) -> None:
    visitor = portal.visitor()
    page = visitor.get(visitor.get(portal.path("billing/")).location)
    page = visitor.submit(page, "/sign-in", sign_in_id="alice", password=WRONG)
    page = visitor.submit(page, "/sign-in", sign_in_id="alice", password=PASSWORD)
    assert page.status == 429
    [back] = page.select("a[href^='/sign-in']")
    tick(seconds=1)
    page = visitor.get(back.get("href"))
    page = visitor.submit(page, "/sign-in", sign_in_id="alice", password=PASSWORD)
    assert page.location == portal.path("billing/")


TRICKS = (
    "//evil.example",
    "///evil.example",
    "https://evil.example/",
    "http:///evil.example",
    "\\\\evil.example",
    "/\\evil.example",
    "/\t/evil.example",
    "/\n/evil.example",
    "/%2f/evil.example",
    "/%5cevil.example",
    "javascript:alert(1)",
    "evil.example",
    "/a//evil.example",
    "/é",
    "/" + "x" * 501,
)


def test_sign_in_leads_nowhere_else(portal: Portal) -> None:
    for trick in TRICKS:
        page = portal.visitor().sign_in("alice", next=trick)
        assert (page.status, page.location) == (303, portal.path()), trick
        shown = portal.visitor().get("/sign-in", next=trick)
        assert shown.form("/sign-in")[1]["next"] == ""


# It refuses ----------------------------------------------------------------------------------


def answer(portal: Portal, typed: str, password: str, name: str) -> tuple[Any, ...]:
    """Status, headers and body, with what was typed replaced."""
    visitor = portal.visitor()
    page = visitor.sign_in(typed, password)
    headers = sorted(page.response.headers.items())
    return page.status, headers, page.response.text.replace(f'value="{typed}"', name)


def test_unknown_and_disabled_are_answered_like_a_wrong_password(
    portal: Portal, tick: Callable[..., None]
) -> None:
    portal.execute("UPDATE customers SET is_disabled = true WHERE sign_in_id IN ('vera', 'theo')")
    answers = [
        answer(portal, "rich", WRONG, "name"),  # known
        answer(portal, "vera", PASSWORD, "name"),  # disabled, with the right password
        answer(portal, "theo", WRONG, "name"),  # disabled
        answer(portal, "zoex", WRONG, "name"),  # unknown
    ]
    assert answers[0][0] == 422
    assert all(each == answers[0] for each in answers)
    again = [answer(portal, typed, PASSWORD, "name") for typed in ("rich", "vera", "theo", "zoex")]
    assert again[0][0] == 429
    assert all(each == again[0] for each in again)
    assert portal.one("SELECT count(*) FROM sessions") == 0


def test_unknown_costs_the_same_work_as_known(portal: Portal, queries: Queries) -> None:
    counts = []
    for typed in ("alice", "nobody"):
        visitor = portal.visitor("mallory")  # a browser with a device cookie
        visitor.get("/sign-in")
        with queries:
            queries.statements.clear()
            visitor.post("/sign-in", {"sign_in_id": typed, "password": WRONG})
            counts.append(queries.count)
    assert counts[0] == counts[1]


def test_refusal_keeps_the_id_and_drops_the_password(portal: Portal) -> None:
    page = portal.visitor().sign_in("alice", WRONG, own_device="y")
    _, values = page.form("/sign-in")
    assert (values["sign_in_id"], values["password"], values["own_device"]) == ("alice", "", "y")
    assert WRONG not in page.response.text
    assert page.select("[role=alert]")


NONSENSE: tuple[dict[str, Any], ...] = (
    {},
    {"sign_in_id": "alice"},
    {"password": PASSWORD},
    {"sign_in_id": " ", "password": PASSWORD},
    {"sign_in_id": "x" * 255, "password": PASSWORD},
    {"sign_in_id": "alice", "password": "x" * 1025},
    {"sign_in_id": "'; DROP TABLE customers --", "password": "x"},
    {"sign_in_id": "😀" * 60, "password": "😀" * 60},
    {"sign_in_id": "<script>", "password": "\udcff".encode("utf-8", "surrogatepass")},
)


def test_form_without_sense_is_shown_again(portal: Portal) -> None:
    visitor = portal.visitor()
    visitor.get("/sign-in")
    for values in NONSENSE:
        assert visitor.post("/sign-in", values).status == 422, values


def test_sign_in_needs_the_strict_cookie_and_our_own_page(portal: Portal) -> None:
    values = {"sign_in_id": "alice", "password": PASSWORD}
    assert portal.visitor().post("/sign-in", values).status == 403
    visitor = portal.visitor()
    visitor.get("/sign-in")
    assert visitor.post("/sign-in", values, headers={"Origin": "http://evil.test"}).status == 403
    assert portal.one("SELECT count(*) FROM sign_in_attempts") == 0
    assert visitor.post("/sign-in", values).status == 303


# Cookies -------------------------------------------------------------------------------------


def test_cookies_are_bound_to_the_host_over_tls(https: FlaskClient) -> None:
    first = https.get("/sign-in", base_url=HTTPS)
    [(name, here)] = set_cookies(first).items()
    assert (name, here["samesite"], here["secure"], here["httponly"], here["path"]) == (
        "__Host-here",
        "Strict",
        True,
        True,
        "/",
    )
    answer = https.post(
        "/sign-in", base_url=HTTPS, data={"sign_in_id": "alice", "password": PASSWORD}
    )
    assert answer.status_code == 303
    cookies = set_cookies(answer)
    assert set(cookies) == {"__Host-session", "__Host-device"}
    for each in cookies.values():
        assert each["secure"]
        assert each["httponly"]
        assert (each["samesite"], each["path"], each["domain"]) == ("Lax", "/", "")
    assert answer.headers["Strict-Transport-Security"]


def test_cookies_on_plain_loopback_have_no_prefix(portal: Portal) -> None:
    cookies = set_cookies(portal.visitor().sign_in("alice").response)
    assert set(cookies) == {"session", "device"}
    assert not any(each["secure"] for each in cookies.values())
    assert all(each["httponly"] and each["samesite"] == "Lax" for each in cookies.values())


def test_session_cookie_ends_with_the_browser_unless_the_device_is_own(portal: Portal) -> None:
    cookies = set_cookies(portal.visitor().sign_in("alice").response)
    assert (cookies["session"]["max-age"], cookies["session"]["expires"]) == ("", "")
    assert cookies["device"]["max-age"] == str(400 * 86_400)
    own = set_cookies(portal.visitor().sign_in("alice", own_device="y").response)
    assert own["session"]["max-age"] == str(30 * 86_400)


def test_only_hashes_of_cookies_are_stored(portal: Portal) -> None:
    visitor = portal.visitor("alice")
    token, device = cookie(visitor, "session"), cookie(visitor, "device")
    assert len(token) == len(device) == 43  # 256 bits
    stored = repr(crawl.dump(portal.app))
    assert token not in stored
    assert device not in stored
    assert portal.one("SELECT token_hash FROM sessions") == hashlib.sha256(token.encode()).digest()


def test_no_remember_me_cookie_is_given_or_taken(portal: Portal) -> None:
    visitor = portal.visitor("alice", remember="y", own_device="y")
    visitor.get(portal.path())
    assert set(visitor.cookies()) == {"here", "session", "device"}
    stranger = portal.visitor()
    put(stranger, remember_token="alicecustomer|" + "0" * 128)
    assert stranger.get(portal.path()).status == 303


def test_cookies_of_nobody_are_anonymous(portal: Portal) -> None:
    for value in ("x", "x" * 4000, "%00", '"', "é", "' OR 1=1 --"):
        visitor = portal.visitor()
        put(visitor, session=value, device=value)
        assert visitor.get(portal.path()).status == 303
        assert visitor.get("/sign-in").status == 200
        assert visitor.sign_in("alice").status == 303


# A new sign-in ---------------------------------------------------------------------------------


def test_sign_in_gives_a_new_id_and_a_new_token_and_the_old_ones_are_dead(portal: Portal) -> None:
    visitor = portal.visitor("alice")
    old, guard = cookie(visitor, "session"), crawl.token_of(visitor)
    assert visitor.sign_in("alice").status == 303
    assert cookie(visitor, "session") != old
    pay = {"choice": "other", "amount": "5.00"}
    assert visitor.post(portal.path("billing/pay"), pay | guard).status == 403
    put(visitor, session=old)
    assert visitor.get(portal.path()).status == 303


def test_id_that_came_from_elsewhere_is_not_taken_over(portal: Portal) -> None:
    visitor = portal.visitor()
    put(visitor, session="planted" * 6 + "x")
    visitor.sign_in("alice")
    assert cookie(visitor, "session") != "planted" * 6 + "x"


def test_another_customer_in_the_same_browser_takes_nothing_over(portal: Portal) -> None:
    visitor = portal.visitor("alice")
    old = cookie(visitor, "session")
    assert visitor.sign_in("mallory").status == 303
    assert visitor.get(portal.path()).status == 404
    assert visitor.get(portal.path(account="mallory")).status == 200
    put(visitor, session=old)
    assert visitor.get(portal.path()).status == 303


def test_first_form_sent_twice_gives_two_valid_answers(portal: Portal) -> None:
    def work(_number: int) -> tuple[Page, Page]:
        visitor = portal.visitor()
        return visitor.sign_in("alice"), visitor.get(portal.path())

    for result in together(2, work):
        assert not isinstance(result, Exception)
        first, then = result
        assert (first.status, then.status) == (303, 200)


def test_form_sent_again_with_the_cookies_of_before_is_answered_too(portal: Portal) -> None:
    visitor = portal.visitor("alice")
    old = cookie(visitor, "session")
    assert visitor.sign_in("alice").status == 303
    put(visitor, session=old)
    assert visitor.sign_in("alice").status == 303
    assert visitor.get(portal.path()).status == 200


def test_sign_ins_at_once_each_count_in_the_revision(portal: Portal) -> None:
    before = portal.one("SELECT revision FROM customers WHERE sign_in_id = 'alice'")
    results = together(4, lambda _number: portal.visitor().sign_in("alice").status)
    count = results.count(303)
    assert count >= 1
    after = portal.one("SELECT revision FROM customers WHERE sign_in_id = 'alice'")
    assert after == before + count


def test_each_sign_in_is_noted_for_the_customer_to_read(portal: Portal) -> None:
    def count() -> Any:
        return portal.one(
            "SELECT count(*) FROM activity WHERE customer_id = :who AND kind = 'signed_in'",
            who=portal.world.customers["alice"],
        )

    portal.visitor("alice")
    assert count() == 1
    portal.visitor().sign_in("alice", WRONG)
    assert count() == 1


def test_failed_sign_in_leaves_one_line_in_the_log(
    portal: Portal, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "lastmile")
    portal.visitor().sign_in("alice", WRONG)
    assert [record.message for record in caplog.records] == ["sign-in refused"]


# Passwords stay out of everything ------------------------------------------------------------


@pytest.mark.parametrize("table", ["", "sign_in_attempts", "devices", "customers", "sessions"])
def test_password_reaches_no_log_page_or_row(
    portal: Portal, table: str, caplog: pytest.LogCaptureFixture
) -> None:
    canary = "canary-lantern-9fd2"  # IDs are looked up in lower case
    caplog.set_level(logging.DEBUG)
    log.configure()
    logging.getLogger().addHandler(caplog.handler)
    if table:  # whatever fails is logged
        portal.execute(f"ALTER TABLE {table} RENAME TO away")
    visitor = portal.visitor()
    pages = [visitor.sign_in("alice", canary), visitor.sign_in(canary, "x"), visitor.sign_in("bob")]
    if table:
        portal.execute(f"ALTER TABLE away RENAME TO {table}")
        assert any(page.status == 503 for page in pages)
    assert canary not in caplog.text.casefold()
    assert PASSWORD not in caplog.text
    assert PASSWORD not in "".join(page.response.text for page in pages)
    assert canary not in pages[0].response.text + pages[0].location
    assert canary not in repr(crawl.dump(portal.app))
