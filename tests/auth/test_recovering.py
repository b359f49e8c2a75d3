"""Choosing a new password without the old one (bars 13, 17, 18, 19, 21)."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from blueprints.auth import recovering
from core.db import unit_of_work
from models import Channel
from tests import crawl
from tests.auth.mail import sent
from tests.auth.test_registering import add_contact
from tests.conftest import Portal, together
from tests.page import FRAGMENT, Page, Visitor
from tests.world import PASSWORD

Tick = Callable[..., None]
PHONE = "+15414166117"
NEW = "amber-violin-thursday"
DONE = "/sign-in?done=password-reset"


def ask(visitor: Visitor, who: str = "alice", way: str = "email") -> Page:
    page = visitor.submit(visitor.get("/recover"), "/recover", who=who)
    assert (page.status, page.location) == (303, "/recover/way"), page.text
    page = visitor.submit(visitor.get(page.location), "/way", way=way)
    wanted = {"email": "/recover/sent", "text": "/recover/code"}[way]
    assert (page.status, page.location) == (303, wanted), page.text
    return visitor.get(page.location)


def link(portal: Portal) -> str:
    """The path of the newest link that was sent."""
    return f"/recover/link/{sent(portal, 'recover_link')[-1].facts['token']}"


def test_customer_chooses_a_new_password_by_a_link(portal: Portal) -> None:
    ask(portal.visitor())
    visitor = portal.visitor()  # on another device
    page = visitor.get(link(portal))
    assert "alice" in page.text
    page = visitor.submit(page, link(portal), password=NEW)
    assert (page.status, page.location) == (303, DONE)
    assert "new password is saved" in visitor.get(DONE).text
    assert portal.visitor().sign_in("alice", PASSWORD).status == 422
    assert portal.visitor().sign_in("alice@example.net", NEW).status == 303


def test_customer_chooses_a_new_password_by_a_code(portal: Portal) -> None:
    add_contact(portal, "alice", "phone", PHONE)
    visitor = portal.visitor()
    page = ask(visitor, "1001", "text")
    page = visitor.submit(page, "/code", code=sent(portal, "recover_code")[-1].code)
    assert page.location == "/recover/password"
    page = visitor.submit(visitor.get(page.location), "/password", password=NEW)
    assert (page.status, page.location) == (303, DONE)
    assert portal.visitor().sign_in("alice", NEW).status == 303


# What comes with it ----------------------------------------------------------------------------


def reset(portal: Portal, visitor: Visitor, password: str = NEW) -> Page:
    path = link(portal)
    return visitor.submit(visitor.get(path), path, password=password)


def test_recovery_signs_nobody_in_and_ends_all_sessions(portal: Portal) -> None:
    before = portal.visitor("alice", own_device="y")
    ask(portal.visitor())
    visitor = portal.visitor()
    assert reset(portal, visitor).location == DONE
    assert "session" not in visitor.cookies()
    assert before.get(portal.path()).location.startswith("/sign-in")
    assert portal.one("SELECT count(*) FROM sessions WHERE ended_at IS NULL") == 0


def test_recovery_never_skips_the_second_step(portal: Portal, tick: Tick) -> None:
    portal.execute(
        "INSERT INTO factors (public_id, customer_id, kind, name, contact_id, created_at,"
        " confirmed_at) SELECT 'factor', c.id, 'email', '', k.id, c.created_at, c.created_at"
        " FROM customers c, contacts k WHERE c.sign_in_id = 'alice' AND k.value = :value",
        value="alice@example.net",
    )
    ask(portal.visitor())
    reset(portal, portal.visitor())
    visitor = portal.visitor()
    page = visitor.sign_in("alice", NEW)
    assert page.location.startswith("/sign-in/second-step")
    assert "session" not in visitor.cookies()


def test_every_contact_is_told_and_the_customer_can_read_it(portal: Portal) -> None:
    add_contact(portal, "alice", "email", "second@example.net")
    ask(portal.visitor())
    revision = "SELECT revision FROM customers WHERE sign_in_id = 'alice'"
    before = portal.one(revision)
    reset(portal, portal.visitor())
    told = [each for each in sent(portal, "security") if each.facts["event"] == "password_reset"]
    assert {each.recipient for each in told} == {"alice@example.net", "second@example.net"}
    kinds = portal.rows("SELECT kind FROM activity WHERE customer_id = 1 ORDER BY id DESC LIMIT 2")
    assert kinds == [("password_reset",), ("recovery_started",)]
    assert portal.one(revision) > before


def test_password_that_was_disabled_counts_again(portal: Portal, tick: Tick) -> None:
    portal.execute(
        "UPDATE customers SET password_disabled_at = created_at, failed_in_a_row = 100"
        " WHERE sign_in_id = 'alice'"
    )
    for _ in range(3):
        portal.visitor().sign_in("alice", "a wrong password")
    ask(portal.visitor())
    reset(portal, portal.visitor())
    # At once: whoever has proven to be alice does not wait for what others tried.
    assert portal.visitor().sign_in("alice", NEW).status == 303


def test_password_is_reset_five_times_a_day_at_most(portal: Portal, tick: Tick) -> None:
    for number in range(6):
        with portal.app.app_context():
            unit_of_work(
                lambda session: recovering.start_recovery(session, portal.world.customers["alice"])
            )
        page = reset(portal, portal.visitor(), f"{NEW}-{number}")
        assert page.status == (303 if number < 5 else 429), number
        tick(minutes=10)
    assert int(page.response.headers["Retry-After"]) > 80_000
    assert portal.visitor().sign_in("alice", f"{NEW}-4").status == 303


# Dead links ------------------------------------------------------------------------------------


def why(page: Page) -> str:
    assert page.status == 410
    assert page.select("a[href='/recover']")
    return page.text


def test_dead_link_says_why_and_what_next(portal: Portal, tick: Tick) -> None:
    visitor = portal.visitor()
    ask(visitor)
    first = link(portal)
    visitor.submit(visitor.get("/recover/way"), "/way", way="email")
    assert "newer one was sent" in why(portal.visitor().get(first))
    reset(portal, portal.visitor())
    assert "used already" in why(portal.visitor().get(link(portal)))
    tick(minutes=61)
    ask(portal.visitor(), "alice@example.net")
    tick(minutes=59)
    assert portal.visitor().get(link(portal)).status == 200
    tick(minutes=1)
    assert "older than an hour" in why(portal.visitor().get(link(portal)))
    assert "cut off" in why(portal.visitor().get(link(portal)[:-1]))
    page = portal.visitor()
    page.get("/sign-in")
    assert "older than an hour" in why(page.post(link(portal), {"password": NEW}))


def test_link_is_dead_after_a_sign_in(portal: Portal, tick: Tick) -> None:
    ask(portal.visitor())
    path = link(portal)
    visitor = portal.visitor()
    page = visitor.get(path)
    tick(seconds=1)
    portal.visitor("alice")
    assert "signed in" in why(visitor.get(path))
    assert visitor.submit(page, path, password=NEW).status == 410
    assert portal.visitor().sign_in("alice").status == 303


def test_link_is_dead_after_another_password_change(portal: Portal) -> None:
    add_contact(portal, "alice", "phone", PHONE)
    ask(portal.visitor())
    visitor = portal.visitor()
    page = ask(visitor, "alice@example.net", "text")
    page = visitor.submit(page, "/code", code=sent(portal, "recover_code")[-1].code)
    visitor.submit(visitor.get(page.location), "/password", password=NEW)
    assert "used already" in why(portal.visitor().get(link(portal)))


def test_link_is_stored_as_a_hash_and_its_page_writes_nothing(portal: Portal) -> None:
    ask(portal.visitor())
    path = link(portal)
    assert path.rpartition("/")[2] not in repr(crawl.dump(portal.app))
    differs = crawl.watch(portal.app)
    for _ in range(3):
        assert portal.visitor().get(path).status == 200
    assert differs() == set()


def test_link_of_a_disabled_customer_opens_nothing(portal: Portal) -> None:
    ask(portal.visitor())
    portal.execute("UPDATE customers SET is_disabled = true WHERE sign_in_id = 'alice'")
    assert portal.visitor().get(link(portal)).status == 410


def test_link_needs_our_own_page(portal: Portal) -> None:
    ask(portal.visitor())
    assert portal.visitor().post(link(portal), {"password": NEW}).status == 403
    visitor = portal.visitor()
    visitor.get(link(portal))
    foreign = {"Sec-Fetch-Site": "cross-site"}
    assert visitor.post(link(portal), {"password": NEW}, headers=foreign).status == 403


# Twice and at once -----------------------------------------------------------------------------


def test_link_sent_twice_counts_once_and_says_the_same(portal: Portal, tick: Tick) -> None:
    ask(portal.visitor())
    visitor, path = portal.visitor(), link(portal)
    page = visitor.get(path)
    for _ in range(2):
        assert visitor.submit(page, path, password=NEW).location == DONE
    assert portal.one("SELECT count(*) FROM activity WHERE kind = 'password_reset'") == 1
    assert visitor.submit(page, path, password=f"{NEW}-other").status == 410


def test_link_sent_at_once_by_many_counts_once(portal: Portal) -> None:
    ask(portal.visitor())
    path = link(portal)

    def press(number: int) -> int:
        visitor = portal.visitor()
        return visitor.submit(visitor.get(path), path, password=f"{NEW}-{number}").status

    assert sorted(map(str, together(3, press))) == ["303", "410", "410"]
    assert portal.one("SELECT count(*) FROM activity WHERE kind = 'password_reset'") == 1


def test_form_after_the_code_sent_twice_counts_once(portal: Portal) -> None:
    add_contact(portal, "alice", "phone", PHONE)
    visitor = portal.visitor()
    page = ask(visitor, "alice", "text")
    page = visitor.submit(page, "/code", code=sent(portal, "recover_code")[-1].code)
    page = visitor.get(page.location)
    for _ in range(2):
        assert visitor.submit(page, "/password", password=NEW).location == DONE
    assert portal.one("SELECT count(*) FROM activity WHERE kind = 'password_reset'") == 1
    other = visitor.submit(page, "/password", password=f"{NEW}-other")
    assert other.location == "/recover?done=overdone"
    assert portal.visitor().sign_in("alice", NEW).status == 303


@pytest.mark.parametrize(
    ("password", "says"),
    [("", "Choose a password"), ("alice 1001 alice", "Leave out"), ("password123", "many people")],
)
def test_weak_password_is_refused_and_the_link_lives_on(
    portal: Portal, password: str, says: str
) -> None:
    ask(portal.visitor())
    visitor = portal.visitor()
    page = reset(portal, visitor, password)
    assert (page.status, says in page.text) == (422, True)
    typed = {"password": password, "username": "alice"}
    line = visitor.post(f"{link(portal)}/strength", typed, headers=FRAGMENT)
    assert line.status == 200
    assert len(line.response.data) <= 300
    assert password == "" or says in line.response.text
    assert reset(portal, visitor).location == DONE


# A household, and others who ask ---------------------------------------------------------------


def test_household_gets_a_link_for_each_id(portal: Portal) -> None:
    add_contact(portal, "mallory", "email", "alice@example.net")
    ask(portal.visitor(), "alice@example.net")
    found = {each.facts["sign_in_id"]: each.facts["token"] for each in sent(portal, "recover_link")}
    assert set(found) == {"alice", "mallory"}
    for name, token in found.items():
        path = f"/recover/link/{token}"
        visitor = portal.visitor()
        assert name in visitor.get(path).text
        assert visitor.submit(visitor.get(path), path, password=f"{NEW}-77").location == DONE


def test_household_chooses_an_id_after_the_code(portal: Portal) -> None:
    for name in ("alice", "mallory"):
        add_contact(portal, name, "phone", PHONE)
    visitor = portal.visitor()
    page = ask(visitor, PHONE, "text")
    page = visitor.submit(page, "/code", code=sent(portal, "recover_code")[-1].code)
    assert page.location == "/recover/which"
    page = visitor.get(page.location)
    assert visitor.submit(page, "/which", which="bobcustomer").status == 422
    page = visitor.submit(page, "/which", which="mallorycustomer")
    visitor.submit(visitor.get(page.location), "/password", password=NEW)
    assert portal.visitor().sign_in("mallory", NEW).status == 303
    assert portal.visitor().sign_in("alice").status == 303


@pytest.mark.usefixtures("ctx")
def test_staff_start_a_recovery_by_what_there_is(portal: Portal) -> None:
    def start(name: str) -> object:
        customer_id = portal.world.customers[name]
        return unit_of_work(
            lambda session: recovering.start_recovery(session, customer_id, by="staff")
        )

    assert start("alice") is Channel.EMAIL
    assert start("bob") is None  # nothing on file that may have it
    portal.execute("DELETE FROM contacts WHERE kind = 'email'")
    add_contact(portal, "alice", "phone", PHONE)
    assert start("alice") is Channel.TEXT
    assert portal.visitor().get(link(portal)).status == 200
    facts = portal.rows("SELECT facts FROM activity WHERE kind = 'recovery_started'")
    assert len(facts) == 2
    assert "staff" in str(facts)
