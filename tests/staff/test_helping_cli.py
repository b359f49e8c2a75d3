"""What staff do for customers, as commands: the same services, rules and notes as on the pages."""

from __future__ import annotations

import re
from typing import Any

import pytest
from flask.testing import FlaskCliRunner
from sqlalchemy.orm import Session

from blueprints.auth.cli import customers_cli
from blueprints.staff.helping_cli import lost_factors_cli
from core import search_terms
from core.db import unit_of_work
from core.settings import ROOT
from tests import factors
from tests.conftest import Portal
from tests.staff.test_helping import ask_for_code, path_of, sent
from tests.staff.test_resets import NOTE, ask_for_help, start, state
from tests.world import PASSWORD, STAFF


@pytest.fixture
def run(portal: Portal) -> Any:
    """Run a command; staff have their second factor, and the accounts their words."""

    def work(session: Session) -> None:
        search_terms.refresh(session, list(portal.world.accounts.values()))

    for name in STAFF:
        factors.give_app(portal, name)
    with portal.app.app_context():
        unit_of_work(work)
    runner: FlaskCliRunner = portal.app.test_cli_runner()
    return lambda *arguments: runner.invoke(args=list(arguments))


def number_of(portal: Portal, name: str = "alice") -> str:
    found: str = portal.one(
        "SELECT number FROM accounts WHERE id = :id", id=portal.world.accounts[name]
    )
    return found


def refused(result: Any) -> str:
    """The one line that a command ended with."""
    assert result.exit_code == 1, result.output
    assert result.stdout == ""
    [line] = result.stderr.splitlines()
    return str(line)


def accesses(portal: Portal) -> list[tuple[Any, ...]]:
    """Who read what, as often as it was noted."""
    return portal.rows(
        "SELECT reader, account_id, customer_id, fields, purpose FROM data_accesses ORDER BY id"
    )


def events(portal: Portal, kind: str) -> list[Any]:
    return portal.rows(
        "SELECT account_id, customer_id, facts FROM activity WHERE kind = :kind ORDER BY id",
        kind=kind,
    )


# Who does it ----------------------------------------------------------------------------------

COMMANDS: dict[tuple[str, ...], tuple[str, ...]] = {
    ("customers", "find", "alice"): ("sue", "ben", "tess", "ada"),
    ("customers", "show", "NUMBER"): ("sue", "ben", "tess", "ada"),
    ("customers", "show", "NUMBER", "--person", "alice"): ("sue", "ada"),
    ("customers", "unlock", "alice"): ("sue", "ada"),
    ("customers", "end-sessions", "alice"): ("sue", "ada"),
    ("customers", "reset", "alice"): ("sue", "ada"),
    ("customers", "verify", "NUMBER"): ("sue", "ben", "ada"),
    ("lost-factors", "list"): ("sue", "ada"),
    ("lost-factors", "proof", "alice", "--how", NOTE): ("sue", "ada"),
    ("lost-factors", "approve", "alice"): ("sue", "ada"),
    ("lost-factors", "refuse", "alice"): ("sue", "ada"),
}


@pytest.mark.parametrize("name", STAFF)
def test_role_of_the_member_is_checked(portal: Portal, run: Any, name: str) -> None:
    for command, may in COMMANDS.items():
        arguments = [number_of(portal) if each == "NUMBER" else each for each in command]
        result = run(*arguments, "--as", name)
        is_refused = "give --as another member" in result.stderr
        assert is_refused == (name not in may), (command, result.output)


@pytest.mark.parametrize("command", COMMANDS)
def test_nobody_but_an_active_member_does_it(
    portal: Portal, run: Any, command: tuple[str, ...]
) -> None:
    arguments = [number_of(portal) if each == "NUMBER" else each for each in command]
    ids = ["alice", "nobody"]
    if command[1] == "unlock":  # the rest of the rule is the same code for all of them
        sue, ben = portal.world.customers["sue"], portal.world.customers["ben"]
        portal.execute("DELETE FROM factors WHERE customer_id = :id", id=ben)
        disabled = "UPDATE staff_members SET is_disabled = :yes WHERE customer_id = :id"
        portal.execute(disabled, yes=True, id=sue)
        ids += ["sue", "ben"]
    for who in ids:
        assert "no member of staff signs in" in refused(run(*arguments, "--as", who))
    assert accesses(portal) == []


