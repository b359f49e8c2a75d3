"""Giving a payment back: by the payment service, by hand, by two people; what each side reads."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from blueprints.billing import refunding, taken_back
from blueprints.billing.verify import find_faults
from core import clock, postman
from core.db import db, reading
from gateways.payments.base import RefundTruth
from gateways.payments.errors import GatewayRefused, GatewayTimeout
from gateways.payments.sandbox.store import Decision, Reversing
from models import Message
from tests.conftest import Portal
from tests.page import Page
from tests.staff.money.test_desk import balance, path, send


def pay(portal: Portal, amount: str = "60.00") -> str:
    """A payment of alice's by the payment service that has arrived."""
    alice = portal.visitor("alice")
    page = alice.get(portal.path("billing/pay"))
    alice.submit(page, "/pay", choice="other", amount=amount)
    [(key, public_id)] = portal.rows("SELECT key, public_id FROM payments WHERE state = 'sent'")
    portal.bank.decide(key, Decision.PAY)
    alice.get(f"/pay/{public_id}/return")
    assert portal.one("SELECT state FROM payments WHERE public_id = :id", id=public_id) == (
        "succeeded"
    )
    return str(public_id)


def hand_over(portal: Portal, **typed: str) -> str:
    """A payment of alice's that staff took, or booked from the bank; its public id."""
    out = send(portal.visitor("ben"), path(portal, "payments/new"), **typed)
    return out.location.split("/")[-2]


def ask(portal: Portal, payment: str, amount: str, who: str = "ben", **typed: str) -> Page:
    at = path(portal, f"payments/{payment}")
    return send(portal.visitor(who), at, **({"amount": amount, "reason": "Paid twice"} | typed))


def states(portal: Portal) -> list[str]:
    return [row[0] for row in portal.rows("SELECT state FROM payment_reversals ORDER BY id")]


def letters(portal: Portal) -> list[str]:
    with portal.app.app_context():
        found = db.session.query(Message).filter_by(kind="payment_reversed").order_by(Message.id)
        return [postman.compose(each, "https://portal.example").text for each in found]


@pytest.fixture(autouse=True)
def books_add_up(portal: Portal) -> Any:
    yield
    with portal.app.app_context(), reading() as session:
        assert list(find_faults(session)) == []


# By the payment service -----------------------------------------------------------------------


def test_refund_goes_out_and_both_sides_read_it(portal: Portal) -> None:
    ben, payment, owed = portal.visitor("ben"), pay(portal), balance(portal)
    [button] = [
        link
        for link in ben.get(path(portal)).select("main a")
        if "payment back" in link.text_content()
    ]
    listed = ben.get(button.get("href"))
    assert "$60.00" in listed.text
    href = listed.select("main table a")[0].get("href")
    assert href.endswith(payment)
    page = ben.get(href)
    assert page.form(href)[1]["amount"] == "60.00"
    out = ben.submit(page, href, amount="45.50", reason="Paid twice")
    after = ben.get(out.location)
    assert (out.status, out.location) == (303, href)
    for words in ("Given back", "$45.50", "Paid twice", "Ben", "At most $14.50"):
        assert words in after.text
    assert balance(portal) == owed + 4_550
    rows = [row.text_content() for row in ben.get(path(portal)).select("#statement tbody tr")]
    assert "Refund" in rows[0]
    assert "Paid twice" in rows[0]
    alice = portal.visitor("alice")
    page = alice.get(portal.path(f"billing/payments/{payment}"))
    assert "Given back" in page.text
    assert "Paid twice" not in page.text
    assert "$45.50 of a payment given back" in alice.get("/activity").text
    [letter] = letters(portal)
    assert "given back $45.50" in letter
    assert "few banking days" in letter


def test_refund_that_comes_back_is_said_with_what_to_do(portal: Portal) -> None:
    ben, payment = portal.visitor("ben"), pay(portal)
    ask(portal, payment, "45.50")
    key = portal.one("SELECT key FROM payments WHERE public_id = :id", id=payment)
    portal.bank.reverse(key, Reversing.REFUND_FAILED)
    with portal.app.app_context():
        reconciled = taken_back.learn(
            portal.one("SELECT id FROM payments WHERE public_id = :id", id=payment), portal.gateway
        )
        db.session.remove()
    assert reconciled == 1
    at = path(portal, f"payments/{payment}")
    page = ben.get(at)
    for words in (
        "$45.50 came back and is still owed to the customer",
        "give it back here",
        "use the credit up by a charge",
        "Refund that came back",
        "The customer's bank sent the refund back.",
        "At most $60.00",
    ):
        assert words in page.text
    assert page.form(at)[1]["amount"] == "45.50"
    pills = [pill.text_content().strip() for pill in page.select("main .rows .pill")]
    assert pills == ["Sent back by the bank"] * 2
    listed = ben.get("/staff/approvals")
    assert "Refunds that have not arrived" in listed.text
    assert "$45.50" in listed.text
    rows = [row.text_content() for row in ben.get(path(portal)).select("#statement tbody tr")]
    assert "Refund that came back" in rows[0]
    ask(portal, payment, "45.50")
    assert "still owed" not in ben.get(at).text


