"""The one-time link with which a subscriber chooses ID and password."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from urllib.parse import urlsplit

import pytest

from blueprints.auth import service
from core import passwords
from tests import crawl
from tests.conftest import Portal, together
from tests.page import Page, Visitor
from tests.world import PASSWORD

Tick = Callable[..., None]
CHOSEN = {"sign_in_id": "richard", "password": "amber-violin-thursday"}


@pytest.fixture(autouse=True)
def nobody_owns_rich(portal: Portal) -> None:
    """The account 3003 has no customer yet, and its e-mail address belongs to nobody."""
    who = portal.world.customers["rich"]
    portal.execute("DELETE FROM memberships WHERE customer_id = :who", who=who)
    portal.execute("DELETE FROM customers WHERE id = :who", who=who)


def add(portal: Portal, number: str = "3003") -> str:
    """What `flask customers add` prints."""
    result = portal.app.test_cli_runner().invoke(args=["customers", "add", number])
    return (result.stdout or result.stderr).strip()


@pytest.fixture
def path(portal: Portal) -> str:
    return urlsplit(add(portal)).path


def choose(visitor: Visitor, path: str, **values: str) -> Page:
    page = visitor.get(path)
    assert page.status == 200
    return visitor.submit(page, path, **(CHOSEN | values))


def owners(portal: Portal) -> list[str]:
    rows = portal.rows(
        "SELECT c.sign_in_id FROM customers c JOIN memberships m ON m.customer_id = c.id "
        "WHERE m.account_id = :id AND m.role = 'owner'",
        id=portal.world.accounts["rich"],
    )
    return [row[0] for row in rows]


def is_dead(page: Page) -> bool:
    return page.status == 410 and "no longer works" in page.text


# It works ------------------------------------------------------------------------------------


def test_subscriber_chooses_id_and_password_and_signs_in(portal: Portal, path: str) -> None:
    visitor = portal.visitor()
    page = choose(visitor, path)
    assert (page.status, page.location) == (303, "/sign-in?done=registered")
    page = visitor.get(page.location)
    assert "Your Pinecrest ID is ready" in page.text
    page = visitor.submit(page, "/sign-in", **CHOSEN)
    assert page.location == portal.path(account="rich")
    assert visitor.get(page.location).status == 200
    assert owners(portal) == ["richard"]


def test_who_shares_the_account_sees_the_link_and_the_registration(portal: Portal) -> None:
    revision = "SELECT revision FROM accounts WHERE number = '3003'"
    before = portal.one(revision)
    path = urlsplit(add(portal)).path
    invited = portal.one(revision)
    choose(portal.visitor(), path)
    assert before < invited < portal.one(revision)


def test_link_is_printed_with_the_public_address_and_stored_as_a_hash(portal: Portal) -> None:
    link = add(portal)
    assert link.startswith("http://127.0.0.1:8000/welcome/")
    token = link.rpartition("/")[2]
    assert len(token) == 43
    assert token not in repr(crawl.dump(portal.app))
    stored = portal.one("SELECT token_hash FROM one_time_links")
    assert bytes(stored) == hashlib.sha256(token.encode()).digest()


def test_customer_signs_in_with_the_e_mail_address_on_file_too(portal: Portal, path: str) -> None:
    choose(portal.visitor(), path)
    assert portal.visitor().sign_in("rich@example.net", CHOSEN["password"]).status == 303


def test_household_that_shares_an_e_mail_address_signs_in_with_ids(
    portal: Portal, path: str
) -> None:
    portal.execute(
        "UPDATE contacts SET value = 'Alice@example.net' WHERE account_id = :id AND kind = 'email'",
        id=portal.world.accounts["rich"],
    )
    assert choose(portal.visitor(), path).status == 303
    assert portal.visitor().sign_in("richard", CHOSEN["password"]).status == 303
    # The address stays with whoever had it first.
    assert portal.visitor().sign_in("alice@example.net").location == portal.path()


def test_account_without_e_mail_address_is_fine(portal: Portal, path: str) -> None:
    portal.execute("DELETE FROM contacts WHERE account_id = :id", id=portal.world.accounts["rich"])
    assert choose(portal.visitor(), path).status == 303


def test_spaces_around_the_id_are_dropped(portal: Portal, path: str) -> None:
    assert choose(portal.visitor(), path, sign_in_id=" richard ").status == 303
    assert owners(portal) == ["richard"]


# The command refuses ---------------------------------------------------------------------------


def test_command_says_what_is_wrong(portal: Portal) -> None:
    assert add(portal, "9999") == "Error: There is no account with the number 9999."
    assert add(portal, "1001") == "Error: The account 1001 already has its owner."
    assert portal.one("SELECT count(*) FROM one_time_links") == 0


# Dead links ------------------------------------------------------------------------------------


def test_link_that_never_was_is_dead(portal: Portal) -> None:
    visitor = portal.visitor()
    for token in ("nothing", "x" * 43, "é", "%00", "a" * 3000):
        page = visitor.get(f"/welcome/{token}")
        assert page.status in (404, 410), token
    visitor.get("/sign-in")
    assert is_dead(visitor.post("/welcome/nothing", CHOSEN))
    assert is_dead(visitor.post("/welcome/nothing", {}))


def test_link_is_dead_after_its_use(portal: Portal, path: str) -> None:
    choose(portal.visitor(), path)
    assert is_dead(portal.visitor().get(path))


def test_link_is_dead_after_three_weeks(portal: Portal, path: str, tick: Tick) -> None:
    visitor = portal.visitor()
    page = visitor.get(path)
    tick(days=20, hours=23)
    assert visitor.get(path).status == 200
    tick(hours=1)
    assert is_dead(visitor.get(path))
    assert is_dead(visitor.submit(page, path, **CHOSEN))
    assert owners(portal) == []


def test_new_link_ends_the_old_one(portal: Portal, path: str) -> None:
    newer = urlsplit(add(portal)).path
    assert is_dead(portal.visitor().get(path))
    assert portal.visitor().get(newer).status == 200


def test_link_is_dead_once_the_account_has_an_owner(portal: Portal, path: str) -> None:
    visitor = portal.visitor()
    page = visitor.get(path)
    portal.execute(
        "INSERT INTO memberships (customer_id, account_id, role) VALUES (:who, :account, 'owner')",
        who=portal.world.customers["bob"],
        account=portal.world.accounts["rich"],
    )
    assert is_dead(visitor.submit(page, path, **CHOSEN))
    assert owners(portal) == ["bob"]


def test_reading_the_link_does_not_use_it(portal: Portal, path: str) -> None:
    visitor = portal.visitor()
    for _ in range(3):
        assert visitor.get(path).status == 200
    assert choose(visitor, path).status == 303


# What is chosen --------------------------------------------------------------------------------


@pytest.mark.parametrize("taken", ["alice", "ALICE", "Bob"])
def test_id_of_somebody_else_is_refused(portal: Portal, path: str, taken: str) -> None:
    visitor = portal.visitor()
    page = choose(visitor, path, sign_in_id=taken)
    assert (page.status, "already has this ID" in page.text) == (422, True)
    assert page.form(path)[1] == {"sign_in_id": taken, "password": ""}
    assert visitor.submit(page, path, **CHOSEN).status == 303  # the link is not used up


def test_taken_id_and_weak_password_are_said_in_one_answer(portal: Portal, path: str) -> None:
    page = choose(portal.visitor(), path, sign_in_id="alice", password="qwertyuiop")
    assert page.status == 422
    assert "already has this ID" in page.text
    assert "easy to guess" in page.text


def test_ill_formed_id_and_weak_password_are_said_in_one_answer(portal: Portal, path: str) -> None:
    for password, says in (("qwertyuiop", "easy to guess"), ("rich@example.net", "Leave out")):
        page = choose(portal.visitor(), path, sign_in_id="two words", password=password)
        assert page.status == 422
        said = [error.text_content() for error in page.select(".field__error")]
        assert ["3 to 40 letters" in said[0], says in said[1]] == [True, True]
    page = choose(portal.visitor(), path, sign_in_id="two words")
    assert len(page.select(".field__error")) == 1


@pytest.mark.parametrize(
    ("password", "says"),
    [
        ("", "Choose a password"),
        ("short", "at least 10"),
        ("x" * 257, "at most 256"),
        ("qwertyuiop", "easy to guess"),
        ("pinecrestbroadband", "Leave out"),
        ("pinecrest id", "Leave out"),
        ("Rich3003 richard", "Leave out"),
        ("rich@example.net", "Leave out"),
        ("Fiber 300 Local TV", "Leave out"),
    ],
)
def test_weak_password_is_refused_with_its_reason(
    portal: Portal, path: str, password: str, says: str
) -> None:
    page = choose(portal.visitor(), path, password=password)
    assert (page.status, says in page.text) == (422, True), page.text
    assert page.form(path)[1] == {"sign_in_id": "richard", "password": ""}
    if len(password) > 5:
        assert f'"{password}"' not in page.response.text
    assert owners(portal) == []


def test_id_without_sense_is_refused(portal: Portal, path: str) -> None:
    for typed in (
        "",
        "ab",
        "x" * 41,
        "a b c",
        "-abc",
        "a@b.example",
        "élodie",
        "abc\n\nabc",
        "<b>",
    ):
        assert choose(portal.visitor(), path, sign_in_id=typed).status == 422, typed
    assert owners(portal) == []


def test_welcome_needs_our_own_page(portal: Portal, path: str) -> None:
    assert portal.visitor().post(path, CHOSEN).status == 403
    visitor = portal.visitor()
    visitor.get(path)
    assert visitor.post(path, CHOSEN, headers={"Sec-Fetch-Site": "cross-site"}).status == 403
    assert owners(portal) == []


# Twice and at once -------------------------------------------------------------------------------


def test_form_sent_twice_counts_once_and_says_the_same(portal: Portal, path: str) -> None:
    visitor = portal.visitor()
    page = visitor.get(path)
    for _ in range(3):
        again = visitor.submit(page, path, **CHOSEN)
        assert (again.status, again.location) == (303, "/sign-in?done=registered")
    assert owners(portal) == ["richard"]


def test_form_sent_twice_at_once_counts_once_and_says_the_same(portal: Portal, path: str) -> None:
    results = together(3, lambda _number: choose(portal.visitor(), path))
    locations = {each.location for each in results if isinstance(each, Page)}
    assert locations == {"/sign-in?done=registered"}, results
    assert owners(portal) == ["richard"]


def test_used_link_with_other_values_is_dead(portal: Portal, path: str, tick: Tick) -> None:
    visitor = portal.visitor()
    page = visitor.get(path)
    assert visitor.submit(page, path, **CHOSEN).status == 303
    assert is_dead(visitor.submit(page, path, **(CHOSEN | {"password": PASSWORD})))
    assert is_dead(visitor.submit(page, path, **(CHOSEN | {"sign_in_id": "other"})))


def test_used_link_is_no_way_to_guess_the_password(portal: Portal, path: str, tick: Tick) -> None:
    visitor = portal.visitor()
    page = visitor.get(path)
    visitor.submit(page, path, **CHOSEN)
    assert is_dead(visitor.submit(page, path, **(CHOSEN | {"password": PASSWORD})))
    page_of_wait = visitor.submit(page, path, **CHOSEN)
    assert page_of_wait.status == 429
    tick(hours=1)
    assert is_dead(visitor.submit(page, path, **CHOSEN))


def test_of_two_forms_at_once_one_makes_the_owner(portal: Portal, path: str) -> None:
    pages = [(visitor := portal.visitor(), visitor.get(path)) for _ in range(2)]

    def send(number: int) -> int:
        visitor, page = pages[number]
        return visitor.submit(page, path, **(CHOSEN | {"sign_in_id": f"rich-{number}"})).status

    assert sorted(together(2, send)) == [303, 410]  # type: ignore[type-var]
    assert len(owners(portal)) == 1


def test_of_two_accounts_that_choose_one_id_at_once_one_gets_it(portal: Portal, path: str) -> None:
    portal.execute(
        "DELETE FROM memberships WHERE customer_id = :who", who=portal.world.customers["mallory"]
    )
    paths = [path, urlsplit(add(portal, "2002")).path]
    pages = [(visitor := portal.visitor(), visitor.get(each)) for each in paths]

    def send(number: int) -> int:
        visitor, page = pages[number]
        return visitor.submit(page, paths[number], **CHOSEN).status

    assert sorted(together(2, send)) == [303, 422]  # type: ignore[type-var]


def test_busy_machine_uses_up_no_link(
    portal: Portal, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tests.core.test_passwords import taken

    monkeypatch.setattr(passwords, "WAIT_SECONDS", 0.05)
    with taken(portal.settings.data, passwords.SLOT):
        assert choose(portal.visitor(), path).status == 503
    assert choose(portal.visitor(), path).status == 303


def test_links_that_are_dead_for_different_reasons_are_answered_the_same(portal: Portal) -> None:
    """Whether an account ever had a link is not to be read from it (bar 13)."""
    portal.execute("DELETE FROM memberships WHERE role = 'owner'")
    with portal.app.app_context():
        replaced, used = service.invite("3003"), service.invite("3003")
        expired = service.invite("2002")
    number = "SELECT id FROM accounts WHERE number ="
    portal.execute(
        f"UPDATE one_time_links SET ended_at = created_at WHERE account_id = ({number} '3003')"
    )
    portal.execute(
        f"UPDATE one_time_links SET expires_at = created_at WHERE account_id = ({number} '2002')"
    )
    visitor = portal.visitor()
    visitor.get("/sign-in")
    form = {"sign_in_id": "somebody", "password": PASSWORD}
    answers = [
        (page.status, sorted(page.response.headers.items()), page.response.data)
        for token in (replaced, used, expired, "x" * 43, "nothing")
        for page in (visitor.get(f"/welcome/{token}"), visitor.post(f"/welcome/{token}", form))
    ]
    assert answers[0][0] == 410
    assert all(answer == answers[0] for answer in answers)