def test_member_has_to_be_named(portal: Portal, run: Any) -> None:
    result = run("customers", "unlock", "alice")
    assert result.exit_code == 2
    assert "Missing option '--as'" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("customers", "show", "99"), "look for it with flask customers find"),
        (("customers", "verify", "99"), "look for it with flask customers find"),
        (("customers", "unlock", "nobody"), "flask customers show NUMBER lists who does"),
        (("customers", "reset", "sue"), "flask customers show NUMBER lists who does"),
        (("customers", "show", "NUMBER", "--person", "mallory"), "lists who does"),
        (("customers", "verify", "NUMBER", "--contact", "9999"), "lists those that may have one"),
        (("customers", "verify", "NUMBER", "--code", "123456"), "Send another one with --contact"),
        (("lost-factors", "proof", "alice", "--how", NOTE), "see flask lost-factors list"),
    ],
)
def test_bad_input_ends_with_what_to_do(
    portal: Portal, run: Any, arguments: tuple[str, ...], said: str
) -> None:
    typed = [number_of(portal) if each == "NUMBER" else each for each in arguments]
    assert said in refused(run(*typed, "--as", "sue"))


# Finding and looking --------------------------------------------------------------------------


def test_finding_says_and_notes_what_the_page_does(portal: Portal, run: Any) -> None:
    result = run("customers", "find", "alic", "--as", "sue")
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith(number_of(portal))
    noted = accesses(portal)
    portal.execute("DELETE FROM data_accesses")
    assert portal.visitor("sue").get("/staff/?q=alic").status == 200
    assert noted == accesses(portal) != []
    assert "Nothing fits" in run("customers", "find", "qqqqq", "--as", "sue").stderr


SEEN = {
    "sue": {"balance", "line", "person"},
    "ben": {"balance", "bill"},
    "tess": {"line"},
    "ada": {"balance", "bill", "line", "person"},
}


@pytest.mark.parametrize("name", STAFF)
def test_account_is_shown_as_far_as_the_role_sees_it(portal: Portal, run: Any, name: str) -> None:
    result = run("customers", "show", number_of(portal), "--as", name)
    assert result.exit_code == 0, result.output
    parts = set(re.findall(r"^(balance|bill|line|person):", result.stdout, re.MULTILINE))
    assert parts == SEEN[name]
    assert ("alice@example.net" in result.stdout) == (name == "ada")
    noted, told = accesses(portal), events(portal, "staff_viewed")
    assert len(told) == 1
    portal.execute("DELETE FROM data_accesses")
    assert portal.visitor(name).get(path_of(portal)).status == 200
    assert noted == accesses(portal) != []


def test_person_is_shown_and_noted_as_on_the_page(portal: Portal, run: Any) -> None:
    portal.visitor("alice")
    result = run("customers", "show", number_of(portal), "--person", "ALICE", "--as", "sue")
    assert result.exit_code == 0, result.output
    assert "signed in: " in result.stdout
    noted = accesses(portal)
    portal.execute("DELETE FROM data_accesses")
    portal.visitor("sue").get(path_of(portal, "/people/alicecustomer"))
    assert noted == accesses(portal) != []


def test_person_whose_password_is_disabled_is_said_why(portal: Portal, run: Any) -> None:
    show = ("customers", "show", number_of(portal), "--person", "alice", "--as", "sue")
    portal.execute(
        "UPDATE customers SET password_disabled_at = created_at WHERE id = :id",
        id=portal.world.customers["alice"],
    )
    assert "after a hundred failed tries" in run(*show).stdout
    portal.execute(
        "UPDATE customers SET password_disabled_at = NULL WHERE id = :id",
        id=portal.world.customers["alice"],
    )
    alice = portal.visitor("alice")
    page = alice.get("/activity?kind=sign-in")
    path = page.select("a[href*='/not-me/']")[0].get("href")
    assert alice.submit(alice.get(path), path).status == 303
    assert "something was not them" in run(*show).stdout


