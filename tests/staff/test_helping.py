"""Verifying callers, unlocking, ending sessions, printing letters."""

from __future__ import annotations

import re
from datetime import date, timedelta
from typing import Any

import pytest
from sqlalchemy.orm import Session

from core import codes, postman
from core.db import unit_of_work
from models import CodePurpose, Contact
from tests import crawl
from tests.conftest import Portal
from tests.page import Page, Visitor
from tests.world import PASSWORD


def path_of(portal: Portal, rest: str = "", account: str = "alice") -> str:
    return f"/staff/accounts/{portal.world.public_ids[account]}{rest}"


def sent(portal: Portal, kind: str) -> list[Any]:
    """The messages of a kind as they leave, which are then gone."""
    found: list[Any] = []

    class Postbox:
        def send(self, message: Any) -> None:
            found.append(message)

    boxes: Any = {"email": Postbox(), "text": Postbox()}
    waiting = portal.one("SELECT count(*) FROM messages WHERE kind = :kind", kind=kind)
    with portal.app.app_context():
        while postman.send_due(boxes, portal.settings.public_url):
            pass
    assert waiting
    return found


def check_wait(portal: Portal, page: Page) -> None:
    """Whoever has sent or tried too much for an account is told so as staff."""
    assert page.status == 429
    assert int(page.response.headers["Retry-After"]) > 0
    assert "for this account in a short time" in page.text
    assert "your account" not in page.text
    assert [link.get("href") for link in page.select("main a.button")] == [path_of(portal)]
    assert page.select("header.desk")


def takes(portal: Portal, purpose: CodePurpose, bound_to: str, code: str) -> bool:
    """Whether the code counts for this."""

    def work(session: Session) -> bool:
        return codes.use(session, portal.settings.secret, purpose, bound_to, code) is not None

    return unit_of_work(work)


def ask_for_code(portal: Portal, visitor: Visitor, account: str = "alice") -> tuple[Page, str]:
    """Send a code to the first contact; the page where it is typed, and the code."""
    path = path_of(portal, "/call", account)
    page = visitor.get(path)
    [first, *_others] = page.select("input[name=contact]")
    out = visitor.submit(page, "/call", contact=first.get("value"))
    assert out.status == 303, out.text
    [code] = re.findall(r"\b\d{3} \d{3}\b", sent(portal, "caller_code")[-1].text)
    return visitor.get(out.location), code


# Callers --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["sue", "ben", "ada"])
def test_caller_reads_the_code_back_and_is_verified(portal: Portal, name: str) -> None:
    visitor = portal.visitor(name)
    page, code = ask_for_code(portal, visitor)
    out = visitor.submit(page, "/call/check", code=code if name == "sue" else code.replace(" ", ""))
    assert out.location == path_of(portal, "?done=verified")
    assert "The code is right" in visitor.get(out.location).text
    assert "A caller was verified" in visitor.get(path_of(portal)).text
    kinds = [row[0] for row in portal.rows("SELECT kind FROM activity ORDER BY id DESC LIMIT 4")]
    assert {"caller_code_sent", "caller_verified"} <= set(kinds)
    assert "Caller verified by a code" in portal.visitor("alice").get(portal.path()).text


def test_verified_lasts_for_the_call(portal: Portal, tick: Any) -> None:
    sue = portal.visitor("sue")
    page, code = ask_for_code(portal, sue)
    sue.submit(page, "/call/check", code=code)
    for _ in range(2):
        tick(minutes=16)
        text = sue.get(path_of(portal)).text
    assert "A caller was verified" not in text


def test_whole_contact_is_not_shown(portal: Portal) -> None:
    page = portal.visitor("sue").get(path_of(portal, "/call"))
    assert "a•••@example.net" in page.text
    assert "alice@example.net" not in page.response.text


