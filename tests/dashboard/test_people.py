"""Sharing an account: invitations, roles, leaving (bars 21, 26, 31 and 33)."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests import crawl
from tests.conftest import Portal, together
from tests.dashboard.told import announced, letters
from tests.page import Page, Visitor
from tests.world import PASSWORD

Tick = Callable[..., None]
GUEST = "guest@example.org"
NEW = {"name": "Gus Guest", "sign_in_id": "gus", "password": "amber-violin-thursday-9"}


def invite(portal: Portal, visitor: Visitor, contact: str = GUEST, role: str = "viewer") -> str:
    """Invite somebody; the path of the link that was sent."""
    path = portal.path("people/invite")
    done = visitor.submit(visitor.get(path), path, invitee=contact, role=role)
    assert done.status == 303, done.text
    [*_, (recipient, facts)] = letters(portal, "invitation")
    assert recipient == contact
    return f"/invitation/{facts['token']}"


def roles(portal: Portal) -> dict[str, str]:
    return dict(
        portal.rows(
            "SELECT sign_in_id, role FROM memberships JOIN customers ON id = customer_id"
            " WHERE account_id = :id",
            id=portal.world.accounts["alice"],
        )
    )


# Invitations --------------------------------------------------------------------------------------


def test_invited_person_makes_an_id_and_shares_the_account(portal: Portal) -> None:
    link = invite(portal, portal.visitor("alice"))
    guest = portal.visitor()
    page = guest.get(link)
    assert "Alice asks you to share an account" in page.text
    done = guest.submit(page, link, **NEW)
    assert done.location == "/sign-in?done=registered"
    assert guest.sign_in("gus", NEW["password"]).location == portal.path()
    assert guest.get(portal.path("billing/")).status == 200
    assert guest.get(portal.path("billing/pay")).status == 403
    assert portal.rows(
        "SELECT c.value, c.account_id FROM contacts c JOIN customers ON customers.id ="
        " c.customer_id WHERE sign_in_id = 'gus'"
    ) == [(GUEST, None)]
    assert guest.sign_in(GUEST, NEW["password"]).status == 303


def test_who_signs_in_already_accepts(portal: Portal) -> None:
    link = invite(portal, portal.visitor("alice"), role="payer")
    visitor = portal.visitor()
    page = visitor.get(link)
    [sign_in] = page.select(f"main a[href='/sign-in?next={link}']")
    visitor.get(sign_in.get("href"))
    assert visitor.sign_in("mallory", next=link).location == link
    page = visitor.get(link)
    for _ in range(2):  # the first answer was lost
        assert visitor.submit(page, "/accept").location == portal.path()
    assert roles(portal)["mallory"] == "payer"
    assert portal.one("SELECT count(*) FROM activity WHERE kind = 'person_joined'") == 1
    assert "mallory" in announced(portal, "person_joined")[1]


def test_link_is_dead_after_its_use_and_says_why(portal: Portal) -> None:
    link = invite(portal, portal.visitor("alice"))
    guest = portal.visitor()
    page = guest.get(link)
    guest.submit(page, link, **NEW)
    dead = portal.visitor().get(link)
    assert dead.status == 410
    assert "accepted already" in dead.text
    other = NEW | {"sign_in_id": "other"}
    assert guest.submit(page, link, **other).status == 410
    # The same form once more finds it done.
    assert guest.submit(page, link, **NEW).location == "/sign-in?done=registered"


def test_old_withdrawn_and_unknown_links_say_why(portal: Portal, tick: Tick) -> None:
    alice = portal.visitor("alice")
    first = invite(portal, alice)
    second = invite(portal, alice)
    assert "newer one" in portal.visitor().get(first).text
    page = alice.get(portal.path("people"))
    assert alice.submit(page, "/withdraw").location.endswith("done=invitation_withdrawn")
    assert "withdrawn" in portal.visitor().get(second).text
    third = invite(portal, alice)
    tick(days=8)
    old = portal.visitor().get(third)
    assert (old.status, "seven days" in old.text) == (410, True)
    assert portal.visitor().get("/invitation/nothing").status == 410


@pytest.mark.parametrize(
    ("field", "value"),
    [("sign_in_id", "alice"), ("sign_in_id", "x"), ("password", "short"), ("name", " ")],
)
def test_what_is_refused_is_said_at_the_field(portal: Portal, field: str, value: str) -> None:
    link = invite(portal, portal.visitor("alice"))
    guest = portal.visitor()
    page = guest.submit(guest.get(link), link, **(NEW | {field: value}))
    assert page.status == 422
    assert page.select(f"#{field}-error")
    assert NEW["password"] not in page.response.text
    assert guest.get(link).status == 200


def test_taken_id_and_weak_password_are_said_in_one_answer(portal: Portal) -> None:
    link = invite(portal, portal.visitor("alice"))
    guest = portal.visitor()
    weak = NEW | {"sign_in_id": "alice", "password": "qwertyuiop"}
    page = guest.submit(guest.get(link), link, **weak)
    assert page.select("#sign_in_id-error")
    assert page.select("#password-error")


def test_ill_formed_values_and_weak_password_are_said_in_one_answer(portal: Portal) -> None:
    link = invite(portal, portal.visitor("alice"))
    guest = portal.visitor()
    for wrong in ({"sign_in_id": "x"}, {"name": ""}):
        page = guest.submit(guest.get(link), link, **(NEW | wrong | {"password": "qwertyuiop"}))
        for field in (*wrong, "password"):
            assert page.select(f"#{field}-error")


def test_ten_who_open_one_link_make_one_member(portal: Portal) -> None:
    link = invite(portal, portal.visitor("alice"))

    def accept(number: int) -> int:
        guest = portal.visitor()
        page = guest.get(link)
        if page.status != 200:
            return page.status
        return guest.submit(page, link, **(NEW | {"sign_in_id": f"guest{number}"})).status

    found = together(6, accept)
    assert found.count(303) == 1
    assert len(roles(portal)) == 5


def test_invitation_is_limited_and_holds_no_secret_in_the_open(portal: Portal) -> None:
    alice = portal.visitor("alice")
    path = portal.path("people/invite")
    statuses = [
        alice.submit(alice.get(path), path, invitee=f"g{number}@example.org").status
        for number in range(6)
    ]
    assert statuses == [303] * 5 + [429]
    tokens = [str(facts["token"]) for _, facts in letters(portal, "invitation")]
    stored = str(portal.rows("SELECT facts FROM messages")) + str(
        portal.rows("SELECT facts FROM activity")
    )
    assert not [token for token in tokens if token in stored]


# Roles --------------------------------------------------------------------------------------------


def person(portal: Portal, visitor: Visitor, who: str) -> tuple[str, Page]:
    path = portal.path(f"people/{who}customer")
    return path, visitor.get(path)


def test_changed_role_counts_with_the_next_request_and_is_announced(portal: Portal) -> None:
    alice, bob = portal.visitor("alice"), portal.visitor("bob")
    assert bob.get(portal.path("billing/pay")).status == 200
    path, page = person(portal, alice, "bob")
    for _ in range(2):
        done = alice.submit(page, path, role="technical")
        assert done.location == portal.path("people?done=role_changed")
    assert bob.get(portal.path("billing/pay")).status == 403
    assert announced(portal, "role_changed") == ["alice@example.net"]
    assert portal.one("SELECT count(*) FROM activity WHERE kind = 'role_changed'") == 1


def test_removed_person_is_out_with_the_next_request(portal: Portal) -> None:
    alice, bob = portal.visitor("alice"), portal.visitor("bob", own_device="y")
    kept = bob.get(portal.path()).response.headers["ETag"]
    path, page = person(portal, alice, "bob")
    for _ in range(2):
        done = alice.submit(page, f"{path}/remove")
        assert done.location == portal.path("people?done=person_removed")
    assert bob.get(portal.path(), headers={"If-None-Match": kept}).status == 404
    assert announced(portal, "person_removed") == ["alice@example.net"]


def test_last_owner_can_neither_leave_nor_become_less(portal: Portal) -> None:
    alice = portal.visitor("alice")
    path, page = person(portal, alice, "alice")
    assert alice.submit(page, path, role="viewer").status == 422
    leave = f"/settings/leave/{portal.world.public_ids['alice']}"
    shown = alice.get(leave)
    assert not shown.select("main form")
    assert alice.post(leave, crawl.token_of(alice)).status == 422
    assert alice.post(f"{path}/remove", crawl.token_of(alice)).status == 422
    assert roles(portal)["alice"] == "owner"


def test_owner_leaves_once_there_is_another(portal: Portal) -> None:
    alice = portal.visitor("alice")
    path, page = person(portal, alice, "bob")
    alice.submit(page, path, role="owner")
    leave = f"/settings/leave/{portal.world.public_ids['alice']}"
    page = alice.get(leave)
    for _ in range(2):
        assert alice.submit(page, leave).location == "/accounts"
    assert "alice" not in roles(portal)
    assert alice.get(portal.path()).status == 404
    assert portal.visitor("bob").get(portal.path("people")).status == 200


def test_two_owners_who_leave_at_once_leave_one_behind(portal: Portal) -> None:
    alice = portal.visitor("alice")
    path, page = person(portal, alice, "bob")
    alice.submit(page, path, role="owner")
    both = [alice, portal.visitor("bob")]
    leave = f"/settings/leave/{portal.world.public_ids['alice']}"
    forms = [visitor.get(leave).form(leave) for visitor in both]
    found = together(2, lambda number: both[number].post(*forms[number]).status)
    assert sorted(found) == [303, 422]  # type: ignore[type-var]
    assert list(roles(portal).values()).count("owner") == 1


def test_only_the_owner_says_who_shares(portal: Portal) -> None:
    crawl.prepare(portal)
    paths = crawl.addresses(portal)
    for who in ("bob", "vera", "theo", "mallory"):
        visitor = portal.visitor(who)
        guard = crawl.token_of(visitor)
        differs = crawl.watch(portal.app)
        wanted = 404 if who == "mallory" else 403
        for endpoint in ("people.person_list", "people.invite", "people.person"):
            assert visitor.get(paths[endpoint]).status == wanted
        for endpoint in ("people.invite_post", "people.person_post", "people.person_remove"):
            sent = visitor.post(paths[endpoint], guard | {"role": "owner", "invitee": GUEST})
            assert sent.status == wanted
        assert differs() == set()


def test_list_holds_names_and_roles_and_no_contacts(portal: Portal) -> None:
    alice = portal.visitor("alice")
    invite(portal, alice)
    page = alice.get(portal.path("people"))
    for words in ("Alice (you)", "Bob", "Payer", "Vera", "Viewer", GUEST):
        assert words in page.text
    assert "bob@example.net" not in page.text


STEPS = ("invite", "withdraw", "accept", "register", "owner", "viewer", "remove", "leave")


@settings(
    max_examples=12,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(order=st.lists(st.sampled_from(STEPS), min_size=2, max_size=7))
def test_steps_in_any_order_leave_an_owner_and_count_once(
    base: object, portal: Portal, order: list[str]
) -> None:
    base.reset()  # type: ignore[attr-defined]
    alice, bob = portal.visitor("alice"), portal.visitor("bob")
    link = "/invitation/nothing"
    leave = f"/settings/leave/{portal.world.public_ids['alice']}"
    for step in order:
        guard = crawl.token_of(alice)
        bobs = portal.path("people/bobcustomer")
        if step == "invite" and "alice" in roles(portal):
            sent = alice.post(
                portal.path("people/invite"), guard | {"invitee": GUEST, "role": "payer"}
            )
            if sent.status == 303:
                link = f"/invitation/{letters(portal, 'invitation')[-1][1]['token']}"
        elif step == "withdraw":
            for (public_id,) in portal.rows("SELECT public_id FROM invitations"):
                alice.post(portal.path(f"people/invitations/{public_id}/withdraw"), guard)
        elif step == "accept":
            bob.post(f"{link}/accept", crawl.token_of(bob))
        elif step == "register":
            guest = portal.visitor()
            guest.get("/sign-in")
            guest.post(link, NEW)
        elif step in ("owner", "viewer"):
            alice.post(bobs, guard | {"role": step})
        elif step == "remove":
            alice.post(f"{bobs}/remove", guard)
        elif step == "leave":
            alice.post(leave, guard)
        now = roles(portal)
        assert "owner" in now.values()
        used = portal.one("SELECT count(*) FROM invitations WHERE accepted_by_id IS NOT NULL")
        assert portal.one("SELECT count(*) FROM activity WHERE kind = 'person_joined'") == used


def test_password_is_asked_for_before_sharing(portal: Portal, tick: Tick) -> None:
    alice = portal.visitor("alice")
    tick(minutes=11)
    path = portal.path("people/invite")
    asked = alice.get(path)
    assert asked.location.startswith("/confirm?next=")
    alice.submit(alice.get(asked.location), "/confirm", password=PASSWORD)
    assert alice.get(path).status == 200
