"""What is remembered in front of the application answers as the application would, and only what
is still true, and only to whom it belongs (core/front.py, core/remembered.py; bars 29-31, 41)."""

from __future__ import annotations

import secrets
from dataclasses import replace
from typing import Any

import brotli
import flask
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import update
from sqlalchemy.orm import Session
from werkzeug.test import EnvironBuilder, TestResponse

from core import clock, form_keys, maintenance
from core.db import unit_of_work
from core.front import ENDPOINT
from core.isp import MaintenanceWindow
from core.policy import POLICY
from core.remembered import Memory, Parts, Remembered, compress_around, split_around
from models import Account, Customer, Isp, Membership
from tests import crawl
from tests.conftest import Portal, Queries
from tests.page import BASE, FRAGMENT, Visitor

KEPT = sorted(
    name for name, rule in POLICY.items() if rule.is_kept and not name.startswith("support.")
)
BROTLI = {"Accept-Encoding": "br"}
TOKEN = 'name="csrf_token" value="'
KEY = 'name="form_key" value="'


_seen_by_flask: list[object] = []
flask.request_started.connect(lambda sender, **_more: _seen_by_flask.append(sender), weak=False)


def ask(visitor: Visitor, path: str, method: str = "GET", **more: Any) -> TestResponse:
    """Ask, and note whether Flask saw the request."""
    count = len(_seen_by_flask)
    response = crawl.send(visitor, method, path, **more)
    response.is_remembered = len(_seen_by_flask) == count  # type: ignore[attr-defined]
    return response


def text(response: TestResponse) -> str:
    data: bytes = response.data
    return str(brotli.decompress(data) if "Content-Encoding" in response.headers else data, "utf-8")


def is_remembered(response: TestResponse) -> bool:
    return bool(response.is_remembered)  # type: ignore[attr-defined]


def told(response: TestResponse) -> dict[str, object]:
    """The headers; the order of those in Vary says nothing."""
    headers: dict[str, object] = dict(response.headers)
    return headers | {"Vary": {part.strip() for part in response.headers["Vary"].split(",")}}


def values(page: str) -> set[str]:
    """The tokens and keys that stand in a page."""
    return {
        part.split('"')[0]
        for sign in (TOKEN, KEY)
        for part in page.split(sign)[1:]
    }  # fmt: skip


def without_values(page: str) -> str:
    for value in values(page):
        page = page.replace(value, "")
    return page


# The same answer ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["alice", "bob", "vera"])
@pytest.mark.parametrize("own_device", ["y", ""])
@pytest.mark.parametrize("endpoint", KEPT)
def test_remembered_answer_is_the_applications_but_for_token_and_key(
    portal: Portal, endpoint: str, own_device: str, name: str
) -> None:
    crawl.prepare(portal)
    visitor = portal.visitor(name, **({"own_device": own_device} if own_device else {}))
    path = crawl.addresses(portal)[endpoint]
    for asked in ({}, BROTLI, FRAGMENT, BROTLI | FRAGMENT):
        first, again = (ask(visitor, path, headers=asked) for _ in range(2))
        if first.status_code == 403:
            assert again.status_code == 403
            continue
        assert (is_remembered(first), is_remembered(again)) == (False, True)
        assert again.status_code == first.status_code == 200
        assert told(again) == told(first)
        assert without_values(text(again)) == without_values(text(first))
        assert not values(text(again)) & values(text(first))
        assert len(values(text(again))) == len(values(text(first)))
        if own_device:
            held = asked | {"If-None-Match": first.headers["ETag"]}
            kept = ask(visitor, path, headers=held)
            assert is_remembered(kept)
            assert (kept.status_code, kept.data) == (304, b"")
            by_head = ask(visitor, path, "HEAD", headers=held)
            assert not is_remembered(by_head)
            assert told(kept) == told(by_head)


@pytest.mark.parametrize("path", ["/sign-in", "/help"])
@pytest.mark.parametrize("encoding", ["br", "gzip", ""])
def test_constant_page_is_the_applications(portal: Portal, path: str, encoding: str) -> None:
    visitor = portal.visitor()
    asked = {"Accept-Encoding": encoding, "Accept-Language": "es"}
    first, again = (ask(visitor, path, headers=asked) for _ in range(2))
    assert (is_remembered(first), is_remembered(again)) == (False, True)
    assert again.data == first.data
    assert told(again) == told(first) or path == "/help"
    english = ask(visitor, path, headers=asked | {"Accept-Language": "en"})
    assert english.data != first.data