def test_what_others_typed_moves_no_cursor(portal: Portal, run: Any) -> None:
    portal.execute(
        "UPDATE accounts SET name = :name WHERE id = :id",
        name="A\x1b[2J\nB\x9b",
        id=portal.world.accounts["alice"],
    )
    result = run("customers", "show", number_of(portal), "--as", "sue")
    assert "A [2J B " in result.stdout.splitlines()[0]


# Helping --------------------------------------------------------------------------------------


def test_unlocking_ends_the_wait(portal: Portal, run: Any) -> None:
    alice = portal.visitor()
    for _ in range(6):
        alice.sign_in("alice", "wrong-wrong-wrong")
    assert alice.sign_in("alice").status == 429
    assert run("customers", "unlock", "Alice", "--as", "sue").exit_code == 0
    assert alice.sign_in("alice", PASSWORD).status == 303
    told = events(portal, "staff_unlocked")
    assert portal.one("SELECT count(*) FROM messages WHERE kind = 'security'") == 1
    sue = portal.visitor("sue")
    sue.submit(sue.get(path_of(portal, "/people/alicecustomer")), "/unlock")
    assert events(portal, "staff_unlocked") == told * 2


def test_ending_sessions_signs_out_everywhere(portal: Portal, run: Any) -> None:
    alice, bob = portal.visitor("alice"), portal.visitor("bob")
    assert run("customers", "end-sessions", "alice", "--as", "ada").exit_code == 0
    assert alice.get(portal.path()).location.startswith("/sign-in")
    assert bob.get(portal.path()).status == 200
    assert len(events(portal, "staff_ended_sessions")) == 1


def test_reset_sends_a_link_that_is_not_on_the_screen(portal: Portal, run: Any) -> None:
    result = run("customers", "reset", "alice", "--as", "sue")
    assert result.exit_code == 0, result.output
    [message] = [each for each in sent(portal, "recover_link") if "/recover" in each.text]
    assert message.recipient == "alice@example.net"
    [link] = re.findall(r"(/recover/\S+)", message.text)
    assert link.rsplit("/", 1)[1] not in result.output
    assert "/recover" not in result.output
    by_command = portal.rows("SELECT kind, customer_id, facts FROM activity ORDER BY id DESC")[0]
    start(portal, portal.visitor("sue"))
    kind, *_rest = by_command
    assert len(events(portal, kind)) == 2
    assert events(portal, kind)[0] == events(portal, kind)[1]


def test_resets_are_limited_together_with_those_of_the_page(portal: Portal, run: Any) -> None:
    start(portal, portal.visitor("sue"))
    for _ in range(4):
        assert run("customers", "reset", "alice", "--as", "sue").exit_code == 0
    assert "run it again in 60 min" in refused(run("customers", "reset", "alice", "--as", "ada"))


def test_reset_without_a_contact_says_what_else_to_do(portal: Portal, run: Any) -> None:
    portal.execute("DELETE FROM contacts WHERE kind = 'email' AND account_id IS NOT NULL")
    line = refused(run("customers", "reset", "alice", "--as", "sue"))
    assert "put a new contact on file" in line


# Callers --------------------------------------------------------------------------------------


def send_code(portal: Portal, run: Any, who: str = "sue") -> str:
    """The code that went to the first contact on the list."""
    number = number_of(portal)
    listed = run("customers", "verify", number, "--as", who).stdout
    assert "a•••@example.net" in listed
    assert "alice@example.net" not in listed
    result = run("customers", "verify", number, "--contact", listed.split()[0], "--as", who)
    assert result.exit_code == 0, result.output
    [code] = re.findall(r"\b\d{3} \d{3}\b", sent(portal, "caller_code")[-1].text)
    assert code not in result.output
    return str(code)


def test_caller_is_verified_by_the_code(portal: Portal, run: Any) -> None:
    code = send_code(portal, run)
    noted = accesses(portal)
    result = run("customers", "verify", number_of(portal), "--code", code, "--as", "sue")
    assert "The code is right" in result.stdout
    sue = portal.visitor("sue")
    assert "A caller was verified" in sue.get(path_of(portal)).text
    portal.execute("DELETE FROM data_accesses")
    page, code = ask_for_code(portal, sue)
    sue.submit(page, "/call/check", code=code)
    assert accesses(portal)[:1] == noted
    for kind in ("caller_code_sent", "caller_verified"):
        first, second = events(portal, kind)
        assert first == second


