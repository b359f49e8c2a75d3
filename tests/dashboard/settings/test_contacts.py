"""Adding, replacing and removing contacts (bars 17, 18, 21 and 28)."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import date
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from blueprints.auth import reach
from core.db import db
from tests.conftest import Portal, answered, together
from tests.dashboard.told import announced, code_sent, events, letters
from tests.page import Page, Visitor

NEW = "alice.new@example.org"
Tick = Callable[..., None]


def on_file(portal: Portal, who: str = "alice") -> list[tuple[str, bool]]:
    """The e-mail addresses and phone numbers of an account, and whether each still counts."""
    return portal.rows(
        "SELECT value, ended_on IS NULL FROM contacts WHERE account_id = :id AND kind <> 'postal'"
        " ORDER BY id",
        id=portal.world.accounts[who],
    )


def ask(visitor: Visitor, value: str = NEW, path: str = "/settings/contacts/add/email") -> Page:
    return visitor.submit(visitor.get(path), path, value=value)


def enter(portal: Portal, visitor: Visitor, asked: Page, value: str = NEW) -> Page:
    assert asked.status == 303, asked.text
    return visitor.submit(
        visitor.get(asked.location), asked.location, code=code_sent(portal, value, "contact_code")
    )


def replace_path(visitor: Visitor, what: str = "replace") -> str:
    [link] = visitor.get("/settings/contacts").select(f"main a[href$='/{what}']")
    return str(link.get("href"))


# Adding -----------------------------------------------------------------------------------------


def test_code_is_sent_in_groups_and_taken_with_and_without_them(portal: Portal) -> None:
    alice = portal.visitor("alice")
    for value, joint in ((NEW, " "), ("other@example.org", "")):
        asked = ask(alice, value)
        code = code_sent(portal, value, "contact_code")
        assert re.fullmatch(r"\d{3} \d{3}", code)
        typed = code.replace(" ", joint)
        done = alice.submit(alice.get(asked.location), asked.location, code=typed)
        assert done.location == "/settings/contacts?done=added"


def test_new_address_counts_once_its_code_was_entered(portal: Portal) -> None:
    alice = portal.visitor("alice")
    asked = ask(alice)
    assert on_file(portal) == [("alice@example.net", True)]
    assert NEW in alice.get("/settings/contacts").text
    done = enter(portal, alice, asked)
    assert done.location == "/settings/contacts?done=added"
    assert on_file(portal) == [("alice@example.net", True), (NEW, True)]
    assert "Enter the code" not in alice.get(done.location).text


def test_contacts_before_are_told_at_once_without_the_new_value(portal: Portal) -> None:
    alice = portal.visitor("alice")
    asked = ask(alice)
    assert announced(portal, "contact_change_asked") == ["alice@example.net"]
    enter(portal, alice, asked)
    assert announced(portal, "contact_added") == ["alice@example.net"]
    for kind in ("security",):
        assert NEW not in str(letters(portal, kind))
    assert NEW not in str(portal.rows("SELECT facts FROM activity"))


def test_new_contact_receives_no_codes_for_a_while_and_the_old_one_does(
    portal: Portal, tick: Tick
) -> None:
    alice = portal.visitor("alice")
    enter(portal, alice, ask(alice))

    def may() -> set[str]:
        with portal.app.app_context():
            found = reach.of_account(db.session(), portal.world.accounts["alice"])
            return {each.value for each in found if each.may_have_codes and "@" in each.value}

    assert may() == {"alice@example.net"}
    tick(days=29)
    assert may() == {"alice@example.net"}
    tick(days=2)
    assert may() == {"alice@example.net", NEW}


def test_phone_number_is_stored_in_e164_and_its_code_goes_by_text(portal: Portal) -> None:
    alice = portal.visitor("alice")
    path = "/settings/contacts/add/phone"
    asked = ask(alice, "(541) 521-5901", path)
    enter(portal, alice, asked, "+15415215901")
    assert ("+15415215901", True) in on_file(portal)
    assert "+1 541-521-5901" in alice.get("/settings/contacts").text
    assert portal.one("SELECT channel FROM messages WHERE kind = 'contact_code'") == "text"


@pytest.mark.parametrize(
    ("kind", "typed"),
    [
        ("email", ""), ("email", "alice"), ("email", "a@b"), ("email", "a b@example.org"),
        ("phone", ""), ("phone", "12"), ("phone", "541-555"), ("phone", "call me"),
        ("email", "alice@example.net"),
    ],
)  # fmt: skip
def test_what_is_no_new_contact_is_refused_and_kept_in_the_form(
    portal: Portal, kind: str, typed: str
) -> None:
    alice = portal.visitor("alice")
    path = f"/settings/contacts/add/{kind}"
    page = ask(alice, typed, path)
    assert page.status == 422
    assert page.select("#value-error")
    assert page.form(path)[1]["value"] == typed
    assert portal.one("SELECT count(*) FROM contact_changes") == 0


def test_wrong_code_is_refused_and_five_of_them_are_enough(portal: Portal) -> None:
    alice = portal.visitor("alice")
    asked = ask(alice)
    right = code_sent(portal, NEW, "contact_code")
    wrong = "000000" if right != "000 000" else "111111"
    for _ in range(5):
        page = alice.submit(alice.get(asked.location), asked.location, code=wrong)
        assert page.status == 422
        assert wrong not in page.response.text
    again = alice.submit(alice.get(asked.location), "/again")
    assert again.status == 303
    page = alice.submit(
        alice.get(asked.location), asked.location, code=code_sent(portal, NEW, "contact_code")
    )
    assert page.status == 429
    assert on_file(portal) == [("alice@example.net", True)]


def test_code_is_bound_to_its_change_and_counts_once(portal: Portal) -> None:
    alice, mallory = portal.visitor("alice"), portal.visitor("mallory")
    asked = ask(alice)
    hers = ask(mallory, "mallory.new@example.org")
    code = code_sent(portal, NEW, "contact_code")
    assert mallory.submit(mallory.get(hers.location), hers.location, code=code).status == 422
    assert enter(portal, alice, asked).status == 303
    assert alice.get(asked.location).status == 404


def test_code_runs_out(portal: Portal, tick: Tick) -> None:
    alice = portal.visitor("alice", own_device="y")
    asked = ask(alice)
    tick(hours=25)
    alice = portal.visitor("alice")
    assert alice.get(asked.location).status == 404
    assert on_file(portal) == [("alice@example.net", True)]


def test_new_code_ends_the_one_before(portal: Portal) -> None:
    alice = portal.visitor("alice")
    asked = ask(alice)
    first = code_sent(portal, NEW, "contact_code")
    page = alice.get(asked.location)
    assert alice.submit(page, "/again").location == f"{asked.location}?done=sent"
    if first != code_sent(portal, NEW, "contact_code"):
        refused = alice.submit(alice.get(asked.location), asked.location, code=first)
        assert refused.status == 422
    assert enter(portal, alice, asked).status == 303


def test_sending_is_limited(portal: Portal) -> None:
    alice = portal.visitor("alice")
    statuses = [ask(alice, f"new{number}@example.org").status for number in range(6)]
    assert statuses == [303] * 5 + [429]


def test_change_that_is_taken_back_is_gone(portal: Portal) -> None:
    alice = portal.visitor("alice")
    asked = ask(alice)
    page = alice.get(asked.location)
    assert alice.submit(page, "/withdraw").location == "/settings/contacts?done=withdrawn"
    assert alice.submit(page, asked.location, code="123456").status == 404


def test_forms_sent_twice_count_once(portal: Portal) -> None:
    alice = portal.visitor("alice")
    page = alice.get("/settings/contacts/add/email")
    first, second = (alice.submit(page, "/add/email", value=NEW) for _ in range(2))
    assert first.location == second.location
    assert len(letters(portal, "contact_code")) == 1
    page = alice.get(first.location)
    code = code_sent(portal, NEW, "contact_code")
    answers = [alice.submit(page, first.location, code=code).location for _ in range(2)]
    assert answers == ["/settings/contacts?done=added"] * 2
    assert on_file(portal).count((NEW, True)) == 1


def test_fifty_parallel_codes_put_one_contact_on_file(portal: Portal) -> None:
    alice = portal.visitor("alice")
    asked = ask(alice)
    action, values = alice.get(asked.location).form(asked.location)
    values["code"] = code_sent(portal, NEW, "contact_code")

    def send(number: int) -> int:
        visitor = Visitor(portal.app)
        visitor.client.set_cookie("session", alice.cookies()["session"], domain="127.0.0.1")
        return answered(lambda: visitor.post(action, values).status)

    found = together(50, send)
    assert 303 in found
    assert {answer for answer in found if answer != 303} <= {429}
    assert on_file(portal).count((NEW, True)) == 1


# Replacing and removing -------------------------------------------------------------------------


def test_replaced_address_ends_and_still_hears_of_changes(portal: Portal) -> None:
    alice = portal.visitor("alice")
    path = replace_path(alice)
    asked = ask(alice, NEW, path)
    done = enter(portal, alice, asked)
    assert done.location == "/settings/contacts?done=replaced"
    assert on_file(portal) == [("alice@example.net", False), (NEW, True)]
    assert announced(portal, "contact_replaced") == ["alice@example.net"]
    with portal.app.app_context():
        found = reach.of_account(db.session(), portal.world.accounts["alice"])
    assert [each.value for each in found if each.may_have_codes and "@" in each.value] == [
        "alice@example.net"
    ]


def test_last_contact_cannot_be_removed(portal: Portal) -> None:
    alice = portal.visitor("alice")
    path = replace_path(alice, "remove")
    page = alice.get(path)
    assert "last way to reach you" in page.text
    assert not page.select("main form")
    _, guard = page.form("/sign-out")
    assert alice.post(path, guard).status == 422
    assert on_file(portal) == [("alice@example.net", True)]


def test_removed_contact_is_told_and_stays_on_file(portal: Portal, tick: Tick) -> None:
    alice = portal.visitor("alice")
    enter(portal, alice, ask(alice))
    path = alice.get("/settings/contacts").select("main a[href$='/remove']")[0].get("href")
    page = alice.get(path)
    assert "alice@example.net" in page.text
    for _ in range(2):  # the answer to the first one was lost
        assert alice.submit(page, path).location == "/settings/contacts?done=removed"
    assert on_file(portal) == [("alice@example.net", False), (NEW, True)]
    assert sorted(announced(portal, "contact_removed")) == sorted([NEW, "alice@example.net"])


def test_signing_in_by_e_mail_follows(portal: Portal) -> None:
    alice = portal.visitor("alice")
    enter(portal, alice, ask(alice, NEW, replace_path(alice)))
    assert portal.one("SELECT email_key FROM customers WHERE id = 1") == NEW
    assert portal.visitor().sign_in(NEW).status == 303


@pytest.mark.parametrize("way", ["replace", "remove"])
def test_co_owner_signs_in_by_no_address_that_is_gone(portal: Portal, way: str) -> None:
    """Alice and Bob hold the account; Bob signs in by the address on it."""
    portal.execute(
        "UPDATE memberships SET role = 'owner' WHERE customer_id = :id AND account_id = :account",
        id=portal.world.customers["bob"],
        account=portal.world.accounts["alice"],
    )
    portal.execute("UPDATE customers SET email_key = NULL WHERE sign_in_id = 'alice'")
    portal.execute("UPDATE customers SET email_key = 'alice@example.net' WHERE sign_in_id = 'bob'")
    alice = portal.visitor("alice")
    if way == "replace":
        enter(portal, alice, ask(alice, NEW, replace_path(alice)))
    else:
        enter(portal, alice, ask(alice))
        path = alice.get("/settings/contacts").select("main a[href$='/remove']")[0].get("href")
        alice.submit(alice.get(path), path)
    assert portal.visitor().sign_in("alice@example.net").status == 422
    keys = "SELECT sign_in_id, email_key FROM customers WHERE email_key = :new"
    wanted = "bob" if way == "replace" else "alice"  # who was by none so far took it when it came
    assert portal.rows(keys, new=NEW) == [(wanted, NEW)]


def test_address_that_somebody_else_signs_in_with_is_no_name_to_sign_in(portal: Portal) -> None:
    """Households share an address."""
    alice = portal.visitor("alice")
    enter(portal, alice, ask(alice, "bob@example.net", replace_path(alice)), "bob@example.net")
    assert portal.one("SELECT email_key FROM customers WHERE id = 1") is None
    assert portal.one("SELECT email_key FROM customers WHERE sign_in_id = 'bob'") is not None


def test_contact_that_was_removed_and_comes_back_keeps_its_day(portal: Portal) -> None:
    """Whoever gets in for an hour cannot take its codes away by removing and adding it."""
    alice = portal.visitor("alice")
    enter(portal, alice, ask(alice, NEW, replace_path(alice)))
    enter(portal, alice, ask(alice, "alice@example.net"), "alice@example.net")
    since = portal.one("SELECT since_on FROM contacts WHERE value = 'alice@example.net'")
    assert str(since) == str(date(2025, 1, 1))


# Whose contacts they are --------------------------------------------------------------------------


def test_who_shares_an_account_changes_only_own_contacts(portal: Portal) -> None:
    bob = portal.visitor("bob")
    assert "alice@example.net" not in bob.get("/settings/contacts").text
    enter(portal, bob, ask(bob, "bob.new@example.org"), "bob.new@example.org")
    assert portal.rows("SELECT account_id, customer_id FROM contacts ORDER BY id DESC LIMIT 1") == [
        (None, portal.world.customers["bob"])
    ]
    assert events(portal, "bob") == ["contact_change_asked", "contact_added"]


def test_mallory_reaches_no_contact_of_alice(portal: Portal) -> None:
    alice, mallory = portal.visitor("alice"), portal.visitor("mallory")
    asked = ask(alice)
    paths = [asked.location, replace_path(alice), replace_path(alice, "remove")]
    posts = [*paths, f"{asked.location}/again", f"{asked.location}/withdraw"]
    _, guard = mallory.get("/accounts").form("/sign-out")
    before = on_file(portal)
    assert [mallory.get(path).status for path in paths] == [404] * 3
    code = code_sent(portal, NEW, "contact_code")
    typed = guard | {"value": "m@example.org", "code": code}
    assert [mallory.post(path, typed).status for path in posts] == [404] * 5
    hers = mallory.get(f"/settings/contacts/add/email?account={portal.world.public_ids['alice']}")
    assert hers.status == 404
    forged = {"account": portal.world.public_ids["alice"], "value": "m@example.org"}
    assert mallory.post("/settings/contacts/add/email", guard | forged).status == 404
    assert on_file(portal) == before


def test_owner_who_lost_the_account_meanwhile_adds_nothing_to_it(portal: Portal) -> None:
    alice = portal.visitor("alice")
    asked = ask(alice)
    page = alice.get(asked.location)
    portal.execute("UPDATE memberships SET role = 'viewer' WHERE customer_id = 1")
    code = code_sent(portal, NEW, "contact_code")
    assert alice.submit(page, asked.location, code=code).status == 404
    assert on_file(portal) == [("alice@example.net", True)]


# Step-up, address, order --------------------------------------------------------------------------


def test_each_change_asks_for_the_password_first(portal: Portal, tick: Tick) -> None:
    alice = portal.visitor("alice")
    paths = [
        "/settings/contacts/add/email",
        "/settings/contacts/add/phone",
        "/settings/address",
        replace_path(alice),
        replace_path(alice, "remove"),
    ]
    action, values = alice.get(paths[0]).form("/add/email")
    tick(minutes=11)
    for path in paths:
        assert alice.get(path).location.startswith("/confirm?next=")
    late = alice.post(action, values | {"value": NEW})
    assert late.location.startswith("/confirm?next=")
    alice.submit(alice.get(late.location), "/confirm", password="quiet-lantern-orbit-47")
    assert alice.get(paths[0]).form("/add/email")[1]["value"] == NEW
    assert portal.one("SELECT count(*) FROM contact_changes") == 0


def test_postal_address_is_asked_for_and_staff_are_told(portal: Portal) -> None:
    alice = portal.visitor("alice")
    page = alice.get("/settings/address")
    done = alice.submit(page, "/address", address="2 Oak St\nPinecrest OR")
    assert done.location == "/settings/contacts?done=address"
    [(recipient, facts)] = letters(portal, "address_change")
    assert recipient == "help@pinecrest.example"
    assert facts["text"] == "2 Oak St\nPinecrest OR"
    assert facts["account_number"] == "1001"
    assert announced(portal, "address_change_asked") == ["alice@example.net"]
    assert "Oak St" not in str(letters(portal, "security"))
    assert portal.one("SELECT count(*) FROM activity WHERE kind = 'address_change_asked'") == 1


STEPS = ("add", "wrong", "enter", "again", "withdraw", "replace", "remove")


@settings(
    max_examples=15,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(order=st.lists(st.sampled_from(STEPS), min_size=1, max_size=8))
def test_steps_in_any_order_leave_a_way_to_reach_the_customer(
    base: Any, engine_kind: str, portal: Portal, order: list[str]
) -> None:
    """No step is skipped: nothing counts without its code, and never is there no contact left."""
    base.reset()
    alice = portal.visitor("alice")
    pages: dict[str, Page] = {}
    asked = "/settings/contacts/changes/none"
    count = 0
    for step in order:
        before = [value for value, counts in on_file(portal) if counts]
        count += 1
        if step in ("add", "replace"):
            value = f"new{count}@example.org"
            path = "/settings/contacts/add/email"
            if step == "replace":
                path = (
                    alice.get("/settings/contacts")
                    .select("main a[href$='/replace']")[0]
                    .get("href")
                )
            answer = ask(alice, value, path)
            asked = answer.location if answer.status == 303 else asked
            assert [each for each, counts in on_file(portal) if counts] == before
        elif step == "remove":
            [link, *_] = alice.get("/settings/contacts").select("main a[href$='/remove']")
            alice.post(link.get("href"), alice.get("/accounts").form("/sign-out")[1])
        else:
            page = alice.get(asked)
            if page.status == 200:
                pages[asked] = page
            page = pages.get(asked, page)
            if page.status != 200:
                continue
            codes = [facts["code"] for _, facts in letters(portal, "contact_code")]
            if step in ("again", "withdraw"):
                alice.submit(page, f"/{step}")
            else:
                typed = codes[-1] if step == "enter" else "x"
                alice.submit(page, asked, code=str(typed))
        assert [value for value, counts in on_file(portal) if counts]