def test_help_that_is_remembered_can_be_asked_about_again(portal: Portal) -> None:
    first, again = (ask(portal.visitor(), "/help") for _ in range(2))
    assert is_remembered(again)
    assert again.headers["ETag"] == first.headers["ETag"]


@pytest.mark.parametrize("cookie", ["session=\xff", "x=\xe9; session=abc"])
def test_cookie_of_any_bytes_is_nobodys(portal: Portal, cookie: str) -> None:
    for path, status in (("/sign-in", "200 OK"), (portal.path(), "303 SEE OTHER")):
        environ = EnvironBuilder(path, BASE).get_environ() | {"HTTP_COOKIE": cookie}
        said: list[Any] = []
        b"".join(portal.app.wsgi_app(environ, lambda *answer, into=said: into.append(answer)))
        assert said[0][0] == status


def test_nothing_that_anybody_makes_up_fills_the_memory(portal: Portal) -> None:
    alice = portal.visitor("alice")
    ask(alice, portal.path())
    assert is_remembered(ask(alice, portal.path(), headers={"Host": "127.0.0.1:1"}))
    assert not any(is_remembered(ask(alice, portal.path("?" + "x" * 201))) for _ in range(2))


def test_remembered_answer_is_noted_under_its_route(portal: Portal) -> None:
    alice = portal.visitor("alice")
    ask(alice, portal.path())
    environ = EnvironBuilder(portal.path(), BASE).get_environ()
    environ["HTTP_COOKIE"] = f"session={alice.cookies()['session']}"
    assert b"".join(portal.app.wsgi_app(environ, lambda *_answer: lambda _data: None))
    assert environ[ENDPOINT] == "dashboard.home"


def test_remembered_page_costs_the_sessions_query_alone(portal: Portal) -> None:
    alice = portal.visitor("alice")
    ask(alice, portal.path(), headers=BROTLI)
    with Queries(portal.app) as queries:
        assert is_remembered(ask(alice, portal.path(), headers=BROTLI))
    assert queries.count == 1


def test_page_that_is_not_remembered_asks_who_is_signed_in_once(portal: Portal) -> None:
    alice = portal.visitor("alice")
    with Queries(portal.app) as queries:
        assert not is_remembered(ask(alice, portal.path()))
    assert len([each for each in queries.statements if "FROM sessions" in each]) == 1


def test_form_of_a_remembered_page_pays_once(portal: Portal) -> None:
    alice = portal.visitor("alice")
    for _ in range(2):
        ask(alice, portal.path())
    page = alice.get(portal.path())
    first = alice.submit(page, "/pay")
    assert first.status == 303
    assert alice.submit(page, "/pay").response.headers["Location"]
    assert portal.one("SELECT count(*) FROM payments WHERE state = 'sent'") == 1
    assert not is_remembered(ask(alice, portal.path()))


# Only what is true ----------------------------------------------------------------------------


def change_account(portal: Portal) -> None:
    _write(portal, update(Account).values(revision=Account.revision + 1))


def change_customer(portal: Portal) -> None:
    _write(portal, update(Customer).values(revision=Customer.revision + 1))


def change_isp(portal: Portal) -> None:
    _write(portal, update(Isp).values(revision=Isp.revision + 1))


def change_role(portal: Portal) -> None:
    _write(portal, update(Membership).where(Membership.role == "owner").values(role="viewer"))


def _write(portal: Portal, statement: Any) -> None:
    with portal.app.app_context():
        unit_of_work(lambda session: session.execute(statement))


@pytest.mark.parametrize("change", [change_account, change_customer, change_isp, change_role])
def test_change_of_any_revision_makes_the_page_anew(portal: Portal, change: Any) -> None:
    alice = portal.visitor("alice")
    ask(alice, portal.path())
    assert is_remembered(ask(alice, portal.path()))
    change(portal)
    assert not is_remembered(ask(alice, portal.path()))
    assert is_remembered(ask(alice, portal.path()))


def test_new_day_makes_the_page_anew(portal: Portal, tick: Any) -> None:
    alice = portal.visitor("alice", own_device="y")
    ask(alice, portal.path())
    tick(hours=24)
    ask(alice, portal.path())  # writes the last use
    tick(minutes=1)
    ask(alice, portal.path())
    assert is_remembered(ask(alice, portal.path()))
    tick(hours=23, minutes=59)
    assert not is_remembered(ask(alice, portal.path()))


