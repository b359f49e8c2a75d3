"""Looking after one's second steps (bars 8, 9, 10, 21, 25 and 28)."""

from __future__ import annotations

from collections.abc import Callable
from urllib.parse import unquote

import pytest

from core.policy import POLICY
from models import FlowKind
from tests import crawl, factors
from tests.conftest import Portal, together
from tests.factors import app_code, give_code, half_way, sent_codes, told
from tests.page import BASE, Page, Visitor
from tests.test_forms_at_random import ANYTHING, OF_FACTORS
from tests.world import PASSWORD

LIST = "/settings/second-step"


def confirm(visitor: Visitor, page: Page) -> Page:
    """Give the password that a page asks for first, and come back."""
    if not page.location.startswith("/confirm"):
        return page
    page = visitor.submit(visitor.get(page.location), "/confirm", password=PASSWORD)
    return visitor.get(page.location)


def add_app(visitor: Visitor) -> str:
    """Add an authenticator app as its pages lead; returns its key."""
    visitor.submit(visitor.get(f"{LIST}/app"), "/app")
    page = visitor.get(f"{LIST}/app/check")
    seed: str = page.select("code.key")[0].text_content().replace(" ", "")
    assert visitor.submit(page, "/check", code=app_code(seed)).status == 303
    return seed


def remove(visitor: Visitor, public_id: str) -> Page:
    page = visitor.get(f"{LIST}/remove", factor=public_id)
    return visitor.submit(page, "/remove")


def public_ids(portal: Portal, name: str) -> list[str]:
    rows = portal.rows(
        "SELECT public_id FROM factors WHERE customer_id = :id ORDER BY id",
        id=portal.world.customers[name],
    )
    return [row[0] for row in rows]


# Adding --------------------------------------------------------------------------------------


def test_app_counts_once_it_has_shown_its_first_code(portal: Portal) -> None:
    visitor = portal.visitor("alice")
    visitor.submit(visitor.get(f"{LIST}/app"), "/app")
    page = visitor.get(f"{LIST}/app/check")
    assert page.select(".qr-frame svg path")
    assert portal.visitor().sign_in("alice").location == portal.path()
    refused = visitor.submit(page, "/check", code="000000")
    assert (refused.status, "changes every 30 seconds" in refused.text) == (422, True)
    seed = page.select("code.key")[0].text_content().replace(" ", "")
    page = visitor.submit(page, "/check", code=app_code(seed))
    assert page.location == f"{LIST}/recovery-codes?done=added"
    assert "Authenticator app" in visitor.get(LIST).text
    assert portal.visitor().sign_in("alice").location == "/sign-in/second-step"


def test_key_has_160_bits_and_is_stored_sealed(portal: Portal) -> None:
    seed = add_app(portal.visitor("alice"))
    assert len(seed) == 32
    stored = bytes(portal.one("SELECT secret FROM factors"))
    assert seed.encode() not in stored
    assert len(stored) > 100


def test_key_that_was_shown_can_be_confirmed_for_an_hour(
    portal: Portal, tick: Callable[..., None]
) -> None:
    visitor = portal.visitor("alice")
    visitor.submit(visitor.get(f"{LIST}/app"), "/app")
    page = visitor.get(f"{LIST}/app/check")
    seed = page.select("code.key")[0].text_content().replace(" ", "")
    tick(minutes=59)
    page = confirm(visitor, visitor.get(f"{LIST}/app/check"))
    tick(minutes=1)
    assert visitor.submit(page, "/check", code=app_code(seed)).location == LIST
    assert not portal.one("SELECT count(*) FROM factors WHERE confirmed_at IS NOT NULL")


@pytest.mark.parametrize("way", ["email", "text"])
def test_code_by_message_counts_once_its_first_code_has_come(portal: Portal, way: str) -> None:
    factors.give_phone(portal, "alice")
    contact = "alice@example.net" if way == "email" else "+15415550123"
    visitor = portal.visitor("alice")
    page = visitor.submit(visitor.get(f"{LIST}/message"), "/message", contact=contact)
    assert page.location == f"{LIST}/message/check"
    page = visitor.get(page.location)
    [(recipient, code)] = sent_codes(portal)
    assert recipient == contact
    assert visitor.submit(page, "/check", code="x").status == 422
    assert visitor.submit(page, "/check", code=code).status == 303
    assert portal.visitor().sign_in("alice").location == "/sign-in/second-step"
    listed = visitor.get(f"{LIST}/message")
    values = [choice.get("value") for choice in listed.select("[name=contact]")]
    assert contact not in values
    assert len(values) == 1


