"""Saved cards and bank accounts: added at the gateway, named, chosen, removed, paid with."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from blueprints.billing.methods import expiring, listing, removing, settling
from core import clock
from core.db import db
from gateways.payments.base import GatewayState
from gateways.payments.errors import GatewayTimeout, GatewayUnknownKey
from gateways.payments.sandbox.methods import Behaviour, Saving
from gateways.payments.sandbox.store import Decision
from gateways.payments.signatures import signature_header
from tests.conftest import Portal
from tests.page import Page, Visitor

LIST = "billing/methods/"


def begin(portal: Portal, visitor: Visitor) -> tuple[str, str]:
    """Go on to the gateway's page; the method's public id and key."""
    page = visitor.get(portal.path("billing/methods/add"))
    out = visitor.submit(page, "/methods/add")
    assert out.status == 303
    assert out.location.startswith(f"{portal.gateway.origin}/save/")
    [row] = portal.rows("SELECT public_id, key FROM payment_methods ORDER BY id DESC LIMIT 1")
    return str(row[0]), str(row[1])


def save(portal: Portal, visitor: Visitor, saving: Saving = Saving.CARD) -> str:
    """Save a method as a customer does; its public id."""
    public_id, key = begin(portal, visitor)
    portal.bank.choose_method(key, saving)
    back = visitor.get(f"/methods/{public_id}/return")
    assert back.status == 303
    return public_id


def state_of(portal: Portal, public_id: str) -> str:
    return str(portal.one("SELECT state FROM payment_methods WHERE public_id = :id", id=public_id))


def work(portal: Portal) -> None:
    with portal.app.app_context():
        settling.ask_due(portal.gateway)
        db.session.remove()


def pay_with(portal: Portal, visitor: Visitor, public_id: str) -> Page:
    page = visitor.get(portal.path("billing/pay"))
    return visitor.submit(page, "/pay", choice="other", amount="12.34", method=public_id)


# Adding ---------------------------------------------------------------------------------------


def test_customer_saves_a_card_and_pays_with_it(portal: Portal) -> None:
    alice = portal.visitor("alice")
    assert "Nothing is saved yet" in alice.get(portal.path(LIST)).text
    public_id, key = begin(portal, alice)
    portal.bank.choose_method(key, Saving.CARD)
    back = alice.get(f"/methods/{public_id}/return")
    page = alice.get(back.location)
    assert "It is saved." in page.text
    assert "Visa ending 4242" in page.text
    pay = alice.get(portal.path("billing/pay"))
    assert "Visa ending 4242" in pay.text
    assert pay.form("/pay")[1]["method"] == public_id
    paid = alice.submit(pay, "/pay", choice="other", amount="12.34")
    receipt = alice.get(paid.location)
    assert "Paid. Thank you." in receipt.text
    assert "Visa ending 4242" in receipt.text
    [(state, method_id)] = portal.rows("SELECT state, method_id FROM payments ORDER BY id DESC"
                                       " LIMIT 1")  # fmt: skip
    assert state == "succeeded"
    assert method_id is not None


def test_adding_is_announced_and_can_be_read(portal: Portal) -> None:
    alice = portal.visitor("alice")
    save(portal, alice)
    assert "A card or bank account was saved for payments" in alice.get("/activity").text
    kinds = [kind for (kind,) in portal.rows("SELECT kind FROM messages WHERE channel = 'email'")]
    assert "security" in kinds


def test_form_sent_twice_saves_once(portal: Portal) -> None:
    alice = portal.visitor("alice")
    page = alice.get(portal.path("billing/methods/add"))
    first = alice.submit(page, "/methods/add")
    second = alice.submit(page, "/methods/add")
    assert first.location == second.location
    assert portal.one("SELECT count(*) FROM payment_methods") == 1


@pytest.mark.parametrize(
    ("saving", "words"),
    [(Saving.REFUSE, "Nothing was saved."), (Saving.CANCEL, "Nothing was saved.")],
)
def test_what_was_not_saved_is_said(portal: Portal, saving: Saving, words: str) -> None:
    alice = portal.visitor("alice")
    public_id, key = begin(portal, alice)
    portal.bank.choose_method(key, saving)
    page = alice.get(alice.get(f"/methods/{public_id}/return").location)
    assert words in page.text
    assert state_of(portal, public_id) == "failed"
    assert ("did not accept" in page.text) == (saving is Saving.REFUSE)


def test_the_worker_asks_when_nobody_came_back(portal: Portal, tick: Callable[..., None]) -> None:
    alice = portal.visitor("alice")
    public_id, key = begin(portal, alice)
    portal.bank.choose_method(key, Saving.SILENT)
    work(portal)
    assert state_of(portal, public_id) == "adding"
    tick(seconds=30)
    work(portal)
    assert state_of(portal, public_id) == "usable"


def test_a_page_that_nobody_used_ends(portal: Portal, tick: Callable[..., None]) -> None:
    alice = portal.visitor("alice")
    public_id, _ = begin(portal, alice)
    for _ in range(20):
        tick(minutes=10)
        work(portal)
    assert state_of(portal, public_id) == "failed"


@pytest.mark.parametrize("lost", ["before", "after"])
def test_a_lost_answer_is_said_and_pressed_again(
    portal: Portal, monkeypatch: pytest.MonkeyPatch, lost: str, tick: Callable[..., None]
) -> None:
    whole = portal.gateway.save_method

    def loses(order):
        if lost == "after":
            whole(order)
        raise GatewayTimeout("the line broke")

    alice = portal.visitor("alice")
    page = alice.get(portal.path("billing/methods/add"))
    monkeypatch.setattr(portal.gateway, "save_method", loses)
    answer = alice.submit(page, "/methods/add")
    assert answer.status == 503
    assert "did not answer" in answer.text
    monkeypatch.setattr(portal.gateway, "save_method", whole)
    again = alice.submit(page, "/methods/add")
    assert again.status == 303
    assert again.location.startswith(f"{portal.gateway.origin}/save/")
    assert portal.one("SELECT count(*) FROM payment_methods") == 1


def test_a_gateway_that_never_saw_it_ends_it(portal: Portal, tick: Callable[..., None],
                                             monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    alice = portal.visitor("alice")
    public_id, _ = begin(portal, alice)
    portal.execute("UPDATE payment_methods SET hosted_url = NULL")

    def never(key):
        raise GatewayUnknownKey(key)

    monkeypatch.setattr(portal.gateway, "ask_method", never)
    tick(seconds=30)
    work(portal)
    assert state_of(portal, public_id) == "adding"
    tick(minutes=2)
    work(portal)
    assert state_of(portal, public_id) == "failed"


def test_another_accounts_method_is_not_believed(
    portal: Portal, caplog: pytest.LogCaptureFixture
) -> None:
    alice = portal.visitor("alice")
    public_id, key = begin(portal, alice)
    portal.bank.choose_method(key, Saving.CARD)
    portal.execute("UPDATE payment_methods SET account_id = :id", id=portal.world.accounts["rich"])
    alice.get(f"/methods/{public_id}/return")
    assert state_of(portal, public_id) == "adding"
    assert "differs from our intent" in caplog.text


def test_too_many_are_not_begun(portal: Portal) -> None:
    alice = portal.visitor("alice")
    for _ in range(listing.MOST_BEGUN_AN_HOUR):
        begin(portal, alice)
    page = alice.get(portal.path("billing/methods/add"))
    answer = alice.submit(page, "/methods/add")
    assert answer.status == 422
    assert "Remove one first" in answer.text


def test_a_stranger_who_opens_the_return_learns_nothing(portal: Portal) -> None:
    public_id, key = begin(portal, portal.visitor("alice"))
    portal.bank.choose_method(key, Saving.CARD)
    for name in (None, "mallory", "bob"):
        page = portal.visitor(name).get(f"/methods/{public_id}/return")
        assert page.status == 200
        assert "It is saved" in page.text
        assert "4242" not in page.text
    assert portal.visitor().get("/methods/nothing/return").status == 404
    assert portal.visitor().post(f"/methods/{public_id}/return", {}).status == 200


# One's own ------------------------------------------------------------------------------------


def test_nobody_else_sees_or_uses_it(portal: Portal) -> None:
    public_id = save(portal, portal.visitor("alice"))
    bob = portal.visitor("bob")
    assert "4242" not in bob.get(portal.path(LIST)).text
    assert "4242" not in bob.get(portal.path("billing/pay")).text
    for rest in ("", "/remove"):
        assert bob.get(portal.path(f"billing/methods/{public_id}{rest}")).status == 404
    answer = pay_with(portal, bob, public_id)
    assert answer.status == 422
    assert "no longer saved" in answer.text
    assert portal.one("SELECT count(*) FROM payments WHERE method_id IS NOT NULL") == 0


def test_naming_and_choosing(portal: Portal) -> None:
    alice = portal.visitor("alice")
    first, second = save(portal, alice), save(portal, alice, Saving.BANK)
    page = alice.get(portal.path(f"billing/methods/{second}"))
    named = alice.submit(page, f"/methods/{second}", name="  Household <b>  ")
    assert "Household <b> (Bank account ending 6789)" in alice.get(named.location).text
    assert alice.get(portal.path("billing/pay")).form("/pay")[1]["method"] == first
    page = alice.get(portal.path(f"billing/methods/{second}"))
    chosen = alice.submit(page, "/default")
    assert "offered first" in alice.get(chosen.location).text
    assert alice.get(portal.path("billing/pay")).form("/pay")[1]["method"] == second
    assert portal.one("SELECT count(*) FROM payment_methods WHERE is_default") == 1
    bad = alice.submit(page, f"/methods/{second}", name="x" * 61)
    assert bad.status == 422
    assert "at most 60" in bad.text


def test_removing_ends_it_here_and_at_the_gateway(portal: Portal) -> None:
    alice = portal.visitor("alice")
    first, second = save(portal, alice), save(portal, alice)
    [(reference,)] = portal.rows(
        "SELECT gateway_reference FROM payment_methods WHERE public_id = :id", id=first
    )
    page = alice.get(portal.path(f"billing/methods/{first}/remove"))
    assert "Nothing is taken from it any more" in page.text
    done = alice.submit(page, "/remove")
    assert "It is removed." in alice.get(done.location).text
    work(portal)
    method = portal.bank.find_method(reference)
    assert method is not None
    assert method.state is GatewayState.CANCELLED
    assert portal.rows("SELECT gateway_reference, title, name, ask_at FROM payment_methods"
                       " WHERE public_id = :id", id=first) == [(None, "", "", None)]  # fmt: skip
    assert portal.one("SELECT is_default FROM payment_methods WHERE public_id = :id", id=second)
    assert pay_with(portal, alice, first).status == 422


def test_a_gateway_that_is_away_forgets_later(
    portal: Portal, monkeypatch: pytest.MonkeyPatch, tick: Callable[..., None]
) -> None:
    alice = portal.visitor("alice")
    public_id = save(portal, alice)
    alice.submit(alice.get(portal.path(f"billing/methods/{public_id}/remove")), "/remove")
    whole = portal.gateway.forget_method

    def away(_reference):
        raise GatewayTimeout("away")

    monkeypatch.setattr(portal.gateway, "forget_method", away)
    work(portal)
    monkeypatch.setattr(portal.gateway, "forget_method", whole)
    assert portal.one("SELECT gateway_reference FROM payment_methods") is not None
    tick(minutes=11)
    work(portal)
    assert portal.one("SELECT gateway_reference FROM payment_methods") is None


def test_what_else_follows_is_called_in_the_same_transaction(
    portal: Portal, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[tuple[int, int]] = []

    def follow(session, method_id, account_id):
        told.append((method_id, account_id))

    monkeypatch.setattr(removing, "on_removed", [follow])
    alice = portal.visitor("alice")
    public_id = save(portal, alice)
    alice.submit(alice.get(portal.path(f"billing/methods/{public_id}/remove")), "/remove")
    [(method_id,)] = portal.rows("SELECT id FROM payment_methods")
    assert told == [(method_id, portal.world.accounts["alice"])]


def test_whoever_leaves_the_account_leaves_no_method(portal: Portal) -> None:
    bob = portal.visitor("bob")
    public_id = save(portal, bob)
    page = bob.get(f"/settings/leave/{portal.world.public_ids['alice']}")
    bob.submit(page, portal.world.public_ids["alice"])
    assert state_of(portal, public_id) == "removed"


def test_removing_asks_for_the_password_again(portal: Portal, tick: Callable[..., None]) -> None:
    alice = portal.visitor("alice")
    public_id = save(portal, alice)
    tick(minutes=11)
    for rest in ("add", f"{public_id}/remove"):
        page = alice.get(portal.path(f"billing/methods/{rest}"))
        assert page.status == 303
        assert page.location.startswith("/confirm")


# What becomes of it later ----------------------------------------------------------------------


def notice(portal: Portal, key: str, event: str) -> None:
    body = f'{{"id": "{event}", "key": "{key}", "reference": "r"}}'.encode()
    header = signature_header(body, [portal.notice_secret], clock.now())
    answer = portal.app.test_client().post(
        "/webhooks/payments/sandbox",
        data=body,
        headers={"Sandbox-Signature": header},
        base_url="http://127.0.0.1:8000",
    )
    assert (answer.status_code, answer.text) == (200, "ok\n")


def test_a_notice_brings_what_changed(portal: Portal) -> None:
    alice = portal.visitor("alice")
    public_id = save(portal, alice)
    [(reference, key)] = portal.rows("SELECT gateway_reference, key FROM payment_methods")
    portal.bank.set_behaviour(reference, Behaviour.EXPIRES)
    for _ in range(2):
        notice(portal, key, "evt_expired")
    assert "Expired" in alice.get(portal.path(LIST)).text
    assert "4242" not in alice.get(portal.path("billing/pay")).text
    assert portal.one("SELECT count(*) FROM gateway_notices WHERE event_id = 'evt_expired'") == 1
    assert state_of(portal, public_id) == "usable"


def test_one_that_the_gateway_forgot_is_removed_and_told(portal: Portal) -> None:
    alice = portal.visitor("alice")
    public_id = save(portal, alice)
    [(reference, key)] = portal.rows("SELECT gateway_reference, key FROM payment_methods")
    portal.bank.forget_method(reference)
    notice(portal, key, "evt_gone")
    assert state_of(portal, public_id) == "removed"
    assert "was removed" in alice.get("/activity").text


def test_a_card_that_expires_soon_is_told_once(portal: Portal, tick: Callable[..., None]) -> None:
    alice = portal.visitor("alice")
    save(portal, alice, Saving.EXPIRING)
    assert "Expires soon" in alice.get(portal.path(LIST)).text
    with portal.app.app_context():
        watch = expiring.ExpiryWatch()
        assert [watch(), watch()] == [1, 0]
        db.session.remove()
    tick(hours=2)
    with portal.app.app_context():
        assert watch() == 0
        db.session.remove()
    [(facts,)] = portal.rows("SELECT facts FROM messages WHERE kind = 'method_expiring'")
    assert "2026-06-30" in str(facts)


def test_a_card_with_years_to_go_is_not_told_of(portal: Portal) -> None:
    save(portal, portal.visitor("alice"))
    with portal.app.app_context():
        assert expiring.tell_expiring() == 0
        db.session.remove()


# Paying ---------------------------------------------------------------------------------------


def test_a_card_that_declines_says_so_at_once(portal: Portal) -> None:
    alice = portal.visitor("alice")
    public_id = save(portal, alice, Saving.DECLINING)
    page = alice.get(pay_with(portal, alice, public_id).location)
    assert "Declined: nothing was paid" in page.text
    assert "not enough money" in page.text


def test_a_card_that_must_be_confirmed_leads_to_its_bank(portal: Portal) -> None:
    alice = portal.visitor("alice")
    public_id = save(portal, alice, Saving.CHECKED)
    out = pay_with(portal, alice, public_id)
    assert out.location.startswith(f"{portal.gateway.origin}/pay/")
    [(key, payment)] = portal.rows("SELECT key, public_id FROM payments ORDER BY id DESC LIMIT 1")
    portal.bank.decide(key, Decision.CONFIRM)
    page = alice.get(alice.get(f"/pay/{payment}/return").location)
    assert "Paid. Thank you." in page.text


def test_a_pay_form_sent_twice_takes_the_money_once(portal: Portal) -> None:
    alice = portal.visitor("alice")
    public_id = save(portal, alice)
    page = alice.get(portal.path("billing/pay"))
    answers = [
        alice.submit(page, "/pay", choice="other", amount="12.34", method=public_id)
        for _ in range(3)
    ]
    assert len({answer.location for answer in answers}) == 1
    assert len([b for b in portal.bank.list_after(0, 99) if b.payment.is_charge]) == 1


def test_another_way_is_the_hosted_page(portal: Portal) -> None:
    alice = portal.visitor("alice")
    save(portal, alice)
    out = pay_with(portal, alice, "")
    assert out.location.startswith(f"{portal.gateway.origin}/pay/")
    assert portal.one("SELECT count(*) FROM payments WHERE method_id IS NOT NULL") == 0


def test_expiry_is_counted_by_the_isps_day(portal: Portal) -> None:
    alice = portal.visitor("alice")
    save(portal, alice, Saving.EXPIRING)
    portal.execute("UPDATE payment_methods SET expires_on = '2026-06-19'")
    assert "Expired" in alice.get(portal.path(LIST)).text