def test_language_device_encoding_host_and_query_are_told_apart(portal: Portal) -> None:
    alice, own = portal.visitor("alice"), portal.visitor("alice", own_device="y")
    path = portal.path("billing/invoices/")
    ask(alice, path)
    assert is_remembered(ask(alice, path))
    _write(portal, update(Customer).values(language=""))
    ask(alice, path, headers={"Accept-Language": "fr"})
    ask(alice, path)
    for changed in (
        {"Accept-Language": "es"},
        {"Accept-Encoding": "br"},
        {"HX-Request": "true", "HX-Request-Type": "partial"},
    ):
        assert not is_remembered(ask(alice, path, headers=changed)), changed
        assert is_remembered(ask(alice, path, headers=changed)), changed
    assert not is_remembered(ask(alice, path + "?state=paid"))
    assert not is_remembered(ask(own, path))
    foreign = alice.client.get(path, base_url=BASE, headers={"Host": "evil.example"})
    assert foreign.status_code == 400


def test_body_with_a_get_and_other_methods_go_to_the_application(portal: Portal) -> None:
    alice = portal.visitor("alice")
    for path in (portal.path(), "/sign-in"):
        for _ in range(2):
            ask(alice if path != "/sign-in" else portal.visitor(), path)
    assert not is_remembered(ask(alice, portal.path(), "HEAD"))
    assert not is_remembered(ask(alice, portal.path(), data=b"body"))
    assert not is_remembered(ask(alice, "/sign-in"))  # with a session: in its own language


def test_last_use_is_still_written(portal: Portal, tick: Any) -> None:
    alice = portal.visitor("alice")
    ask(alice, portal.path())
    assert is_remembered(ask(alice, portal.path()))
    before = portal.rows("SELECT last_used_at FROM sessions")
    tick(minutes=6)
    assert not is_remembered(ask(alice, portal.path()))
    assert portal.rows("SELECT last_used_at FROM sessions") != before


def test_maintenance_closes_what_is_remembered(portal: Portal) -> None:
    alice, stranger = portal.visitor("alice"), portal.visitor()
    pages = ((alice, portal.path()), (stranger, "/sign-in"))
    for visitor, path in pages * 2:
        ask(visitor, path)
    now = clock.now()
    window = MaintenanceWindow(True, now, now.replace(hour=23, minute=59), (("", "Soon."),))
    with portal.app.app_context():
        maintenance.set_window(window, portal.settings.data)
    assert [ask(*page).status_code for page in pages] == [503, 503]
    with portal.app.app_context():
        maintenance.clear_window(portal.settings.data)
    assert [ask(*page).status_code for page in pages] == [200, 200]


def test_nothing_is_remembered_when_that_is_asked_for(portal: Portal) -> None:
    with crawl.another_app(portal, remembered_pages=0) as app:
        visitor = Visitor(app)
        assert visitor.sign_in("alice").status == 303
        for path in (portal.path(), "/sign-in"):
            assert not any(is_remembered(ask(visitor, path)) for _ in range(3))


# Only to whom it belongs ----------------------------------------------------------------------


def test_nobody_gets_what_another_may_see(portal: Portal) -> None:
    """Everyone asks for every page of alice's after she did, by every way of asking."""
    crawl.prepare(portal)
    alice = portal.visitor("alice")
    paths = [crawl.addresses(portal)[endpoint] for endpoint in KEPT]
    for path in paths * 2:
        for asked in ({}, BROTLI, FRAGMENT):
            ask(alice, path, headers=asked)
    assert all(is_remembered(ask(alice, path)) for path in paths)
    mallory, theo, nobody = portal.visitor("mallory"), portal.visitor("theo"), portal.visitor()
    for path in paths:
        for asked in ({}, BROTLI, FRAGMENT, {"Cookie": "session=" + secrets.token_urlsafe(32)}):
            assert ask(mallory, path, headers=asked).status_code in (404, 303, 401)
            assert crawl.decision(ask(nobody, path, headers=asked)) == "sign in"
        if path != portal.path():
            assert ask(theo, path).status_code == 403
    assert "amount" not in text(ask(theo, portal.path()))


