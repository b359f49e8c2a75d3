"""Creating an online account (bars 13, 16, 17, 18, 21)."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest

from blueprints.auth import service
from core import codes, postman
from core.db import unit_of_work
from gateways.messages.base import MessageNotSent
from gateways.messages.mailbox import Mailbox
from models import Channel, CodePurpose
from tests.auth.mail import sent
from tests.conftest import Portal, together
from tests.page import FRAGMENT, Page, Visitor

Tick = Callable[..., None]
CHOSEN = {"sign_in_id": "richard", "password": "amber-violin-thursday"}
PHONE = "+15414166117"


@pytest.fixture(autouse=True)
def nobody_owns_rich(portal: Portal) -> None:
    """The account 3003 has no customer yet, and its e-mail address belongs to nobody."""
    who = portal.world.customers["rich"]
    portal.execute("DELETE FROM memberships WHERE customer_id = :who", who=who)
    portal.execute("DELETE FROM customers WHERE id = :who", who=who)


def add_contact(
    portal: Portal, account: str, kind: str, value: str, since: str = "2025-01-01"
) -> None:
    portal.execute(
        "INSERT INTO contacts (account_id, kind, value, since_on) VALUES (:id, :kind, :value, :on)",
        id=portal.world.accounts[account], kind=kind, value=value, on=since,
    )  # fmt: skip


def begin(visitor: Visitor, who: str = "3003") -> Page:
    page = visitor.submit(visitor.get("/register"), "/register", who=who)
    assert (page.status, page.location) == (303, "/register/way"), page.text
    return visitor.get(page.location)


def ask(visitor: Visitor, who: str = "3003", way: str = "email") -> Page:
    """As far as the page that asks for the code."""
    page = visitor.submit(begin(visitor, who), "/way", way=way)
    assert (page.status, page.location) == (303, "/register/code"), page.text
    return visitor.get(page.location)


def prove(portal: Portal, visitor: Visitor, who: str = "3003", way: str = "email") -> Page:
    """As far as the page after the code."""
    page = ask(visitor, who, way)
    page = visitor.submit(page, "/code", code=sent(portal, "register_code")[-1].code)
    assert page.status == 303, page.text
    return visitor.get(page.location)


def owner(portal: Portal, account: str = "rich") -> list[str]:
    rows = portal.rows(
        "SELECT c.sign_in_id FROM customers c JOIN memberships m ON m.customer_id = c.id "
        "WHERE m.account_id = :id AND m.role = 'owner'",
        id=portal.world.accounts[account],
    )
    return [row[0] for row in rows]


# It works ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("who", "way"),
    [
        ("3003", "email"),
        (" 30 03 ", "text"),
        ("Rich@Example.net ", "email"),
        ("rich@example.net", "text"),
        ("(541) 416-6117", "text"),
        (PHONE, "email"),
    ],
)
def test_subscriber_registers_and_is_signed_in(portal: Portal, who: str, way: str) -> None:
    add_contact(portal, "rich", "phone", PHONE)
    visitor = portal.visitor()
    page = prove(portal, visitor, who, way)
    [message] = sent(portal, "register_code")
    wanted = {"email": "rich@example.net", "text": PHONE}[way]
    assert (message.channel, message.recipient) == (way, wanted)
    page = visitor.submit(page, "/register/id", **CHOSEN)
    assert (page.status, page.location) == (303, portal.path(account="rich"))
    assert visitor.get(page.location).status == 200
    assert owner(portal) == ["richard"]
    assert portal.visitor().sign_in("richard", CHOSEN["password"]).status == 303


def test_other_contacts_are_told_without_the_new_id(portal: Portal) -> None:
    add_contact(portal, "rich", "email", "second@example.net")
    visitor = portal.visitor()
    visitor.submit(prove(portal, visitor), "/register/id", **CHOSEN)
    told = [
        message for message in sent(portal, "security") if message.facts["event"] == "registered"
    ]
    assert {message.recipient for message in told} == {"rich@example.net", "second@example.net"}
    assert all("richard" not in repr(message.facts) for message in told)


def test_registration_is_seen_by_whoever_shares_the_account(portal: Portal) -> None:
    revision = "SELECT revision FROM accounts WHERE number = '3003'"
    before = portal.one(revision)
    visitor = portal.visitor()
    visitor.submit(prove(portal, visitor), "/register/id", **CHOSEN)
    assert portal.one(revision) > before
    assert portal.one("SELECT count(*) FROM activity WHERE kind = 'registered'") == 1


# A household -----------------------------------------------------------------------------------


@pytest.fixture
def household(portal: Portal) -> None:
    """3003 and 2002 share an e-mail address, and nobody signs in to either."""
    portal.execute(
        "DELETE FROM memberships WHERE account_id = :id", id=portal.world.accounts["mallory"]
    )
    add_contact(portal, "mallory", "email", "rich@example.net")


@pytest.mark.usefixtures("household")
def test_household_chooses_one_account_after_the_code(portal: Portal) -> None:
    visitor = portal.visitor()
    page = prove(portal, visitor, "rich@example.net")
    assert page.response.request.path == "/register/account"
    assert "2002" in page.text
    assert "3003" in page.text
    refused = visitor.submit(page, "/register/account")
    assert (refused.status, "Choose one" in refused.text) == (422, True)
    page = visitor.submit(page, "/register/account", which=portal.world.public_ids["mallory"])
    page = visitor.submit(visitor.get(page.location), "/register/id", **CHOSEN)
    assert page.location == portal.path(account="mallory")
    assert (owner(portal, "mallory"), owner(portal)) == (["richard"], [])


@pytest.mark.usefixtures("household")
def test_household_chooses_no_account_of_others(portal: Portal) -> None:
    visitor = portal.visitor()
    page = prove(portal, visitor, "rich@example.net")
    others = portal.world.public_ids["alice"]
    assert visitor.submit(page, "/register/account", which=others).status == 422
    assert visitor.get("/register/id").location == "/register/account"


@pytest.mark.usefixtures("household")
def test_second_of_a_household_registers_too(portal: Portal, tick: Tick) -> None:
    for account, name in (("rich", "richard"), ("mallory", "molly")):
        visitor = portal.visitor()
        page = prove(portal, visitor, "rich@example.net")
        if account == "rich":
            page = visitor.submit(page, "/account", which=portal.world.public_ids[account])
            page = visitor.get(page.location)
        page = visitor.submit(page, "/id", **(CHOSEN | {"sign_in_id": name}))
        assert page.location == portal.path(account=account)
        tick(hours=2)


@pytest.mark.usefixtures("household")
def test_code_to_one_persons_phone_proves_nothing_for_the_other(portal: Portal) -> None:
    """Both are meant by the address that they share; a phone that only one of them has is used for
    neither."""
    add_contact(portal, "rich", "phone", PHONE)
    ask(portal.visitor(), "rich@example.net", "text")
    assert sent(portal, "register_code") == []
    add_contact(portal, "mallory", "phone", PHONE)
    visitor = portal.visitor()
    assert "2002" in prove(portal, visitor, "rich@example.net", "text").text


# A letter --------------------------------------------------------------------------------------


def letters(portal: Portal) -> list[tuple[int, int]]:
    rows = portal.rows("SELECT account_id, flow_id FROM postal_letters WHERE ended_at IS NULL")
    return [(account, flow) for account, flow in rows]


def test_letter_waits_for_staff_and_its_code_counts_three_weeks(portal: Portal, tick: Tick) -> None:
    visitor = portal.visitor()
    page = ask(visitor, way="post")
    assert "21 days" in page.text
    [(account_id, flow_id)] = letters(portal)
    assert account_id == portal.world.accounts["rich"]
    assert portal.one("SELECT count(*) FROM one_time_codes") == 0
    [told] = sent(portal, "security")
    assert (told.recipient, told.facts["event"]) == ("rich@example.net", "letter_asked")
    tick(days=5)
    with portal.app.app_context():
        code = unit_of_work(
            lambda session: codes.make(
                session, portal.settings.secret, CodePurpose.REGISTER, f"flow:{flow_id}",
                Channel.POST, None,
            )
        )  # fmt: skip
    tick(days=20, hours=23)
    page = visitor.submit(visitor.get("/register"), "/register", who="3003")
    assert page.location == "/register/code"  # the same flow, after all this time
    page = visitor.submit(visitor.get(page.location), "/code", code=code.replace(" ", "-"))
    page = visitor.submit(visitor.get(page.location), "/register/id", **CHOSEN)
    assert page.location == portal.path(account="rich")
    assert letters(portal) == []


def test_letter_is_asked_for_once_and_three_times_at_most(portal: Portal, tick: Tick) -> None:
    for count in (1, 2, 3, 3):
        visitor = portal.visitor()
        page = ask(visitor, way="post")
        visitor.submit(visitor.get("/register/way"), "/way", way="post")
        assert page.status == 200
        assert len(letters(portal)) == count
        tick(hours=30)


def test_nobody_gets_a_letter_for_an_account_with_its_owner(portal: Portal) -> None:
    ask(portal.visitor(), "1001", "post")
    ask(portal.visitor(), "9009", "post")
    assert letters(portal) == []
    [message] = sent(portal, "already_registered")
    assert message.recipient == "alice@example.net"


def test_code_by_e_mail_counts_although_a_letter_was_asked_for_after_it(portal: Portal) -> None:
    visitor = portal.visitor()
    ask(visitor)
    code = sent(portal, "register_code")[-1].code
    page = visitor.submit(visitor.get("/register/way"), "/way", way="post")
    page = visitor.submit(visitor.get(page.location), "/code", code=code)
    assert page.location == "/register/id"


# ID and password -------------------------------------------------------------------------------


def test_id_and_password_are_judged_while_one_types(portal: Portal) -> None:
    visitor = portal.visitor()
    page = prove(portal, visitor)
    action, values = page.form("/register/id")
    assert action == "/register/id"
    for typed, says in (
        ("", ""),
        ("short", "at least 10"),
        ("password123", "many people use it"),
        ("Rich3003 rich@example.net", "Leave out"),
        (CHOSEN["password"], "Good"),
        ("x" * 5000, "at most 256"),
    ):
        answer = visitor.post("/register/strength", values | {"password": typed}, headers=FRAGMENT)
        assert (answer.status, says in answer.response.text) == (200, True), typed
        assert len(answer.response.data) <= 300
        assert typed == "" or typed not in answer.response.text
    for typed, says in (("alice", "Somebody"), ("richard", "free"), ("<b>", "letters")):
        answer = visitor.post("/register/free", values | {"sign_in_id": typed}, headers=FRAGMENT)
        assert says in answer.response.text
        assert len(answer.response.data) <= 300


def test_suggested_ids_are_free(portal: Portal) -> None:
    portal.execute("UPDATE accounts SET name = 'Ана Zoë O’Neil Müller' WHERE number = '3003'")
    visitor = portal.visitor()
    page = prove(portal, visitor)
    [line] = page.select("#free")
    free = line.text_content().removeprefix("Free: ").split(", ")
    assert len(free) == 3
    assert all(re.fullmatch(r"[a-z0-9.]{3,40}", each) for each in free)
    assert visitor.submit(page, "/id", **(CHOSEN | {"sign_in_id": free[0]})).status == 303
    taken = portal.visitor()
    portal.execute(
        "DELETE FROM memberships WHERE account_id = :id", id=portal.world.accounts["rich"]
    )
    [line] = prove(portal, taken, "rich@example.net").select("#free")
    assert free[0] not in line.text_content().split(", ")


def test_asking_which_ids_are_free_has_an_end(portal: Portal) -> None:
    visitor = portal.visitor()
    _action, values = prove(portal, visitor).form("/register/id")
    told = [
        visitor.post(
            "/register/free", values | {"sign_in_id": f"name{number}"}, headers=FRAGMENT
        ).response.text
        for number in range(62)
    ]
    assert told[59].endswith("free.")
    assert told[60:] == ["", ""]


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"sign_in_id": "Alice"}, "already has this ID"),
        ({"sign_in_id": "alice@example.net"}, "letters, digits"),
        ({"sign_in_id": ""}, "Choose an ID"),
        ({"password": "pinecrest id"}, "Leave out"),
        ({"password": ""}, "Choose a password"),
    ],
)
def test_refusal_keeps_the_id_and_drops_the_password(
    portal: Portal, values: dict[str, str], says: str
) -> None:
    visitor = portal.visitor()
    page = visitor.submit(prove(portal, visitor), "/register/id", **(CHOSEN | values))
    assert (page.status, says in page.text) == (422, True)
    shown = page.form("/register/id")[1]
    assert shown["sign_in_id"] == (CHOSEN | values)["sign_in_id"]
    assert shown["password"] == ""
    assert owner(portal) == []
    assert visitor.submit(page, "/register/id", **CHOSEN).status == 303


def test_taken_id_and_weak_password_are_said_in_one_answer(portal: Portal) -> None:
    visitor = portal.visitor()
    values = {"sign_in_id": "Alice", "password": "pinecrest id"}
    page = visitor.submit(prove(portal, visitor), "/register/id", **values)
    assert page.status == 422
    said = [error.text_content() for error in page.select(".field__error")]
    assert ["already has this ID" in said[0], "Leave out" in said[1]] == [True, True]
    assert len(page.select(".notice--bad a")) == 2


def test_ill_formed_id_and_weak_password_are_said_in_one_answer(portal: Portal) -> None:
    visitor = portal.visitor()
    values = {"sign_in_id": "x", "password": "pinecrest id"}
    page = visitor.submit(prove(portal, visitor), "/register/id", **values)
    assert page.status == 422
    said = [error.text_content() for error in page.select(".field__error")]
    assert ["3 to 40 letters" in said[0], "Leave out" in said[1]] == [True, True]


def test_weak_passwords_are_no_way_to_ask_for_ids_without_end(portal: Portal) -> None:
    visitor = portal.visitor()
    page = prove(portal, visitor)
    values = {"sign_in_id": "alice", "password": "pinecrest id"}
    told = [
        "already has this ID" in visitor.submit(page, "/register/id", **values).text
        for _number in range(62)
    ]
    assert told == [True] * 60 + [False] * 2


def test_isp_may_require_a_mixed_password(portal: Portal) -> None:
    portal.execute("UPDATE isp SET requires_mixed_password = true, revision = revision + 1")
    visitor = portal.visitor()
    page = prove(portal, visitor)
    assert "Put letters, numbers and special characters together" in page.text
    page = visitor.submit(page, "/register/id", **CHOSEN)
    assert "Use letters, numbers and special characters together" in page.text
    mixed = CHOSEN | {"password": "amber-violin-7thursday"}
    assert visitor.submit(page, "/register/id", **mixed).status == 303


def test_last_form_sent_twice_makes_one_customer_and_lets_in_twice(portal: Portal) -> None:
    visitor = portal.visitor()
    page = prove(portal, visitor)
    for _ in range(2):
        answer = visitor.submit(page, "/register/id", **CHOSEN)
        assert answer.location == portal.path(account="rich")
    assert owner(portal) == ["richard"]
    other = visitor.submit(page, "/register/id", **(CHOSEN | {"password": "another-Violin-77"}))
    assert other.location == "/sign-in?done=registered"


def test_last_form_sent_at_once_by_many_makes_one_customer(portal: Portal) -> None:
    visitor = portal.visitor()
    page = prove(portal, visitor)
    action, values = page.form("/register/id")
    cookies = visitor.cookies()

    def press(_number: int) -> int:
        other = Visitor(portal.app)
        for name, value in cookies.items():
            other.client.set_cookie(name, value, domain="127.0.0.1")
        return other.post(action, values | CHOSEN).status

    assert set(together(3, press)) == {303}
    assert owner(portal) == ["richard"]


def test_second_step_is_not_skipped_by_sending_the_last_form_again(portal: Portal) -> None:
    visitor = portal.visitor()
    page = prove(portal, visitor)
    assert visitor.submit(page, "/register/id", **CHOSEN).status == 303
    portal.execute(
        "INSERT INTO factors (public_id, customer_id, kind, name, contact_id, created_at,"
        " confirmed_at) SELECT 'factor', c.id, 'email', '', k.id, c.created_at, c.created_at"
        " FROM customers c, contacts k WHERE c.sign_in_id = 'richard' AND k.value = :value",
        value="rich@example.net",
    )
    again = Visitor(portal.app)
    for name, value in visitor.cookies().items():
        if name.startswith("flow"):
            again.client.set_cookie(name, value, domain="127.0.0.1")
    answer = again.submit(page, "/register/id", **CHOSEN)
    assert answer.location == "/sign-in?done=registered"
    assert "session" not in again.cookies()


def test_of_two_who_are_proven_one_becomes_the_owner(portal: Portal) -> None:
    visitors = [portal.visitor(), portal.visitor()]
    names = ("3003", "rich@example.net")
    pages = [prove(portal, each, who) for each, who in zip(visitors, names, strict=True)]
    for number, (visitor, page) in enumerate(zip(visitors, pages, strict=True)):
        answer = visitor.submit(page, "/id", **(CHOSEN | {"sign_in_id": f"richard{number}"}))
        wanted = portal.path(account="rich") if number == 0 else "/register?done=taken"
        assert answer.location == wanted
    assert "meanwhile" in visitors[1].get("/register?done=taken").text
    assert owner(portal) == ["richard0"]


def test_welcome_link_is_dead_after_registering(portal: Portal) -> None:
    with portal.app.app_context():
        token = service.invite("3003")
    visitor = portal.visitor()
    visitor.submit(prove(portal, visitor), "/register/id", **CHOSEN)
    late = portal.visitor()
    late.get("/sign-in")
    assert late.post(f"/welcome/{token}", CHOSEN | {"sign_in_id": "other"}).status == 410


def test_step_cannot_be_reached_before_its_turn(portal: Portal) -> None:
    visitor = portal.visitor()
    begin(visitor)
    for path in ("/register/code", "/register/account", "/register/id"):
        assert visitor.get(path).location == "/register/way"
    ask(visitor)
    for path in ("/register/account", "/register/id"):
        assert visitor.get(path).location == "/register/code"


# The mail server is down -----------------------------------------------------------------------


def test_dead_mail_server_changes_nothing_that_is_seen(
    portal: Portal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is to be sent waits in the outbox; no request asks whether it leaves (bar 15)."""
    seen = []
    for is_down in (False, True):
        if is_down:
            monkeypatch.setattr(Mailbox, "send", down)
        visitor = portal.visitor()
        page = ask(visitor)
        seen.append((page.status, without_guard(page)))
        with portal.app.app_context():
            postman.send_due(portal.app.extensions["message_gateways"], "http://127.0.0.1:8000")
        again = visitor.get("/register/code")
        seen.append((again.status, without_guard(again)))
    assert all(each == seen[0] for each in seen)
    states = portal.rows("SELECT state FROM messages WHERE kind = 'register_code' ORDER BY id")
    assert states == [("sent",), ("queued",)]


def down(_mailbox: Mailbox, _message: object) -> None:
    raise MessageNotSent("refused")


def without_guard(page: Page) -> str:
    return re.sub(r'(name="(?:csrf_token|form_key)" value=")[^"]*', r"\1", page.response.text)