def test_contact_of_late_and_one_of_somebody_else_cannot_be_chosen(portal: Portal) -> None:
    factors.give_phone(portal, "alice")
    portal.execute("UPDATE contacts SET since_on = '2026-06-01' WHERE kind = 'phone'")
    visitor = portal.visitor("alice")
    page = visitor.get(f"{LIST}/message")
    for contact in ("+15415550123", "mallory@example.net", "1 Mill St, Pinecrest"):
        assert visitor.submit(page, "/message", contact=contact).status == 422
    assert sent_codes(portal) == []


def test_form_that_sends_a_first_code_sends_one_when_it_is_sent_twice(portal: Portal) -> None:
    visitor = portal.visitor("alice")
    page = visitor.get(f"{LIST}/message")
    for _ in range(2):
        answer = visitor.submit(page, "/message", contact="alice@example.net")
        assert answer.location == f"{LIST}/message/check"
    assert len(sent_codes(portal)) == 1


# Recovery codes -------------------------------------------------------------------------------


def shown_codes(page: Page) -> list[str]:
    return [code.text_content() for code in page.select(".codes code")]


def make_codes(visitor: Visitor) -> Page:
    return visitor.submit(visitor.get(f"{LIST}/recovery-codes"), "/recovery-codes")


def test_recovery_codes_are_shown_once_and_count_once_confirmed(portal: Portal) -> None:
    visitor = portal.visitor("alice")
    add_app(visitor)
    page = make_codes(visitor)
    codes = shown_codes(page)
    assert len(codes) == len(set(codes)) == 10
    assert all(len(code.replace("-", "")) == 16 for code in codes)  # of 32: 80 bits
    [link] = page.select("a[download]")
    assert [code in unquote(link.get("href")) for code in codes] == [True] * 10
    assert give_code(half_way(portal, "alice"), codes[0], "totp").status == 422
    assert visitor.submit(page, "/kept").location == f"{LIST}?done=codes"
    assert give_code(half_way(portal, "alice"), codes[0], "recovery").status == 303
    assert ("alice@example.net", "recovery_codes_made") in told(portal)


def test_recovery_codes_are_stored_hashed(portal: Portal) -> None:
    visitor = portal.visitor("alice")
    add_app(visitor)
    [code, *_] = shown_codes(make_codes(visitor))
    stored = [bytes(row[0]) for row in portal.rows("SELECT code_hash FROM recovery_codes")]
    assert {len(value) for value in stored} == {32}
    assert not [value for value in stored if code.replace("-", "").encode() in value]


def test_each_showing_makes_new_codes_and_the_kept_ones_count_until_then(portal: Portal) -> None:
    visitor = portal.visitor("alice")
    add_app(visitor)
    first = make_codes(visitor)
    assert visitor.submit(first, "/kept").location == f"{LIST}?done=codes"
    second = make_codes(visitor)
    assert not set(shown_codes(first)) & set(shown_codes(second))
    assert give_code(half_way(portal, "alice"), shown_codes(second)[0], "recovery").status == 422
    assert give_code(half_way(portal, "alice"), shown_codes(first)[0], "recovery").status == 303
    assert visitor.submit(second, "/kept").location == f"{LIST}?done=codes"
    assert give_code(half_way(portal, "alice"), shown_codes(first)[1], "recovery").status == 422
    assert give_code(half_way(portal, "alice"), shown_codes(second)[0], "recovery").status == 303


def test_page_of_codes_that_were_replaced_confirms_nothing(portal: Portal) -> None:
    visitor = portal.visitor("alice")
    add_app(visitor)
    first, second = make_codes(visitor), make_codes(visitor)
    assert visitor.submit(first, "/kept").location == f"{LIST}/recovery-codes"
    assert not portal.one("SELECT count(*) FROM recovery_codes WHERE confirmed_at IS NOT NULL")
    for _ in range(2):  # the answer was lost
        assert visitor.submit(second, "/kept").location == f"{LIST}?done=codes"
    assert told(portal).count(("alice@example.net", "recovery_codes_made")) == 1


def test_one_recovery_code_at_once_by_many_opens_one_session(portal: Portal) -> None:
    visitor = portal.visitor("alice")
    add_app(visitor)
    page = make_codes(visitor)
    visitor.submit(page, "/kept")
    before = portal.one("SELECT count(*) FROM sessions")
    code, halves = shown_codes(page)[0], [half_way(portal, "alice") for _ in range(8)]
    answers = together(8, lambda number: give_code(halves[number], code, "recovery").status)
    assert answers.count(303) == 1, answers
    assert portal.one("SELECT count(*) FROM sessions") == before + 1


