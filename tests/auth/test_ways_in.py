"""What registering, recovering a password and finding an ID have in common (bars 6, 7, 13, 15, 16,
18, 22, 39)."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from blueprints.auth import finding_id, recovering, registering
from core.policy import POLICY, SAFE_METHODS, Proof, Who
from models import FlowKind
from tests import crawl
from tests.auth.mail import sent
from tests.auth.test_registering import PHONE, add_contact
from tests.conftest import Portal, Queries, answered, together
from tests.page import BASE, FRAGMENT, Page, Visitor

Tick = Callable[..., None]
PATHS = {
    "/register": registering.PATHS,
    "/recover": recovering.PATHS,
    "/forgot-id": finding_id.PATHS,
}
KIND = {
    "/register": FlowKind.REGISTER,
    "/recover": FlowKind.RECOVER,
    "/forgot-id": FlowKind.FIND_ID,
}
CODES = ("register_code", "recover_code")
ways_in = pytest.mark.parametrize("first", list(PATHS))


@pytest.fixture(autouse=True)
def people(portal: Portal) -> None:
    """3003 has no owner; 4004 is closed, 5005 has no contact, and both have no owner. All others
    have a phone too."""
    portal.execute("DELETE FROM messages")
    who = portal.world.customers["rich"]
    portal.execute("DELETE FROM memberships WHERE customer_id = :who", who=who)
    portal.execute("DELETE FROM customers WHERE id = :who", who=who)
    for number, name, status in ((4004, "closed", "closed"), (5005, "silent", "active")):
        portal.execute(
            "INSERT INTO accounts (public_id, number, name, status, language, bill_day, opened_on,"
            " currency, balance_minor, revision) VALUES"
            " (:name, :number, :name, :status, 'en', 1, '2025-01-01', 'USD', 0, 1)",
            name=name, number=str(number), status=status,
        )  # fmt: skip
        portal.world.accounts[name] = portal.one(
            "SELECT id FROM accounts WHERE number = :number", number=str(number)
        )
    add_contact(portal, "closed", "email", "closed@example.net")
    for last, name in enumerate(("alice", "mallory", "rich", "closed")):
        add_contact(portal, name, "phone", PHONE[:-1] + str(last))


@pytest.fixture(autouse=True)
def forget_people(portal: Portal) -> Iterator[None]:
    yield
    for name in ("closed", "silent"):
        portal.world.accounts.pop(name, None)


def begin(visitor: Visitor, first: str, who: str) -> Page:
    page = visitor.submit(visitor.get(first), first, who=who)
    assert (page.status, page.location) == (303, f"{first}/way"), page.text
    return visitor.get(page.location)


def choose(visitor: Visitor, page: Page, way: str) -> Page:
    page = visitor.submit(page, "/way", way=way)
    assert page.status == 303, page.text
    return visitor.get(page.location)


def code_of(portal: Portal) -> str:
    return sent(portal, *CODES)[-1].code


# Nobody tells who is a customer ------------------------------------------------------------------

NAMES = {
    "known by number": "3003",
    "known by e-mail": "rich@example.net",
    "known by phone": PHONE[:-1] + "2",
    "registered": "1001",
    "registered by e-mail": "alice@example.net",
    "closed": "4004",
    "closed by phone": PHONE[:-1] + "3",
    "without a contact": "5005",
    "disabled": "2002",
    "unknown number": "9009",
    "unknown e-mail": "nobody@example.net",
    "unknown phone": "+15414166119",
    "an ID": "alice",
    "nonsense": "%$§ nothing at all",
}


def bare(page: Page) -> tuple[Any, ...]:
    """Status, headers and body without what is random in every answer."""
    headers = sorted(
        (name, re.sub(r"(flow-[a-z-]+|Expires)=[^;]+", r"\1=…", value))
        for name, value in page.response.headers.items()
        if name != "Content-Length"
    )
    body = re.sub(rb'(name="(?:csrf_token|form_key)" value=")[^"]*', rb"\1", page.response.data)
    return page.status, headers, body, len(page.response.data)


def walk(portal: Portal, first: str, who: str, way: str) -> list[tuple[Any, ...]]:
    """Every answer on the way to a wrong code and on to the limit of sending."""
    visitor = portal.visitor()
    pages = [visitor.get(first)]
    pages.append(visitor.submit(pages[-1], first, who=who))
    pages.append(visitor.get(f"{first}/way"))
    asking = pages[-1]
    pages.append(visitor.submit(asking, "/way", way=way))
    pages.append(visitor.get(pages[-1].location))
    code = pages[-1]
    if code.select("input[name=code]"):
        wrong = "000000" if code_is_not(portal, "000000") else "111111"
        pages += [visitor.submit(code, "/code", code=wrong) for _ in range(6)]
    for _ in range(5):
        again = visitor.get(f"{first}/way")
        pages.append(visitor.submit(again, "/way", way=way))
    pages.append(visitor.submit(visitor.get(first), first, who=who))
    return [bare(page) for page in pages]


def code_is_not(portal: Portal, typed: str) -> bool:
    return all(message.code != typed for message in sent(portal, *CODES))


@ways_in
@pytest.mark.parametrize("way", ["email", "text", "post"])
def test_pages_are_the_same_whoever_is_meant(
    portal: Portal, first: str, way: str, tick: Tick
) -> None:
    """Status, headers, cookies and every byte, as far as the limits and beyond."""
    if way == "post" and first != "/register":
        return
    portal.execute("UPDATE customers SET is_disabled = true WHERE sign_in_id = 'mallory'")
    walks = {}
    for what, who in NAMES.items():
        walks[what] = walk(portal, first, who, way)
        tick(minutes=30)
    known = walks["known by number"]
    assert known[1][0] == 303
    assert 429 in {answer[0] for answer in known}
    for what, found in walks.items():
        for number, (answer, wanted) in enumerate(zip(found, known, strict=True)):
            assert answer == wanted, (what, number)


@ways_in
def test_what_is_sent_is_what_differs(portal: Portal, first: str, tick: Tick) -> None:
    portal.execute("UPDATE customers SET is_disabled = true WHERE sign_in_id = 'mallory'")
    found = {}
    for what, who in NAMES.items():
        before = len(sent(portal))
        choose(visitor := portal.visitor(), begin(visitor, first, who), "email")
        found[what] = [message.kind for message in sent(portal)[before:]]
        tick(minutes=30)
    kinds = {
        "/register": ("register_code", "already_registered", "account_closed"),
        "/recover": ("not_registered", "recover_link", "not_registered"),
        "/forgot-id": ("not_registered", "your_id", "not_registered"),
    }[first]
    fresh, registered, closed = ([kind] for kind in kinds)
    assert found == {
        "known by number": fresh,
        "known by e-mail": fresh,
        "known by phone": fresh,
        "registered": registered,
        "registered by e-mail": registered,
        "closed": closed,
        "closed by phone": closed,
        "without a contact": [],
        "disabled": registered if first == "/register" else [],
        "unknown number": [],
        "unknown e-mail": [],
        "unknown phone": [],
        "an ID": registered if first == "/recover" else [],
        "nonsense": [],
    }


@ways_in
def test_nobody_costs_about_the_same_work(portal: Portal, first: str, queries: Queries) -> None:
    """The first answer, which is where somebody would ask about many."""
    counts = []
    for who in ("3003", "9009", "1001", "4004"):
        visitor = portal.visitor()
        page = visitor.get(first)
        with queries:
            queries.statements.clear()
            visitor.submit(page, first, who=who)
            counts.append(queries.count)
    assert len(set(counts)) == 1


def test_code_that_was_guessed_for_nobody_opens_nothing(
    portal: Portal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("core.codes.secrets.randbelow", lambda _below: 123456)
    for first, way in (("/register", "email"), ("/recover", "text")):
        for who in ("9009", "5005", "4004"):
            visitor = portal.visitor()
            page = choose(visitor, begin(visitor, first, who), way)
            page = visitor.submit(page, "/code", code="123456")
            assert (page.status, "not right" in page.text) == (422, True), (first, who)


# Guessing ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("first", "who", "way"), [("/register", "3003", "email"), ("/recover", "alice", "text")]
)
def test_of_fifty_guesses_at_once_five_are_looked_at(
    portal: Portal, first: str, who: str, way: str
) -> None:
    visitor = portal.visitor()
    page = choose(visitor, begin(visitor, first, who), way)
    action, values = page.form("/code")
    right = int(code_of(portal))
    cookies = visitor.cookies()

    def guess(number: int) -> int:
        other = Visitor(portal.app)
        for name, value in cookies.items():
            other.client.set_cookie(name, value, domain="127.0.0.1")
        code = f"{(right + 1 + number) % 10**6:06}"
        return answered(lambda: other.post(action, values | {"code": code}).status)

    statuses = together(50, guess)
    assert sorted(map(str, statuses)) == ["422"] * 5 + ["429"] * 45
    page = visitor.submit(page, "/code", code=f"{right:06}")
    assert page.status == 429
    assert page.response.headers["Retry-After"] == "300"


def test_new_code_resets_no_count(portal: Portal, tick: Tick) -> None:
    visitor = portal.visitor()
    begin(visitor, "/register", "3003")
    for _ in range(5):
        page = choose(visitor, visitor.get("/register/way"), "email")
        wrong = f"{(int(code_of(portal)) + 1) % 10**6:06}"
        assert visitor.submit(page, "/code", code=wrong).status == 422
    tick(minutes=1)
    assert visitor.submit(page, "/code", code=code_of(portal)).status == 429
    tick(minutes=5)
    assert visitor.submit(page, "/code", code=code_of(portal)).status == 303


def test_guesses_by_number_and_by_e_mail_count_for_one_account(portal: Portal, tick: Tick) -> None:
    """Each name has its limit; beneath it the account has one, and nothing tells that it is met."""
    others = {}
    for who in ("3003", "rich@example.net"):
        visitor = portal.visitor()
        page = choose(visitor, begin(visitor, "/register", who), "email")
        others[who] = (visitor, page, code_of(portal))
    visitor, page, code = others["3003"]
    wrong = f"{(int(code) + 1) % 10**6:06}"
    for _ in range(5):
        assert visitor.submit(page, "/code", code=wrong).status == 422
    visitor, page, code = others["rich@example.net"]
    assert visitor.submit(page, "/code", code=code).status == 422  # right, and not looked at
    tick(minutes=5, seconds=1)
    assert visitor.submit(page, "/code", code=code).status == 303


@ways_in
def test_one_account_gets_so_many_messages_and_no_more(
    portal: Portal, first: str, tick: Tick
) -> None:
    who = "3003" if first == "/register" else "1001"
    names = [who, "rich@example.net" if first == "/register" else "alice@example.net"]
    for name in names:
        visitor = portal.visitor()
        page = begin(visitor, first, name)
        for _ in range(4):
            page = visitor.submit(page, "/way", way="email")
            assert page.status == 303
            page = visitor.get(f"{first}/way")
    assert len(sent(portal)) == 5
    tick(minutes=61)
    choose(visitor, visitor.get(f"{first}/way"), "email")
    assert len(sent(portal)) == 6


@ways_in
def test_starting_is_limited_by_what_is_typed_and_by_network(
    portal: Portal, first: str, tick: Tick
) -> None:
    statuses = []
    for _ in range(6):
        visitor = portal.visitor()
        statuses.append(visitor.submit(visitor.get(first), first, who="9009").status)
    assert statuses == [303] * 5 + [429]
    tick(minutes=6)
    statuses = []
    for number in range(11):
        visitor = portal.visitor()
        statuses.append(visitor.submit(visitor.get(first), first, who=f"80{number:02}").status)
    assert statuses == [303] * 10 + [429]


# Codes -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("way", "minutes"), [("email", 24 * 60), ("text", 10)], ids=["email", "text"]
)
def test_code_is_valid_as_long_as_promised(
    portal: Portal, way: str, minutes: int, tick: Tick
) -> None:
    visitor = portal.visitor()
    page = choose(visitor, begin(visitor, "/register", "3003"), way)
    tick(minutes=minutes - 1)
    another = portal.visitor()
    late = choose(another, begin(another, "/register", "rich@example.net"), way)
    assert visitor.submit(page, "/code", code=sent(portal, *CODES)[0].code).status == 303
    code = code_of(portal)
    tick(minutes=minutes)
    assert another.submit(late, "/code", code=code).status in (303, 422)
    assert another.get("/register/id").location != ""


def test_code_counts_for_the_browser_that_asked_and_once(portal: Portal) -> None:
    first, second = portal.visitor(), portal.visitor()
    pages = [choose(each, begin(each, "/register", "3003"), "email") for each in (first, second)]
    codes = [message.code for message in sent(portal, "register_code")]
    assert first.submit(pages[0], "/code", code=codes[1]).status == 422
    assert first.submit(pages[0], "/code", code=codes[0]).status == 303
    page = begin(third := portal.visitor(), "/register", "rich@example.net")
    page = choose(third, page, "email")
    assert third.submit(page, "/code", code=codes[0]).status == 422


def test_new_code_ends_the_one_before(portal: Portal) -> None:
    visitor = portal.visitor()
    choose(visitor, begin(visitor, "/register", "3003"), "email")
    old = code_of(portal)
    page = choose(visitor, visitor.get("/register/way"), "text")
    assert visitor.submit(page, "/code", code=old).status == 422
    typed = f" {code_of(portal)[:3]}-{code_of(portal)[3:]}"
    assert visitor.submit(page, "/code", code=typed).status == 303


# Contacts that came lately (bar 17) --------------------------------------------------------------


@ways_in
def test_contact_that_came_lately_gets_nothing_while_the_older_one_does(
    portal: Portal, first: str, tick: Tick
) -> None:
    name = "rich" if first == "/register" else "alice"
    portal.execute(
        "UPDATE contacts SET ended_on = '2026-06-10' WHERE value = :old", old=f"{name}@example.net"
    )
    add_contact(portal, name, "email", "thief@example.net", since="2026-06-10")
    number = "3003" if name == "rich" else "1001"
    choose(visitor := portal.visitor(), begin(visitor, first, number), "email")
    assert {message.recipient for message in sent(portal)} == {f"{name}@example.net"}
    before = len(sent(portal))
    choose(visitor := portal.visitor(), begin(visitor, first, "thief@example.net"), "email")
    assert len(sent(portal)) == before
    tick(days=31)
    choose(visitor := portal.visitor(), begin(visitor, first, number), "email")
    assert {message.recipient for message in sent(portal)[before:]} == {"thief@example.net"}


# Origin, order, lost answers ---------------------------------------------------------------------


def flow_routes(method: str) -> list[tuple[str, str]]:
    return [
        (name, crawl._PATHS[name])
        for name, rule in POLICY.items()
        if rule.who is Who.FLOW
        and rule.flow in KIND.values()
        and name.endswith(("_post", "_strength", "_free")) == (method == "POST")
    ]


def test_flow_pages_refuse_what_they_did_not_send(portal: Portal) -> None:
    """A missing or foreign token, a foreign origin, a key of another flow: nothing is written."""
    visitors = {first: portal.visitor() for first in PATHS}
    guards = {}
    for first, visitor in visitors.items():
        guards[first] = begin(visitor, first, "1001").form("/way")[1]
    count = 0
    differs = crawl.watch(portal.app)
    for name, path in flow_routes("POST"):
        first = "/" + path.split("/")[1]
        foreign = guards["/recover" if first != "/recover" else "/register"]
        visitor, own = visitors[first], guards[first]
        values = {"way": "email", "code": "123456", "sign_in_id": "x", "password": "y" * 12}
        for guard in ({}, foreign, own | {"csrf_token": "x"}):
            assert visitor.post(path, values | guard).status == 403, name
        page = visitor.post(path, values | own, headers={"Sec-Fetch-Site": "cross-site"})
        assert page.status == 403, name
        if name.endswith(("way_post",)):
            forged = own | {"form_key": foreign["form_key"]}
            assert visitor.post(path, values | forged).status == 403, name
        count += 1
    assert count >= 10
    assert differs() == set()


@ways_in
def test_first_form_needs_the_strict_cookie(portal: Portal, first: str) -> None:
    rule = POLICY[next(n for n, p in crawl._PATHS.items() if p == first and n.endswith("_post"))]
    assert rule.proof is Proof.STRICT_COOKIE
    assert portal.visitor().post(first, {"who": "3003"}).status == 403
    assert portal.one("SELECT count(*) FROM flows") == 0


@ways_in
def test_pages_of_a_flow_are_kept_nowhere_and_gets_change_nothing(
    portal: Portal, first: str
) -> None:
    visitor = portal.visitor()
    choose(visitor, begin(visitor, first, "1001"), "email")
    differs = crawl.watch(portal.app)
    for _name, path in flow_routes("GET"):
        if not path.startswith(first):
            continue
        for method in SAFE_METHODS[:2]:
            answer = visitor.client.open(path, base_url=BASE, method=method)
            assert answer.status_code in (200, 303)
            assert answer.headers["Cache-Control"] == "no-store"
            assert "Cookie" in answer.headers["Vary"]
    assert differs() == set()


@ways_in
def test_first_form_sent_twice_goes_on_with_the_same_flow(portal: Portal, first: str) -> None:
    visitor = portal.visitor()
    begin(visitor, first, "1001")
    begin(visitor, first, " 1001 ")
    assert portal.one("SELECT count(*) FROM flows") == 1
    begin(visitor, first, "2002")
    assert portal.one("SELECT count(*) FROM flows") == 2


@ways_in
def test_flow_that_ended_leads_to_its_beginning(portal: Portal, first: str, tick: Tick) -> None:
    visitor = portal.visitor()
    page = begin(visitor, first, "1001")
    tick(hours=24)
    answer = visitor.submit(page, "/way", way="email")
    assert (answer.status, answer.location) == (303, f"{first}?done=ended")
    assert "took too long" in visitor.get(answer.location).text
    fragment = visitor.get(f"{first}/way", headers=FRAGMENT)
    assert fragment.response.headers["HX-Redirect"] == f"{first}?done=ended"


@ways_in
def test_sending_pressed_twice_at_once_sends_one_message(portal: Portal, first: str) -> None:
    visitor = portal.visitor()
    who = "3003" if first == "/register" else "1001"
    page = begin(visitor, first, who)
    action, values = page.form("/way")
    cookies = visitor.cookies()

    def press(_number: int) -> str:
        other = Visitor(portal.app)
        for name, value in cookies.items():
            other.client.set_cookie(name, value, domain="127.0.0.1")
        return other.post(action, values | {"way": "email"}).location

    assert len(set(together(8, press))) == 1
    assert len(sent(portal)) == 1


# Messages ----------------------------------------------------------------------------------------


def test_forged_host_changes_no_byte_of_a_message(portal: Portal) -> None:
    """Links are built from the configured address, and by the worker (bar 22)."""
    from core import postman
    from core.db import reading
    from models import Message

    for headers in ({"X-Forwarded-Host": "evil.example"}, {"Host": "127.0.0.1:8000"}):
        visitor = portal.visitor()
        page = visitor.get("/recover")
        page = visitor.post("/recover", {"who": "alice"}, headers=headers)
        page = visitor.get("/recover/way")
        action, values = page.form("/way")
        visitor.post(action, values | {"way": "email"}, headers=headers)
    host = portal.visitor().client.get("/recover", base_url="http://evil.example")
    assert host.status_code == 400
    with portal.app.app_context(), reading() as session:
        made = [
            postman.compose(message, portal.settings.public_url)
            for message in session.query(Message).order_by(Message.id)
        ]
    bare_texts = {
        re.sub(r"/recover/link/\S+?(?=[\"\s])", "/recover/link/…", each.text) for each in made
    }
    assert len(made) == 2
    assert len(bare_texts) == 1
    for each in made:
        assert "evil.example" not in each.text + each.html + each.subject
        assert "http://127.0.0.1:8000/recover/link/" in each.text


MESSAGES = (
    ("/register", "3003"),
    ("/register", "1001"),
    ("/register", "4004"),
    ("/recover", "alice"),
    ("/recover", "3003"),
    ("/forgot-id", "1001"),
)


def test_every_message_can_be_made_in_every_language(portal: Portal) -> None:
    from core import postman
    from core.db import reading
    from models import Message

    for first, who in MESSAGES:
        for way in ("email", "text"):
            visitor = portal.visitor()
            choose(visitor, begin(visitor, first, who), way)
    kinds = {(message.kind, message.channel) for message in sent(portal)}
    assert len(kinds) == 12
    for language in ("en", "es", "fr"):
        portal.execute("UPDATE messages SET language = :language", language=language)
        with portal.app.app_context(), reading() as session:
            for message in session.query(Message):
                made = postman.compose(message, portal.settings.public_url)
                assert made.text
                assert message.channel == "text" or (made.subject and made.html)
                assert message.channel == "email" or len(made.text) <= 160


@ways_in
def test_secrets_of_messages_are_sealed(portal: Portal, first: str) -> None:
    who = "3003" if first == "/register" else "1001"
    choose(visitor := portal.visitor(), begin(visitor, first, who), "email")
    [message] = sent(portal)
    secret = message.facts.get("code") or message.facts.get("token") or message.facts["sign_in_ids"]
    stored = repr(portal.rows("SELECT facts FROM messages")) + repr(
        crawl.dump(portal.app)["one_time_codes"]
    )
    assert secret not in stored
