"""The ISP's own people: commands, the one-time link, the pages of administrators."""

from __future__ import annotations

import re
from typing import Any

import pytest
from flask.testing import FlaskCliRunner

from core import postman
from tests.conftest import Portal
from tests.page import Page, Visitor
from tests.staff.conftest import DATA

PASSWORD = "saddle-orchid-comet-88"


@pytest.fixture
def run(portal: Portal) -> Any:
    runner: FlaskCliRunner = portal.app.test_cli_runner()

    def run(*arguments: str) -> Any:
        return runner.invoke(args=["staff", *arguments])

    return run


def added(run: Any, email: str = "kim@pinecrest.example", role: str = "support") -> str:
    """The path of a new member's link."""
    result = run("add", "Kim Novak", email, "--role", role)
    assert result.exit_code == 0, result.output
    return re.sub(r"^https?://[^/]+", "", result.stdout.strip())


def choose(portal: Portal, path: str, **values: str) -> Page:
    visitor = portal.visitor()
    typed = {"sign_in_id": "kim.novak", "password": PASSWORD} | values
    return visitor.submit(visitor.get(path), path, **typed)


# Commands and the link ------------------------------------------------------------------------


def test_new_member_chooses_id_and_password_by_the_link(portal: Portal, run: Any) -> None:
    out = choose(portal, added(run))
    assert (out.status, out.location) == (303, "/sign-in?done=registered")
    [(sign_in_id, name, role)] = portal.rows(
        "SELECT c.sign_in_id, c.name, s.role FROM customers c JOIN staff_members s"
        " ON s.customer_id = c.id WHERE c.email_key = 'kim@pinecrest.example'"
    )
    assert (sign_in_id, name, role) == ("kim.novak", "Kim Novak", "support")


def test_nobody_signs_in_as_a_member_whose_link_waits(portal: Portal, run: Any) -> None:
    added(run)
    placeholder = portal.one("SELECT sign_in_id FROM customers ORDER BY id DESC LIMIT 1")
    for typed in ("", " ", PASSWORD):
        for name in (placeholder, "kim@pinecrest.example"):
            assert portal.visitor().sign_in(name, typed).status in (422, 429)


def test_password_alone_opens_no_page_of_staff(portal: Portal, run: Any) -> None:
    choose(portal, added(run))
    visitor = portal.visitor()
    visitor.sign_in("kim.novak", PASSWORD)
    assert visitor.get("/staff/").status in (303, 404)


def test_link_works_once_and_the_same_form_again_finds_it_done(portal: Portal, run: Any) -> None:
    path = added(run)
    visitor = portal.visitor()
    page = visitor.get(path)
    typed = {"sign_in_id": "kim.novak", "password": PASSWORD}
    first, again = (visitor.submit(page, path, **typed) for _ in range(2))
    assert first.location == again.location
    other = visitor.submit(page, path, **typed | {"sign_in_id": "somebody"})
    assert other.status == 410
    assert visitor.get(path).status == 410


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"sign_in_id": "alice"}, "already has this ID"),
        ({"sign_in_id": "x"}, "3 to 40"),
        ({"password": "short"}, "at least 10"),
        ({"password": "kim novak 99"}, "Leave out your name"),
    ],
)
def test_what_is_refused_is_said_at_the_field(
    portal: Portal, run: Any, values: dict[str, str], words: str
) -> None:
    page = choose(portal, added(run), **values)
    assert page.status == 422
    assert words in page.select(".field__error")[0].text_content()


def test_taken_id_and_weak_password_are_said_in_one_answer(portal: Portal, run: Any) -> None:
    page = choose(portal, added(run), sign_in_id="alice", password="kim novak 99")
    said = [error.text_content() for error in page.select(".field__error")]
    assert ["already has this ID" in said[0], "Leave out your name" in said[1]] == [True, True]


def test_ill_formed_id_and_weak_password_are_said_in_one_answer(portal: Portal, run: Any) -> None:
    page = choose(portal, added(run), sign_in_id="", password="kim novak 99")
    said = [error.text_content() for error in page.select(".field__error")]
    assert ["Choose an ID" in said[0], "Leave out your name" in said[1]] == [True, True]


def test_link_dies_with_the_next_one_with_time_and_when_shut_out(
    portal: Portal, run: Any, tick: Any
) -> None:
    first, second = added(run), added(run)
    assert portal.visitor().get(first).status == 410
    assert portal.visitor().get(second).status == 200
    assert portal.one("SELECT count(*) FROM staff_members") == 5
    tick(days=8)
    assert portal.visitor().get(second).status == 410
    third = added(run)
    assert run("disable", "kim@pinecrest.example").exit_code == 0
    assert portal.visitor().get(third).status == 410


def test_member_who_signs_in_gets_no_second_link(portal: Portal, run: Any) -> None:
    choose(portal, added(run))
    again = run("add", "Kim", "kim@pinecrest.example", "--role", "administrator")
    assert again.exit_code == 1
    assert "signs in already" in again.output


def test_list_says_role_and_state(portal: Portal, run: Any) -> None:
    added(run)
    lines = run("list").stdout.splitlines()
    assert len(lines) == 5
    assert "Kim Novak  kim@pinecrest.example    support  link not used yet" in lines
    assert "Ada  ada@example.net  ada  administrator  no second factor yet" in lines