def test_code_counts_for_the_member_alone_and_ten_minutes(
    portal: Portal, run: Any, tick: Any
) -> None:
    code = send_code(portal, run)
    check = ("customers", "verify", number_of(portal), "--code", code)
    assert "its time is over" in refused(run(*check, "--as", "ada"))
    sue = portal.visitor("sue")
    page = sue.get(path_of(portal, "/call?done=sent"))
    assert sue.submit(page, "/call/check", code=code).status == 422
    tick(minutes=10)
    assert "its time is over" in refused(run(*check, "--as", "sue"))
    assert events(portal, "caller_verified") == []


def test_account_without_a_contact_says_what_else_to_do(portal: Portal, run: Any) -> None:
    portal.execute("DELETE FROM contacts WHERE kind = 'email' AND account_id IS NOT NULL")
    line = refused(run("customers", "verify", number_of(portal), "--as", "sue"))
    assert "ask them to come" in line


def test_code_is_sent_or_checked_not_both(portal: Portal, run: Any) -> None:
    both = ("--contact", "1", "--code", "123456", "--as", "sue")
    assert run("customers", "verify", number_of(portal), *both).exit_code == 2


# Lost factors ---------------------------------------------------------------------------------


def test_one_member_makes_sure_and_another_approves(portal: Portal, run: Any) -> None:
    factors.give_app(portal, "alice")
    ask_for_help(portal)
    assert "nobody made sure" in run("lost-factors", "list", "--as", "ada").stdout
    assert "see flask lost-factors list" in refused(
        run("lost-factors", "approve", "alice", "--as", "ada")
    )
    assert run("lost-factors", "proof", "alice", "--how", NOTE, "--as", "sue").exit_code == 0
    assert f"made sure: {NOTE}" in run("lost-factors", "list", "--as", "ada").stdout
    mine = "SELECT count(*) FROM factors WHERE customer_id = :id"
    alice = portal.world.customers["alice"]
    line = refused(run("lost-factors", "approve", "alice", "--as", "sue"))
    assert "then another to approve" in line
    assert portal.one(mine, id=alice) == 1
    assert run("lost-factors", "approve", "alice", "--as", "ada").exit_code == 0
    assert portal.one(mine, id=alice) == 0
    sue, ada = portal.world.customers["sue"], portal.world.customers["ada"]
    assert state(portal) == ("done", NOTE, sue, ada)
    assert [reader for reader, *_rest in accesses(portal)] == ["Ada", "Sue"]
    assert "Nobody waits" in run("lost-factors", "list", "--as", "ada").stdout


def test_refused_takes_nothing_away(portal: Portal, run: Any) -> None:
    factors.give_app(portal, "alice")
    ask_for_help(portal)
    assert run("lost-factors", "refuse", "alice", "--as", "sue").exit_code == 0
    assert state(portal)[0] == "refused"
    assert len(events(portal, "factor_reset_refused")) == 1


def test_member_cannot_help_themselves(portal: Portal, run: Any) -> None:
    ask_for_help(portal, "sue")
    line = refused(run("lost-factors", "proof", "sue", "--how", NOTE, "--as", "sue"))
    assert "neither of them the one it is about" in line
    assert state(portal)[0] == "asked"


@pytest.mark.parametrize("how", ["card", "x" * 301])
def test_note_has_a_length(portal: Portal, run: Any, how: str) -> None:
    ask_for_help(portal)
    result = run("lost-factors", "proof", "alice", "--how", how, "--as", "sue")
    assert result.exit_code == 2
    assert "10 to 300 characters" in result.stderr
    assert state(portal)[0] == "asked"


# The page about it ----------------------------------------------------------------------------


def test_page_about_staff_names_every_command() -> None:
    text = (ROOT / "docs" / "staff.md").read_text()
    for group in (customers_cli, lost_factors_cli):
        for name in group.commands:
            if name != "add":  # the link for a subscriber, which no page makes
                assert f"`flask {group.name} {name}" in text