def test_recovery_code_opens_no_step_up(portal: Portal, tick: Callable[..., None]) -> None:
    visitor = portal.visitor("alice")
    add_app(visitor)
    page = make_codes(visitor)
    visitor.submit(page, "/kept")
    tick(minutes=10)
    asked = visitor.get(visitor.get(f"{LIST}/app").location)
    assert visitor.submit(asked, "/confirm", password=shown_codes(page)[0]).status == 422


def test_nobody_without_a_factor_gets_recovery_codes(portal: Portal) -> None:
    visitor = portal.visitor("alice")
    page = visitor.get(f"{LIST}/recovery-codes")
    assert visitor.submit(page, "/recovery-codes").location == LIST
    assert portal.one("SELECT count(*) FROM recovery_codes") == 0


# What every change entails --------------------------------------------------------------------


def test_adding_and_removing_are_announced_noted_and_end_other_sessions(portal: Portal) -> None:
    visitor = portal.visitor("alice")
    for change in ("factor_added", "factor_removed"):
        other = portal.visitor("alice") if change == "factor_added" else half_way(portal, "alice")
        if change == "factor_added":
            seed = add_app(visitor)
        else:
            give_code(other, app_code(seed, steps=1))
            assert other.get(portal.path()).status == 200
            remove(visitor, public_ids(portal, "alice")[0])
        assert other.get(portal.path()).location.startswith("/sign-in")
        assert visitor.get(portal.path()).status == 200
        assert told(portal)[-1] == ("alice@example.net", change)
        assert portal.one(f"SELECT count(*) FROM activity WHERE kind = '{change}'") == 1


def test_removing_the_last_one_takes_the_recovery_codes_along(portal: Portal) -> None:
    visitor = portal.visitor("alice")
    add_app(visitor)
    visitor.submit(make_codes(visitor), "/kept")
    assert remove(visitor, public_ids(portal, "alice")[0]).location == f"{LIST}?done=removed"
    assert portal.one("SELECT count(*) FROM recovery_codes") == 0
    assert portal.visitor().sign_in("alice").location == portal.path()


def test_half_finished_sign_in_ends_when_a_factor_is_removed(portal: Portal) -> None:
    visitor = portal.visitor("alice")
    seed = add_app(visitor)
    half = half_way(portal, "alice")
    remove(visitor, public_ids(portal, "alice")[0])
    assert half.get("/sign-in/second-step").location == "/sign-in?done=ended"
    assert seed


def test_last_factor_stays_where_one_is_required(portal: Portal) -> None:
    visitor = portal.visitor("alice")
    add_app(visitor)
    [public_id] = public_ids(portal, "alice")
    page = visitor.get(f"{LIST}/remove", factor=public_id)
    portal.execute(
        "UPDATE isp SET requires_second_factor = :yes, revision = revision + 1", yes=True
    )
    assert visitor.submit(page, "/remove").status == 422
    assert not visitor.get(f"{LIST}/remove", factor=public_id).select("form[action$='/remove']")
    factors.give_email(portal, "alice")
    assert remove(visitor, public_id).location == f"{LIST}?done=removed"


def test_two_removals_at_once_leave_the_last_one(portal: Portal) -> None:
    portal.execute(
        "UPDATE isp SET requires_second_factor = :yes, revision = revision + 1", yes=True
    )
    factors.give_app(portal, "alice")
    factors.give_email(portal, "alice")
    visitor = half_way(portal, "alice")
    give_code(visitor, app_code())
    pages = [visitor.get(f"{LIST}/remove", factor=each) for each in public_ids(portal, "alice")]
    answers = together(2, lambda number: visitor.submit(pages[number], "/remove").status)
    assert sorted(map(str, answers)) == ["303", "422"]
    assert portal.one("SELECT count(*) FROM factors") == 1


# Step-up (bar 28) -----------------------------------------------------------------------------


def test_every_change_asks_for_a_recent_password(portal: Portal, tick: Callable[..., None]) -> None:
    """But for saying that codes were kept: showing them asked for it."""
    visitor = portal.visitor("alice")
    guard = crawl.token_of(visitor)
    tick(minutes=10)
    differs = crawl.watch(portal.app)
    changing = {
        endpoint: path
        for endpoint, path in crawl.list_posts(portal).items()
        if path.startswith(LIST) and endpoint != "auth.recovery_codes_kept"
    }
    assert len(changing) >= 7
    for endpoint, path in changing.items():
        page = visitor.post(path, guard)
        assert page.location.startswith("/confirm?next="), endpoint
        assert POLICY[endpoint].before_second_factor
    assert differs() <= {"sessions"}