def test_form_pressed_twice_counts_once(portal: Portal) -> None:
    ben, payment = portal.visitor("ben"), pay(portal)
    page = ben.get(path(portal, f"payments/{payment}"))
    typed = {"amount": "10.00", "reason": "Paid twice"}
    assert ben.submit(page, payment, **typed).status == 303
    assert ben.submit(page, payment, **typed).status == 303
    assert states(portal) == ["succeeded"]
    for changed in ({"amount": "11.00"}, {"reason": "Something else"}):
        assert ben.submit(page, payment, **(typed | changed)).status == 409
    assert states(portal) == ["succeeded"]


def test_money_goes_back_only_after_the_password(portal: Portal) -> None:
    ben, payment = portal.visitor("ben"), pay(portal)
    page = ben.get(path(portal, f"payments/{payment}"))
    portal.execute("UPDATE sessions SET password_at = :old", old=clock.now() - timedelta(hours=1))
    out = ben.submit(page, payment, amount="10.00", reason="Paid twice")
    assert out.location.startswith("/confirm?")
    assert states(portal) == []


@pytest.mark.parametrize(
    ("typed", "words"),
    [
        ({"amount": "60.01"}, "Of this payment $60.00 can still be given back"),
        ({"amount": ""}, "Enter the amount like 19.99"),
        ({"amount": "-1"}, "Enter the amount like 19.99"),
        ({"amount": "0"}, "Enter the amount like 19.99"),
        ({"amount": "5", "reason": ""}, "Say why"),
        ({"amount": "5", "reason": "no"}, "Say why"),
    ],
)
def test_bad_input_is_answered_and_nothing_goes_back(
    portal: Portal, typed: dict[str, str], words: str
) -> None:
    page = ask(portal, pay(portal), **typed)
    assert page.status == 422
    assert words in page.text
    assert states(portal) == []


def test_silent_gateway_is_said_to_be_unknown(
    portal: Portal, monkeypatch: pytest.MonkeyPatch
) -> None:
    payment = pay(portal)
    ben = portal.visitor("ben")

    def silent(*_of: Any) -> RefundTruth:
        raise GatewayTimeout("no answer")

    with monkeypatch.context() as patch:
        patch.setattr(portal.gateway, "refund", silent)
        page = ben.get(ask(portal, payment, "10.00").location)
    assert "Not known yet" in page.text
    assert "do not give it back a second time" in page.text
    assert "Look again" in page.text
    listed = ben.get("/staff/approvals")
    assert "Refunds that have not arrived" in listed.text
    assert listed.select(f"main a[href$='{payment}']")
    assert "Being given back" in portal.visitor("alice").get(
        portal.path(f"billing/payments/{payment}")
    ).text  # fmt: skip
    assert letters(portal) == []
    with portal.app.app_context(), clock.set_to(clock.now() + timedelta(minutes=5)):
        assert refunding.ask_due(portal.gateway) == 1
    assert states(portal) == ["succeeded"]
    assert "Not known yet" not in ben.get(path(portal, f"payments/{payment}")).text
    assert "Refunds that have not arrived" not in ben.get("/staff/approvals").text