def test_role_is_changed_and_the_member_signs_in_again(portal: Portal, run: Any) -> None:
    sue = portal.visitor("sue")
    assert run("role", "sue@example.net", "--role", "billing").output == "Done.\n"
    assert sue.get("/staff/").location.startswith("/sign-in")


def test_last_administrator_stays(portal: Portal, run: Any) -> None:
    for arguments in (("disable", "ada"), ("role", "ada", "--role", "support")):
        result = run(*arguments)
        assert result.exit_code == 1
        assert "Somebody has to stay administrator" in result.output
    assert run("role", "sue", "--role", "administrator").exit_code == 0
    assert run("disable", "ada").exit_code == 0


def test_unknown_member_and_unclear_address_are_said(portal: Portal, run: Any) -> None:
    assert "There is no staff member nobody@x.example" in run("disable", "nobody@x.example").output
    assert "name@example.net" in run("add", "Kim", "no address", "--role", "support").output


@pytest.mark.parametrize("engine_kind", ["sqlite"])
def test_setup_ends_with_the_link_of_the_first_administrator(portal: Portal) -> None:
    """A fresh install has no way in but this link (bar 12)."""
    portal.execute("DELETE FROM staff_members")
    portal.execute("UPDATE isp SET is_demo = :no", no=False)
    from tests.crawl import another_app

    with another_app(portal, is_demo=False) as app:
        arguments = [
            "setup",
            str(DATA / "catalog.toml"),
            "--administrator",
            "Pat Lee",
            "pat@x.example",
        ]
        first, again = (app.test_cli_runner().invoke(args=arguments) for _ in range(2))
        links = [re.findall(r"/staff/join/\S+", each.stdout) for each in (first, again)]
        assert [len(each) for each in links] == [1, 1]
        assert links[0] != links[1]
        visitor = Visitor(app)
        path = links[1][0]
        assert (
            visitor.submit(visitor.get(path), path, sign_in_id="pat.lee", password=PASSWORD).status
            == 303
        )
        third = app.test_cli_runner().invoke(args=arguments)
        assert "/staff/join/" not in third.stdout


# Pages ----------------------------------------------------------------------------------------


def test_administrator_adds_a_member_whose_link_goes_by_mail_alone(portal: Portal) -> None:
    ada = portal.visitor("ada")
    page = ada.get("/staff/members")
    typed = {"name": "Kim Novak", "email": "kim@pinecrest.example", "role": "technical"}
    out = ada.submit(page, "/staff/members", **typed)
    assert (out.status, out.location) == (303, "/staff/members?done=written")
    again = ada.submit(page, "/staff/members", **typed)
    assert again.location == out.location
    assert portal.one("SELECT count(*) FROM messages WHERE kind = 'staff_link'") == 1
    sent: list[Any] = []

    class Postbox:
        def send(self, message: Any) -> None:
            sent.append(message)

    with portal.app.app_context():
        postman.send_due({"email": Postbox()}, portal.settings.public_url)  # type: ignore[dict-item]
    [message] = [each for each in sent if each.recipient == "kim@pinecrest.example"]
    [path] = re.findall(r"(/staff/join/\S+)", message.text)
    assert choose(portal, path).status == 303
    listed = ada.get("/staff/members?done=written")
    assert "on its way" in listed.text
    assert path not in listed.response.text


@pytest.mark.parametrize(
    ("typed", "words"),
    [
        ({"email": "nowhere"}, "name@example.net"),
        ({"email": "sue@example.net"}, "signs in already"),
        ({"name": ""}, "Enter the name"),
        ({"role": "owner"}, "Not a valid choice"),
    ],
)
def test_member_who_cannot_be_added_is_said_at_the_field(
    portal: Portal, typed: dict[str, str], words: str
) -> None:
    ada = portal.visitor("ada")
    good = {"name": "Kim", "email": "kim@pinecrest.example", "role": "support"}
    page = ada.submit(ada.get("/staff/members"), "/staff/members", **good | typed)
    assert page.status == 422
    assert words in page.text
    assert page.form("/staff/members")[1]["name"] == (good | typed)["name"]


def test_administrator_changes_role_shuts_out_and_lets_in(portal: Portal) -> None:
    ada, sue = portal.visitor("ada"), portal.visitor("sue")
    path = "/staff/members/suecustomer"
    states = []
    for role in ("billing", "disabled", "technical"):
        out = ada.submit(ada.get(path), path, role=role)
        assert out.location == "/staff/members?done=changed"
        states += portal.rows(
            "SELECT role, is_disabled FROM staff_members WHERE customer_id = :id",
            id=portal.world.customers["sue"],
        )
    assert states == [("billing", False), ("billing", True), ("technical", False)]
    assert sue.get("/staff/").location.startswith("/sign-in")


def test_last_administrator_cannot_shut_themselves_out(portal: Portal) -> None:
    ada = portal.visitor("ada")
    path = "/staff/members/adacustomer"
    page = ada.submit(ada.get(path), path, role="disabled")
    assert page.status == 422
    assert "Somebody has to stay administrator" in page.text
    assert ada.get("/staff/members").status == 200


def test_changing_members_asks_for_the_password_again(portal: Portal, tick: Any) -> None:
    ada = portal.visitor("ada")
    page = ada.get("/staff/members")
    tick(minutes=11)
    out = ada.submit(page, "/staff/members", name="Kim", email="kim@x.example", role="support")
    assert out.location.startswith("/confirm?next=")
    assert portal.one("SELECT count(*) FROM staff_members") == 4