def test_removal_waits_for_the_password_and_is_not_done_by_it(
    portal: Portal, tick: Callable[..., None]
) -> None:
    visitor = portal.visitor("alice")
    add_app(visitor)
    page = visitor.get(f"{LIST}/remove", factor=public_ids(portal, "alice")[0])
    tick(minutes=10)
    page = confirm(visitor, visitor.submit(page, "/remove"))
    assert (page.status, len(public_ids(portal, "alice"))) == (200, 1)
    assert visitor.submit(page, "/remove").location == f"{LIST}?done=removed"


# Of others ------------------------------------------------------------------------------------


def test_mallory_cannot_see_or_remove_a_factor_of_alice(portal: Portal) -> None:
    factors.give_app(portal, "alice")
    [public_id] = public_ids(portal, "alice")
    mallory = portal.visitor("mallory")
    for unknown in (public_id, "0000000000000000", ""):
        assert mallory.get(f"{LIST}/remove", factor=unknown).status == 404
    guard = crawl.token_of(mallory)
    mallory.post(f"{LIST}/remove", guard | {"factor": public_id})
    assert public_ids(portal, "alice") == [public_id]


# An ISP that asks everyone --------------------------------------------------------------------


def test_isp_that_asks_for_a_second_step_leads_everyone_to_set_one_up(portal: Portal) -> None:
    visitor = portal.visitor("alice")
    assert visitor.get(portal.path()).status == 200
    portal.execute(
        "UPDATE isp SET requires_second_factor = :yes, revision = revision + 1", yes=True
    )
    for endpoint, path in crawl.list_gets(portal).items():
        rule = POLICY[endpoint]
        if rule.who.value not in ("customer", "account") or rule.before_second_factor:
            continue
        page = visitor.get(path)
        assert (page.status, page.location) == (303, LIST), endpoint
    assert "A second step is needed" in visitor.get(LIST).text
    add_app(visitor)
    assert visitor.get(portal.path()).status == 200
    again = half_way(portal, "alice")
    assert again.get(portal.path()).location.startswith("/sign-in")


def test_whoever_has_removed_the_last_one_is_asked_when_one_becomes_needed(
    portal: Portal,
) -> None:
    visitor = portal.visitor("alice")
    add_app(visitor)
    remove(visitor, public_ids(portal, "alice")[0])
    portal.execute(
        "UPDATE isp SET requires_second_factor = :yes, revision = revision + 1", yes=True
    )
    assert visitor.get(portal.path()).location == LIST


# Anything ------------------------------------------------------------------------------------


def test_forms_of_second_steps_take_anything(portal: Portal) -> None:
    """Of settings with everything begun, and of a half-finished sign-in."""
    factors.give_app(portal, "alice")
    factors.give_phone(portal, "alice")
    half = half_way(portal, "alice")
    lost = half_way(portal, "alice")
    lost.submit(lost.get("/sign-in/second-step"), "/lost")
    visitor = half_way(portal, "alice")
    give_code(visitor, app_code())
    visitor.submit(visitor.get(f"{LIST}/app"), "/app")
    visitor.submit(visitor.get(f"{LIST}/message"), "/message", contact="+15415550123")
    [own, *_begun] = public_ids(portal, "alice")
    for page in ("/app/check", "/message/check", f"/remove?factor={own}"):
        shown = visitor.get(LIST + page)
        assert (shown.status, shown.response.headers["Cache-Control"]) == (200, "no-store")
    guards = (
        (visitor, crawl.token_of(visitor), OF_FACTORS),
        (half, half.get("/sign-in/second-step").form("/lost")[1], OF_FLOW),
        (lost, lost.get("/sign-in/lost").form("/staff")[1], OF_LOST),
    )
    paths = crawl.addresses(portal)
    for who, guard, endpoints in guards:
        for endpoint in sorted(endpoints):
            for value in ANYTHING:
                names = ("by", "code", "factor", "batch", "credential", "name", "next", "trust")
                answer = who.client.post(
                    paths[endpoint], base_url=BASE, data=guard | dict.fromkeys(names, value)
                )
                assert answer.status_code < 500, (endpoint, value)
    assert own in public_ids(portal, "alice")


OF_FLOW = {name for name, rule in POLICY.items() if rule.flow is FlowKind.SIGN_IN} - {
    "auth.second_step_page", "auth.enrol", "auth.lost_begin",
}  # fmt: skip
OF_LOST = {name for name, rule in POLICY.items() if rule.flow is FlowKind.LOST_FACTORS} - {
    "auth.lost"
}


def test_signing_out_is_always_possible(portal: Portal) -> None:
    portal.execute(
        "UPDATE isp SET requires_second_factor = :yes, revision = revision + 1", yes=True
    )
    visitor = portal.visitor("alice")
    page = visitor.get(LIST)
    assert visitor.submit(page, "/sign-out").location == "/sign-in?done=signed-out"