def test_same_form_twice_sends_one_code_and_counts_once(portal: Portal) -> None:
    sue = portal.visitor("sue")
    page = sue.get(path_of(portal, "/call"))
    [field] = page.select("input[name=contact]")
    for _ in range(2):
        assert sue.submit(page, "/call", contact=field.get("value")).status == 303
    assert portal.one("SELECT count(*) FROM messages WHERE kind = 'caller_code'") == 1
    typing = sue.get(path_of(portal, "/call?done=sent"))
    [code] = re.findall(r"\b\d{3} \d{3}\b", sent(portal, "caller_code")[-1].text)
    first, again = (sue.submit(typing, "/call/check", code=code) for _ in range(2))
    assert first.location == again.location
    assert portal.one("SELECT count(*) FROM activity WHERE kind = 'caller_verified'") == 1


def test_code_dies_after_ten_minutes(portal: Portal, tick: Any) -> None:
    sue = portal.visitor("sue")
    page, code = ask_for_code(portal, sue)
    tick(minutes=10)
    out = sue.submit(page, "/call/check", code=code)
    assert out.status == 422
    assert "its time is over" in out.text


def test_code_counts_in_the_call_that_it_was_sent_for_alone(portal: Portal) -> None:
    sue, ben = portal.visitor("sue"), portal.visitor("ben")
    page, code = ask_for_code(portal, sue)
    other = ben.get(path_of(portal, "/call?done=sent"))
    assert ben.submit(other, "/call/check", code=code).status == 422
    mallorys = sue.get(path_of(portal, "/call?done=sent", "mallory"))
    assert sue.submit(mallorys, "/call/check", code=code).status == 422
    assert sue.submit(page, "/call/check", code=code).status == 303


def test_code_of_a_call_opens_nothing_else(portal: Portal) -> None:
    sue = portal.visitor("sue")
    _page, code = ask_for_code(portal, sue)
    [bound_to] = portal.rows("SELECT bound_to FROM one_time_codes")[0]
    with portal.app.app_context():
        for purpose in set(CodePurpose) - {CodePurpose.CALLER}:
            assert not takes(portal, purpose, bound_to, code)


def test_wrong_codes_are_limited(portal: Portal) -> None:
    sue = portal.visitor("sue")
    page, code = ask_for_code(portal, sue)
    wrong = f"{(int(codes.clean(code)) + 1) % 1_000_000:06}"
    for _ in range(5):
        page = sue.submit(page, "/call/check", code=wrong)
        assert page.status == 422
        assert wrong not in page.response.text
    check_wait(portal, sue.submit(page, "/call/check", code=code))


def test_codes_are_sent_five_times_an_hour(portal: Portal) -> None:
    sue = portal.visitor("sue")
    for _ in range(5):
        page = sue.get(path_of(portal, "/call"))
        [field] = page.select("input[name=contact]")
        assert sue.submit(page, "/call", contact=field.get("value")).status == 303
    page = sue.get(path_of(portal, "/call"))
    check_wait(portal, sue.submit(page, "/call", contact=field.get("value")))


def test_contact_that_came_lately_or_is_anothers_gets_no_code(portal: Portal) -> None:
    def work(session: Session) -> int:
        contact = Contact(
            account_id=portal.world.accounts["alice"],
            kind="email",
            value="new@example.net",
            since_on=date(2026, 6, 10),
        )
        session.add(contact)
        session.flush()
        return contact.id

    with portal.app.app_context():
        new_id = unit_of_work(work)
    sue = portal.visitor("sue")
    page = sue.get(path_of(portal, "/call"))
    assert "n•••@example.net" not in page.text
    theirs = portal.rows(
        "SELECT id FROM contacts WHERE account_id = :id AND kind = 'email'",
        id=portal.world.accounts["mallory"],
    )[0][0]
    action, values = page.form("/call")
    for contact_id in (new_id, theirs, "x", ""):
        assert sue.post(action, values | {"contact": str(contact_id)}).status == 422
    assert portal.one("SELECT count(*) FROM messages WHERE kind = 'caller_code'") == 0


def test_account_without_a_contact_says_what_else_to_do(portal: Portal) -> None:
    portal.execute("DELETE FROM contacts WHERE kind = 'email' AND account_id IS NOT NULL")
    assert "No code can go anywhere" in portal.visitor("sue").get(path_of(portal, "/call")).text