def test_what_the_gateway_refuses_is_said_with_its_reason(
    portal: Portal, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuses(*_of: Any) -> RefundTruth:
        raise GatewayRefused("closed", "The card is closed.")

    payment, owed = pay(portal), balance(portal)
    monkeypatch.setattr(portal.gateway, "refund", refuses)
    page = portal.visitor("ben").get(ask(portal, payment, "10.00").location)
    for words in ("Declined", "Nothing was given back", "The card is closed.", "At most $60.00"):
        assert words in page.text
    assert balance(portal) == owed
    assert letters(portal) == []
    assert "Declined" in portal.visitor("ada").get("/staff/approvals").text


def test_payment_that_has_not_arrived_cannot_go_back(portal: Portal) -> None:
    alice = portal.visitor("alice")
    alice.submit(alice.get(portal.path("billing/pay")), "/pay", choice="other", amount="60.00")
    payment = portal.one("SELECT public_id FROM payments WHERE state = 'sent'")
    ben = portal.visitor("ben")
    page = ben.get(path(portal, f"payments/{payment}"))
    assert "Not finished" in page.text
    assert not page.select(f"form[action$='{payment}']")
    token = {"form_key": ben.get(path(portal, "credit")).form("/credit")[1]["form_key"]}
    token |= {"csrf_token": ben.get(path(portal, "credit")).form("/credit")[1]["csrf_token"]}
    typed = {"amount": "5.00", "reason": "Paid twice"}
    refused = ben.post(path(portal, f"payments/{payment}"), token | typed)
    assert refused.status == 422
    assert "Only money that has arrived goes back" in refused.text


# Two people -----------------------------------------------------------------------------------


def test_refund_above_the_limit_is_approved_by_another(portal: Portal) -> None:
    ben, ada = portal.visitor("ben"), portal.visitor("ada")
    payment, owed = pay(portal, "150.00"), balance(portal)
    page = ben.get(ask(portal, payment, "120.00").location)
    assert "Waits for a second member" in page.text
    assert "At most $30.00" in page.text
    assert "$120.00" in ben.get(path(portal)).select("aside, .cols")[0].text_content()
    listed = ada.get("/staff/approvals")
    assert "Refund" in listed.text
    href = listed.select("main .rows a")[0].get("href")
    own = ben.get(href)
    assert "Somebody else has to approve" in own.text
    assert ben.submit(own, href, decision="yes").status == 409
    assert balance(portal) == owed
    shown = ada.get(href)
    assert "Refund of $120.00" in shown.text
    out = ada.submit(shown, href, decision="yes")
    assert ada.submit(shown, href, decision="yes").location == out.location
    after = ada.get(out.location)
    for words in ("Given back", "approved by", "Ada"):
        assert words in after.text
    assert balance(portal) == owed + 12_000
    assert ada.get(href).status == 404
    assert "Nothing waits" in ada.get("/staff/approvals").text


def test_refused_refund_leaves_the_payment_whole(portal: Portal) -> None:
    ada, payment = portal.visitor("ada"), pay(portal, "150.00")
    ask(portal, payment, "120.00")
    href = ada.get("/staff/approvals").select("main .rows a")[0].get("href")
    out = ada.submit(ada.get(href), href, decision="no")
    after = ada.get(out.location)
    for words in ("refused by", "Ada", "At most $150.00"):
        assert words in after.text
    assert states(portal) == ["refused"]
    assert "Given back" not in portal.visitor("alice").get(
        portal.path(f"billing/payments/{payment}")
    ).text  # fmt: skip


# By hand --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "said", "told"), [("cash", "in cash", "in cash"), ("cheque", "by cheque", "by cheque")]
)
def test_counter_payment_is_handed_back(portal: Portal, kind: str, said: str, told: str) -> None:
    payment = hand_over(portal, amount="40.00", kind=kind)
    owed, ben = balance(portal), portal.visitor("ben")
    assert said in ben.get(path(portal, f"payments/{payment}")).text
    assert "Given back" in ben.get(ask(portal, payment, "15.00").location).text
    assert balance(portal) == owed + 1_500
    in_drawer = "SELECT sum(amount_minor) FROM journal_lines WHERE ledger = :kind"
    assert portal.one(in_drawer, kind=kind) == 2_500
    [letter] = letters(portal)
    assert told in letter
    assert "$15.00" in letter


def test_cash_above_the_limit_is_booked_when_it_is_approved(portal: Portal) -> None:
    payment = hand_over(portal, amount="200.00", kind="cash")
    owed, ada = balance(portal), portal.visitor("ada")
    ask(portal, payment, "150.00")
    assert balance(portal) == owed
    href = ada.get("/staff/approvals").select("main .rows a")[0].get("href")
    ada.submit(ada.get(href), href, decision="yes")
    assert balance(portal) == owed + 15_000
    assert states(portal) == ["succeeded"]


def test_voucher_is_not_given_back_in_money(portal: Portal) -> None:
    payment = hand_over(portal, amount="40.00", kind="cash")
    portal.execute("UPDATE payments SET gateway = 'voucher' WHERE public_id = :id", id=payment)
    ben = portal.visitor("ben")
    page = ben.get(path(portal, f"payments/{payment}"))
    assert "came as a voucher" in page.text
    assert not page.select(f"form[action$='{payment}']")
    assert payment not in ben.get(path(portal, "refund")).response.text
    portal.execute("UPDATE payments SET gateway = 'counter' WHERE public_id = :id", id=payment)


# Who may --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "status"), [("sue", 403), ("tess", 403), ("alice", 404)])
def test_only_who_handles_money_gives_it_back(portal: Portal, name: str, status: int) -> None:
    payment = pay(portal)
    for rest in ("refund", f"payments/{payment}"):
        assert portal.visitor(name).get(path(portal, rest)).status == status
    assert portal.visitor("ada").get(path(portal, f"payments/{payment}", "mallory")).status == 404
