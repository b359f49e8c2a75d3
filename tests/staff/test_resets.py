"""Starting a reset, lost factors and two members of staff, and that staff never see a secret."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy.orm import Session

from core import clock, data_access, ids, search_terms
from core.db import db, unit_of_work
from models import FactorReset
from tests import crawl, factors, world
from tests.conftest import Portal
from tests.page import FRAGMENT, Page, Visitor
from tests.staff.test_helping import check_wait, path_of, sent

NOTE = "came by with an identity card"
LIST = "/staff/lost-factors"


def ask_for_help(portal: Portal, name: str = "alice") -> str:
    """Somebody has lost every factor and asked staff; the public id of it."""
    public_id = ids.public_id()

    def work(session: Session) -> None:
        session.add(
            FactorReset(
                public_id=public_id,
                customer_id=portal.world.customers[name],
                state="asked",
                asked_at=clock.now(),
            )
        )

    with portal.app.app_context():
        unit_of_work(work)
    return public_id


def proof(visitor: Visitor, public_id: str, note: str = NOTE) -> Page:
    path = f"{LIST}/{public_id}/proof"
    return visitor.submit(visitor.get(path), "/proof", note=note)


def state(portal: Portal) -> tuple[Any, ...]:
    return portal.rows("SELECT state, how, proofed_by_id, approved_by_id FROM factor_resets")[0]


# Two members ----------------------------------------------------------------------------------


def test_one_member_makes_sure_and_another_approves(portal: Portal) -> None:
    factors.give_app(portal, "alice")
    public_id = ask_for_help(portal)
    sue, ada = portal.visitor("sue"), portal.visitor("ada")
    assert proof(sue, public_id).location == f"{LIST}?done=proofed"
    assert f"Sue made sure: {NOTE}" in ada.get(LIST).text
    assert portal.one("SELECT count(*) FROM factors") == 1
    out = ada.submit(ada.get(LIST), "/approve")
    assert out.location == f"{LIST}?done=approved"
    assert portal.one("SELECT count(*) FROM factors") == 0
    assert state(portal)[2:] == (portal.world.customers["sue"], portal.world.customers["ada"])
    assert "Nobody waits" in ada.get(LIST).text
    alice = portal.visitor("alice")
    assert "All second sign-in steps taken away" in alice.get("/activity").text


def test_the_same_member_cannot_approve(portal: Portal) -> None:
    factors.give_app(portal, "alice")
    public_id = ask_for_help(portal)
    sue = portal.visitor("sue")
    proof(sue, public_id)
    page = sue.get(LIST)
    assert "Another member has to approve" in page.text
    assert not page.select("form[action$='/approve']")
    forced = sue.post(f"{LIST}/{public_id}/approve", crawl.token_of(sue))
    assert forced.status == 409
    assert portal.one("SELECT count(*) FROM factors") == 1


def test_nobody_approves_what_nobody_made_sure_of(portal: Portal) -> None:
    public_id = ask_for_help(portal)
    ada = portal.visitor("ada")
    assert ada.post(f"{LIST}/{public_id}/approve", crawl.token_of(ada)).status == 409
    assert state(portal)[0] == "asked"


def test_member_cannot_help_themselves(portal: Portal) -> None:
    public_id = ask_for_help(portal, "sue")
    sue = portal.visitor("sue")
    assert proof(sue, public_id).status == 409
    assert state(portal)[0] == "asked"


def test_refused_takes_nothing_away(portal: Portal) -> None:
    factors.give_app(portal, "alice")
    ask_for_help(portal)
    sue = portal.visitor("sue")
    assert sue.submit(sue.get(LIST), "/refuse").location == f"{LIST}?done=refused"
    assert state(portal)[0] == "refused"
    assert portal.one("SELECT count(*) FROM factors") == 1


def test_note_is_asked_for_and_kept_as_typed(portal: Portal) -> None:
    public_id = ask_for_help(portal)
    page = proof(portal.visitor("sue"), public_id, "card")
    assert page.status == 422
    assert "10 to 300" in page.text
    assert page.select("textarea")[0].text_content().strip() == "card"


@pytest.mark.parametrize("action", ["proof", "approve", "refuse"])
def test_deciding_asks_for_the_password_again(portal: Portal, tick: Any, action: str) -> None:
    public_id = ask_for_help(portal)
    sue = portal.visitor("sue")
    guard = crawl.token_of(sue)
    tick(minutes=11)
    answer = sue.post(f"{LIST}/{public_id}/{action}", guard | {"note": NOTE})
    assert answer.location.startswith("/confirm?next=")
    assert state(portal)[0] == "asked"


def test_every_look_is_noted_also_at_whoever_has_no_account(portal: Portal, tick: Any) -> None:
    """Once in an hour for each reader (bars 76 and 78)."""
    world = portal.world
    ask_for_help(portal)
    public_id = ask_for_help(portal, "sue")
    ada = portal.visitor("ada")
    portal.execute("DELETE FROM data_accesses")

    def noted() -> list[tuple[Any, ...]]:
        return portal.rows(
            "SELECT account_id, customer_id, reader_id, purpose FROM data_accesses ORDER BY id"
        )

    who = world.customers["ada"]
    sue = (None, world.customers["sue"], who, "lost factors")
    alice = (world.accounts["alice"], None, who, "lost factors")
    for _ in range(2):
        ada.get(f"{LIST}/{public_id}/proof")
        assert noted() == [sue]
    for _ in range(2):
        ada.get(LIST)
        assert noted() == [sue, alice]
    portal.visitor("sue").get(LIST)
    assert [row[:2] for row in noted()[2:]] == [alice[:2], sue[:2]]
    tick(minutes=61)
    portal.visitor("ada").get(LIST)
    assert noted()[4:] == [alice, sue]
    with portal.app.app_context():
        listed = data_access.list_noted(db.session(), clock.now() - timedelta(days=1), clock.now())
    public_id = portal.one(f"SELECT public_id FROM customers WHERE id = {world.customers['sue']}")
    assert [each.reader for each in listed if each.customer_public_id == public_id]


# Starting a reset -----------------------------------------------------------------------------


def start(portal: Portal, visitor: Visitor) -> Page:
    return visitor.submit(visitor.get(path_of(portal, "/people/alicecustomer")), "/reset")


def test_reset_sends_a_link_that_staff_never_see(portal: Portal) -> None:
    sue = portal.visitor("sue")
    out = start(portal, sue)
    assert out.location == path_of(portal, "/people/alicecustomer?done=reset")
    page = sue.get(out.location)
    assert "on its way" in page.text
    [message] = [each for each in sent(portal, "recover_link") if "/recover" in each.text]
    assert message.recipient == "alice@example.net"
    [link] = re.findall(r"(/recover/\S+)", message.text)
    token = link.rsplit("/", 1)[1]
    assert token not in page.response.text
    assert token not in out.location
    assert portal.visitor().get(link).status == 200
    assert "New password asked for" in portal.visitor("alice").get("/activity").text


def test_reset_pressed_twice_sends_one_link(portal: Portal) -> None:
    sue = portal.visitor("sue")
    page = sue.get(path_of(portal, "/people/alicecustomer"))
    first, again = (sue.submit(page, "/reset") for _ in range(2))
    assert first.location == again.location
    assert portal.one("SELECT count(*) FROM messages WHERE kind = 'recover_link'") == 1


def test_reset_without_a_contact_says_what_else_to_do(portal: Portal) -> None:
    portal.execute("DELETE FROM contacts WHERE kind = 'email' AND account_id IS NOT NULL")
    page = start(portal, portal.visitor("sue"))
    assert page.status == 422
    assert "No contact on file may have a link" in page.text


def test_resets_are_limited(portal: Portal) -> None:
    sue = portal.visitor("sue")
    for _ in range(5):
        assert start(portal, sue).status == 303
    check_wait(portal, start(portal, sue))


# Nothing secret (bar 23) ----------------------------------------------------------------------

SECRETS = (
    "SELECT password_hash FROM customers WHERE password_hash <> ''",
    "SELECT secret FROM factors WHERE secret IS NOT NULL",
    "SELECT code_hash FROM one_time_codes",
    "SELECT code_hash FROM recovery_codes",
    "SELECT token_hash FROM sessions",
    "SELECT token_hash FROM one_time_links",
)


@pytest.mark.parametrize("name", world.STAFF)
def test_no_page_of_staff_shows_a_secret_or_lets_one_be_chosen(portal: Portal, name: str) -> None:
    crawl.prepare(portal)
    factors.give_app(portal, "alice")
    portal.visitor("alice")
    visitor = portal.visitor(name)
    if name in ("sue", "ada"):
        start(portal, visitor)
    with portal.app.app_context():
        unit_of_work(
            lambda session: search_terms.refresh(session, list(portal.world.accounts.values()))
        )
    secrets = [factors.SEED, factors.app_code(), world.PASSWORD]
    for query in SECRETS:
        for (value,) in portal.rows(query):
            raw = value if isinstance(value, bytes | memoryview) else str(value).encode()
            secrets += [bytes(raw).hex(), bytes(raw).decode("latin-1")]
    paths = [path for path in crawl.list_gets(portal).values() if path.startswith("/staff/")]
    count = 0
    for path in [*paths, "/staff/?q=alice"]:
        for headers in (None, FRAGMENT):
            page = visitor.get(path, headers=headers)
            text = page.response.text
            assert not [each for each in secrets if each in text], path
            if "/join/" not in path and page.tree is not None:
                assert not page.select("input[type=password]"), path
            count += page.status == 200
    assert count > 4


def test_viewer_who_looks_as_the_customer_sees_no_secret(portal: Portal) -> None:
    """Pages that show a code or a key ask for the password first, which a viewer cannot give."""
    crawl.prepare(portal)
    factors.give_app(portal, "alice")
    visitor = portal.visitor("sue")
    path = path_of(portal, "/people/alicecustomer/view")
    assert visitor.submit(visitor.get(path), "/view", reason="a call").status == 303
    shown = re.compile(r"[A-Z2-7]{4}( [A-Z2-7]{4}){5,}|\b[0-9A-Z]{4}(-[0-9A-Z]{4}){3,}")
    for endpoint, address in crawl.list_gets(portal).items():
        if endpoint.startswith(("settings.", "auth.", "activity.", "dashboard.", "billing.")):
            page = visitor.get(address)
            assert page.status < 500
            assert factors.SEED not in page.source
            assert not shown.search(page.text), address
            assert not page.select("img[src^='data:'], svg.qr") if page.tree is not None else True


# Signing in -----------------------------------------------------------------------------------


def test_staff_come_in_by_password_and_app_and_see_the_pages(portal: Portal) -> None:
    factors.give_app(portal, "ada")
    visitor = factors.half_way(portal, "ada")
    assert visitor.get("/staff/").status == 303  # the half-finished sign-in reaches nothing
    page = factors.give_code(visitor, factors.app_code())
    assert (page.status, page.location) == (303, "/staff/")
    assert visitor.get("/staff/").status == 200
    assert visitor.get("/staff/members").status == 200


def test_new_member_sets_the_app_up_and_only_then_comes_in(portal: Portal) -> None:
    """From the link to the first page (bars 11 and 12)."""
    run = portal.app.test_cli_runner().invoke
    arguments = ["staff", "add", "Kim", "kim@pinecrest.example", "--role", "support"]
    link = re.sub(r"^https?://[^/]+", "", run(args=arguments).stdout.strip())
    visitor = portal.visitor()
    typed = {"sign_in_id": "kim.novak", "password": "saddle-orchid-comet-88"}
    assert visitor.submit(visitor.get(link), link, **typed).status == 303
    entered = visitor.sign_in("kim.novak", typed["password"])
    assert entered.status == 303
    assert visitor.get("/staff/").location.startswith("/sign-in")
    while (page := visitor.get(entered.location)).status == 303:
        entered = page
    asked = visitor.submit(page, "/app")
    page = visitor.get(asked.location)
    [key] = re.findall(r"(?:[A-Z2-7]{4} ){7}[A-Z2-7]{4}", page.text)
    assert portal.one("SELECT count(*) FROM sessions") == 0
    assert portal.one("SELECT count(*) FROM factors WHERE confirmed_at IS NOT NULL") == 0
    code = factors.app_code(key.replace(" ", ""))
    out = visitor.submit(page, "/second-step/new", code=code)
    assert (out.status, out.location) == (303, "/staff/")
    assert visitor.get("/staff/").status == 200