# Unlocking, ending sessions -------------------------------------------------------------------


def person(portal: Portal, visitor: Visitor, name: str = "alice") -> Page:
    return visitor.get(path_of(portal, f"/people/{name}customer"))


def test_unlocking_ends_the_wait_and_leaves_the_password(portal: Portal) -> None:
    alice = portal.visitor()
    for _ in range(6):
        alice.sign_in("alice", "wrong-wrong-wrong")
    assert alice.sign_in("alice").status == 429
    before = portal.one("SELECT password_hash FROM customers WHERE sign_in_key = 'alice'")
    sue = portal.visitor("sue")
    out = sue.submit(person(portal, sue), "/unlock")
    assert "forgotten" in sue.get(out.location).text
    assert alice.sign_in("alice", PASSWORD).status == 303
    assert portal.one("SELECT password_hash FROM customers WHERE sign_in_key = 'alice'") == before
    assert "Our staff let you try" in alice.get(portal.path()).text
    assert portal.one("SELECT count(*) FROM messages WHERE kind = 'security'") == 1


def test_unlocking_does_not_lift_what_only_recovery_lifts(portal: Portal) -> None:
    portal.execute(
        "UPDATE customers SET failed_in_a_row = 100, password_disabled_at = :at WHERE id = :id",
        at="2026-06-20 18:00:00" + ("" if portal.settings.is_sqlite else "+00"),
        id=portal.world.customers["alice"],
    )
    sue = portal.visitor("sue")
    page = person(portal, sue)
    assert "Only a reset lifts that" in page.text
    sue.submit(page, "/unlock")
    assert portal.rows(
        "SELECT failed_in_a_row, password_disabled_at IS NOT NULL FROM customers WHERE id = :id",
        id=portal.world.customers["alice"],
    ) == [(100, True)]


def test_person_who_reported_something_is_not_said_to_have_guessed(portal: Portal) -> None:
    alice = portal.visitor("alice")
    path = alice.get("/activity?kind=sign-in").select("main a[href*='/not-me/']")[0].get("href")
    alice.submit(alice.get(path), path)
    page = person(portal, portal.visitor("sue"))
    assert "They told us that something was not them" in page.text
    assert "failed tries in a row" not in page.text


def test_ending_sessions_signs_the_person_out_everywhere_and_nobody_else(portal: Portal) -> None:
    first, second = portal.visitor("alice"), portal.visitor("alice", own_device="y")
    bob, sue = portal.visitor("bob"), portal.visitor("sue")
    sue.submit(person(portal, sue), "/end-sessions")
    for visitor in (first, second):
        assert visitor.get(portal.path()).location.startswith("/sign-in")
    assert bob.get(portal.path()).status == 200
    assert "Nowhere" in person(portal, sue).text


@pytest.mark.parametrize("action", ["/unlock", "/end-sessions"])
def test_form_twice_counts_once(portal: Portal, action: str) -> None:
    sue = portal.visitor("sue")
    page = person(portal, sue)
    first, again = (sue.submit(page, action) for _ in range(2))
    assert (first.status, first.location) == (303, again.location)
    told = "SELECT count(*) FROM activity WHERE kind LIKE 'staff_%' AND kind <> 'staff_viewed'"
    assert portal.one(told) == 1


@pytest.mark.parametrize("action", ["/unlock", "/end-sessions"])
def test_person_has_to_belong_to_the_account(portal: Portal, action: str) -> None:
    sue = portal.visitor("sue")
    guard = crawl.token_of(sue)
    for name in ("mallory", "ada", "nobody"):
        assert sue.post(path_of(portal, f"/people/{name}customer{action}"), guard).status == 404


# Letters --------------------------------------------------------------------------------------


@pytest.fixture
def asked(portal: Portal) -> Portal:
    """Somebody has asked for a letter to alice's account."""
    with portal.app.app_context():
        crawl.ask_for_letter(portal, "alice")
    return portal