@pytest.mark.parametrize("ends", ["sign out", "idle", "disabled", "password changed"])
def test_session_that_has_ended_gets_nothing(portal: Portal, tick: Any, ends: str) -> None:
    alice = portal.visitor("alice")
    for _ in range(2):
        page = alice.get(portal.path())
    assert is_remembered(ask(alice, portal.path()))
    if ends == "sign out":
        held = alice.cookies()["session"]
        assert alice.submit(page, "/sign-out").status == 303
        alice.client.set_cookie("session", held, domain="127.0.0.1")
    elif ends == "idle":
        tick(minutes=61)
    elif ends == "disabled":
        _write(portal, update(Customer).values(is_disabled=True))
    else:
        _write(portal, update(Customer).values(session_generation=Customer.session_generation + 1))
    answer = ask(alice, portal.path())
    assert (is_remembered(answer), crawl.decision(answer)) == (False, "sign in")


def test_membership_that_was_taken_away_is_gone_at_once(portal: Portal) -> None:
    alice = portal.visitor("alice")
    ask(alice, portal.path())
    assert is_remembered(ask(alice, portal.path()))

    def take_away(session: Session) -> None:
        session.query(Membership).filter_by(customer_id=portal.world.customers["alice"]).delete()

    with portal.app.app_context():
        unit_of_work(take_away)
    assert ask(alice, portal.path()).status_code == 404


# Compressed around ----------------------------------------------------------------------------


def fresh() -> dict[str, bytes]:
    return {
        "csrf_token": secrets.token_urlsafe(32).encode(),
        "form_key": form_keys.mint(b"k" * 64, "customer:1").encode(),
    }


@given(
    pieces=st.lists(st.text(max_size=400), min_size=2, max_size=6),
    order=st.lists(st.sampled_from(["csrf_token", "form_key"]), max_size=5),
)
def test_any_page_expands_to_itself_with_any_values(pieces: list[str], order: list[str]) -> None:
    made = fresh()
    page = pieces[0].encode()
    for name, piece in zip(order, pieces[1:] * 5, strict=False):
        page += b'<input value="' + made[name] + b'">' + piece.encode()
    for _ in range(3):
        other = fresh()
        wanted = page
        for name in made:
            wanted = wanted.replace(made[name], other[name])
        assert split_around(page, made).filled(other) == wanted
        parts = compress_around(page, made)
        if parts is not None:
            assert brotli.decompress(parts.filled(other)) == wanted


def test_real_pages_can_be_compressed_around_their_values(portal: Portal) -> None:
    crawl.prepare(portal)
    alice = portal.visitor("alice")
    for endpoint in KEPT:
        path = crawl.addresses(portal)[endpoint]
        ask(alice, path, headers=BROTLI)
        assert is_remembered(ask(alice, path, headers=BROTLI)), endpoint


def test_two_compressed_pages_differ_in_their_values_alone(portal: Portal) -> None:
    """So that nothing about the token can be told from the length of an answer (BREACH)."""
    alice = portal.visitor("alice")
    lengths = {len(ask(alice, portal.path(), headers=BROTLI).data) for _ in range(20)}
    assert len(lengths) == 1


def test_values_that_cannot_be_exchanged_are_not_tried() -> None:
    assert compress_around(b'<input value="short"> and more', {"csrf_token": b"short"}) is None


def test_memory_holds_the_pages_used_last() -> None:
    memory = Memory(2, 10**6)
    page = Remembered("home", (), Parts((b"",)))
    for key in ("a", "b"):
        memory.keep(key, page)
    assert memory.find("a") is page
    memory.keep("c", replace(page))
    assert [memory.find(key) is not None for key in ("a", "b", "c")] == [True, False, True]


def test_memory_is_bounded_by_what_its_pages_take() -> None:
    def page(size: int) -> Remembered:
        return Remembered("home", (), Parts((bytes(size),)))

    memory = Memory(1000, 3 * page(5000).size_bytes)
    for number in range(10):
        memory.keep(number, page(5000))
        memory.keep(number, page(5000))  # the same again takes no more
    assert [number for number in range(10) if memory.find(number)] == [7, 8, 9]
    memory.keep("large", page(12_000))
    assert [key for key in (7, 8, 9, "large") if memory.find(key)] == [9, "large"]
    memory.keep("too large", page(10**6))
    assert memory.find("too large") is None
    memory.forget()
    memory.keep("small", page(10))
    assert memory.find("small")