def code_in(page: Page) -> str:
    [code] = page.select(".letter-page__code")
    return str(code.text_content())


def use(portal: Portal, code: str) -> bool:
    [(flow_id,)] = portal.rows("SELECT id FROM flows")
    with portal.app.app_context():
        return takes(portal, CodePurpose.REGISTER, f"flow:{flow_id}", code)


def test_letter_holds_address_and_code_and_is_valid_for_three_weeks(asked: Portal) -> None:
    sue = asked.visitor("sue")
    waiting = sue.get("/staff/letters")
    assert "Alice" in waiting.text
    letter = sue.submit(waiting, "/print")
    assert letter.status == 200
    assert "no-store" in letter.response.headers["Cache-Control"]
    assert "1 Mill St" in letter.text
    assert "Jul 11, 2026" in letter.text
    assert re.fullmatch(r"\d{3} \d{3} \d{3} \d{3}", code_in(letter))
    assert use(asked, code_in(letter))


def test_letter_names_its_sender_above_whom_it_goes_to(asked: Portal) -> None:
    sue = asked.visitor("sue")
    page = sue.get("/staff/letters")
    assert sue.submit(page, "/print").select(".letter-page__sender") == []
    asked.execute("UPDATE isp SET postal_address = '5 Elm St, Pinecrest', revision = revision + 1")
    letter = sue.submit(page, "/print")
    [sender] = letter.select(".letter-page__sender")
    assert sender.text_content() == "Pinecrest Broadband, 5 Elm St, Pinecrest"
    assert sender.getnext().get("class") == "letter-page__to"


def test_printing_again_makes_another_code_and_the_first_is_dead(asked: Portal) -> None:
    sue = asked.visitor("sue")
    page = sue.get("/staff/letters")
    first, second = (code_in(sue.submit(page, "/print")) for _ in range(2))
    assert first != second
    assert not use(asked, first)
    assert use(asked, second)
    assert "Print again" in sue.get("/staff/letters").text
    assert "Letter with a code printed" in sue.get(path_of(asked)).text


def test_letters_code_is_of_no_use_without_the_browser_that_asked(asked: Portal) -> None:
    """It is bound to that browser's flow: no other flow takes it."""
    sue = asked.visitor("sue")
    code = code_in(sue.submit(sue.get("/staff/letters"), "/print"))
    with asked.app.app_context():
        for bound_to in ("flow:99", "account:1", ""):
            assert not takes(asked, CodePurpose.REGISTER, bound_to, code)


def test_letter_speaks_the_accounts_language(asked: Portal) -> None:
    asked.execute("UPDATE accounts SET language = 'es'")
    sue = asked.visitor("sue")
    letter = sue.submit(sue.get("/staff/letters"), "/print")
    assert letter.select("html")[0].get("lang") == "es" or letter.tree.get("lang") == "es"
    assert "Print this page now" in letter.text, "what is for the member stays in theirs"


def test_letter_whose_flow_is_over_is_gone(asked: Portal, tick: Any) -> None:
    sue = asked.visitor("sue")
    page = sue.get("/staff/letters")
    asked.execute("UPDATE flows SET expires_at = created_at")
    assert sue.submit(page, "/print").status == 404
    assert "No letter waits" in sue.get("/staff/letters").text
    assert asked.one("SELECT count(*) FROM one_time_codes") == 0


def test_printing_is_noted(asked: Portal) -> None:
    sue = asked.visitor("sue")
    sue.submit(sue.get("/staff/letters"), "/print")
    assert asked.rows("SELECT purpose, fields FROM data_accesses ORDER BY id") == [
        ("letters", "name, number"),
        ("letter", "name, number, address"),
    ]


def test_letter_names_no_day_before_it_was_asked_for(asked: Portal, tick: Any) -> None:
    tick(days=2)
    sue = asked.visitor("sue")
    letter = sue.submit(sue.get("/staff/letters"), "/print")
    assert (date(2026, 6, 22) + timedelta(days=21)).strftime("%b %-d, %Y") in letter.text
