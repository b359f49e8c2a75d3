"""The first page of an account, and the choice between several."""

from __future__ import annotations

import re
from datetime import timedelta

import pytest
from sqlalchemy import insert, select
from sqlalchemy.orm import Session

from blueprints.lines import holding
from core import clock
from core.db import unit_of_work
from models import Activity, HoldReason, Line
from tests import crawl
from tests.billing.methods.test_methods import save
from tests.conftest import Portal, Queries

AMOUNT = re.compile(r"[$€£]\s?\d|\d[.,]\d\d\b")


def add_membership(portal: Portal, customer: str, account: str, role: str) -> None:
    portal.execute(
        "INSERT INTO memberships (customer_id, account_id, role) VALUES (:customer, :account,"
        " :role)",
        customer=portal.world.customers[customer],
        account=portal.world.accounts[account],
        role=role,
    )


def hold(portal: Portal, reason: str) -> None:
    def work(session: Session) -> None:
        line_id = session.scalars(
            select(Line.id).where(Line.account_id == portal.world.accounts["alice"])
        ).one()
        holding.hold(session, [line_id], HoldReason(reason), is_noted=False)

    with portal.app.app_context():
        unit_of_work(work)


def test_owner_sees_what_is_due_and_the_button_first(portal: Portal) -> None:
    home = portal.visitor("alice").get(portal.path())
    assert home.select("h1")[0].text == "Your account"
    first = home.select("main .card")[0].text_content()
    assert "Amount due" in first
    assert "$211.12" in first
    assert "Overdue" in first
    assert home.select("main .card form button")[0].text_content() == "Pay $211.12"


def saved_button(portal: Portal, name: str = "alice") -> list[str]:
    page = portal.visitor(name).get(portal.path())
    return [button.text_content() for button in page.select("main button[form=pay]")]


def test_saved_method_is_the_second_choice_and_pays_at_once(portal: Portal) -> None:
    alice = portal.visitor("alice")
    assert saved_button(portal) == []
    saved = save(portal, alice)
    home = alice.get(portal.path())
    [button] = home.select("main button[form=pay]")
    assert (button.get("name"), button.get("value")) == ("method", saved)
    assert button.text_content() == "Pay it with Visa ending 4242"
    form = home.select("form#pay")[0]
    assert not [name for name in form.attrib if name.startswith("hx-") and name != "hx-ignore"]
    out = alice.submit(home, "/pay", method=saved)
    assert "Paid. Thank you." in alice.get(out.location).text
    assert "$211.12" in alice.get(out.location).text
    assert "Nothing to pay" in alice.get(portal.path()).text


def test_only_ones_own_method_that_has_not_expired_is_offered(portal: Portal) -> None:
    save(portal, portal.visitor("alice"))
    assert [saved_button(portal, name) for name in ("bob", "vera", "theo")] == [[], [], []]
    portal.execute("UPDATE payment_methods SET expires_on = '2026-06-01'")
    assert saved_button(portal) == []
    portal.execute("UPDATE payment_methods SET expires_on = NULL, gateway = 'another'")
    assert saved_button(portal) == []


def test_home_names_account_plans_line_and_last_payment(portal: Portal) -> None:
    text = portal.visitor("alice").get(portal.path()).text
    for words in ("Account 1001", "Fiber 300", "Local TV", "2 channels", "Home Voice"):
        assert words in text
    assert "Switched on" in text
    assert "300 Mbit/s" in text
    assert "ppp-alice" in text
    assert "Last payment Receipt Apr 9, 2026, 1:00 PM $105.56" in text
    assert "Payment of $105.56 received" in text


def test_text_of_others_is_printed_and_never_run(portal: Portal) -> None:
    page = portal.visitor("alice").get(portal.path())
    assert "<script>canary</script>{{7*7}}" in page.text
    assert "<script>canary" not in page.response.text


def test_viewer_sees_what_is_due_and_cannot_pay(portal: Portal) -> None:
    home = portal.visitor("vera").get(portal.path())
    assert "$211.12" in home.text
    assert "not pay for it" in home.text
    assert not home.select("main form")
    assert not home.select("a[href$='/billing/pay']")


def test_technical_contact_sees_plans_and_line_and_no_amount(portal: Portal) -> None:
    theo = portal.visitor("theo")
    for path in (portal.path(), "/accounts"):
        page = theo.get(path)
        assert not AMOUNT.search(page.text), page.text
        assert not page.select("a[href*='/billing/']")
        assert "Overdue" not in page.text
    home = theo.get(portal.path()).text
    assert "Fiber 300" in home
    assert "ppp-alice" in home
    assert "Payment of" not in home
    assert "Bill of" not in home
    assert "Sign out" in home


@pytest.mark.parametrize("change", ["closed", "held", "new"])
def test_technical_contact_sees_no_amount_in_any_state(portal: Portal, change: str) -> None:
    if change == "held":
        hold(portal, "unpaid")
    column = {"closed": "status = 'closed'", "new": "opened_on = '2026-06-10'"}.get(change)
    if column:
        portal.execute(f"UPDATE accounts SET {column}")
    page = portal.visitor("theo").get(portal.path())
    assert not AMOUNT.search(page.text)
    assert not page.select("a[href*='/billing/']")


def test_account_in_credit_says_so(portal: Portal) -> None:
    home = portal.visitor("rich").get(portal.path(account="rich"))
    assert "In credit" in home.text
    assert "$50.00" in home.text
    assert not home.select("main form")


def test_closed_account_says_so_and_can_still_be_paid(portal: Portal) -> None:
    portal.execute("UPDATE accounts SET status = 'closed'")
    home = portal.visitor("alice").get(portal.path())
    assert "This account is closed" in home.text
    assert "There is still something to pay" in home.text
    assert home.select("main form[action$='/pay']")


@pytest.mark.parametrize(
    ("reason", "words"),
    [
        ("unpaid", "a bill is unpaid"),
        ("staff", "We have switched your internet off"),
        ("pause", "paused, as you asked"),
        ("abuse", "security reason"),
        ("imported", "already off when we moved"),
    ],
)
def test_held_line_says_why(portal: Portal, reason: str, words: str) -> None:
    hold(portal, reason)
    text = portal.visitor("alice").get(portal.path()).text
    assert words in text
    assert "Switched off" in text


def test_held_line_and_what_is_overdue_take_fourteen_queries(
    portal: Portal, queries: Queries
) -> None:
    hold(portal, "unpaid")
    with clock.set_to(clock.now() + timedelta(days=30)):
        alice = portal.visitor("alice")
        assert "Overdue" in alice.get(portal.path()).text
        with queries:
            alice.get(portal.path())
    assert queries.count <= 14


def test_payment_under_way_replaces_the_pay_button(portal: Portal) -> None:
    alice = portal.visitor("alice")
    alice.submit(alice.get(portal.path()), "/pay")
    home = alice.get(portal.path())
    assert "Payment not finished" in home.text
    assert not home.select("main form")


def test_what_is_due_stays_there_while_a_part_of_it_is_being_paid(portal: Portal) -> None:
    alice = portal.visitor("alice")
    page = alice.get(portal.path("billing/pay"))
    assert alice.submit(page, "/pay", choice="other", amount="5").status == 303
    home = alice.get(portal.path())
    assert "Payment not finished" in home.text
    assert "$211.12 is due." in home.text
    assert "of it is overdue." in home.text


def test_unknown_kind_of_activity_gets_a_neutral_sentence(portal: Portal) -> None:
    with portal.app.app_context():
        unit_of_work(
            lambda session: session.execute(
                insert(Activity).values(
                    account_id=portal.world.accounts["alice"], kind="from_the_future", facts={},
                    happened_at=clock.now(), salt=b"s" * 16, digest=b"d" * 32,
                )
            )
        )  # fmt: skip
    assert "Something changed on this account" in portal.visitor("alice").get(portal.path()).text


def test_others_sign_ins_are_not_listed(portal: Portal) -> None:
    portal.visitor("bob")
    home = portal.visitor("alice").get(portal.path())
    assert home.text.count("Signed in") == 1


# Where to go ---------------------------------------------------------------------------------


def test_start_page_leads_to_sign_in_or_to_the_only_account(portal: Portal) -> None:
    assert portal.visitor().get("/").location == "/sign-in"
    assert portal.visitor("alice").get("/").location == portal.path()


def test_customer_of_several_accounts_chooses(portal: Portal) -> None:
    add_membership(portal, "alice", "rich", "viewer")
    alice = portal.visitor("alice")
    assert alice.get("/").location == "/accounts"
    doors = alice.get("/accounts").select("a.door")
    assert [door.get("href") for door in doors] == [portal.path(), portal.path(account="rich")]
    assert "$211.12" in doors[0].text_content()
    assert "in credit" in doors[1].text_content()
    home = alice.get(portal.path(account="rich"))
    assert home.select("a.who[href='/accounts']")


def test_role_counts_for_each_account_alone(portal: Portal) -> None:
    add_membership(portal, "theo", "rich", "owner")
    theo = portal.visitor("theo")
    doors = theo.get("/accounts").select("a.door")
    assert not AMOUNT.search(doors[0].text_content())
    assert "$50.00" in doors[1].text_content()
    assert theo.get(portal.path("billing/")).status == 403
    assert theo.get(portal.path("billing/", "rich")).status == 200


def test_customer_without_an_account_is_told_what_to_do(portal: Portal) -> None:
    mallory = portal.visitor("mallory")
    portal.execute(
        "DELETE FROM memberships WHERE customer_id = :id", id=portal.world.customers["mallory"]
    )
    assert mallory.get("/").location == "/accounts"
    assert "No account belongs to you yet" in mallory.get("/accounts").text


def test_two_tabs_with_two_accounts_do_not_mix(portal: Portal) -> None:
    add_membership(portal, "alice", "rich", "owner")
    alice = portal.visitor("alice")
    one, other = alice.get(portal.path()), alice.get(portal.path(account="rich"))
    assert alice.submit(one, "/pay").status == 303
    assert portal.rows("SELECT account_id FROM payments WHERE state = 'sent'") == [
        (portal.world.accounts["alice"],)
    ]
    assert "In credit" in other.text


def test_help_is_open_to_everyone_and_the_same(portal: Portal) -> None:
    assert (
        portal.visitor().get("/help").response.data == portal.visitor().get("/help").response.data
    )
    page = portal.visitor().get("/help")
    assert len(page.select("details")) == 10
    assert "help@pinecrest.example" in page.text


# The demo's mailbox --------------------------------------------------------------------------


def test_mailbox_shows_messages_and_escapes_them(portal: Portal) -> None:
    crawl.prepare(portal)
    (portal.settings.data / "mailbox" / "evil.eml").write_bytes(
        b"To: x\r\nSubject: <script>canary</script>\r\n\r\n<script>canary</script> {{7*7}}\r\n"
    )
    visitor = portal.visitor()
    assert "A message" in visitor.get("/demo/mailbox").text
    letter = visitor.get("/demo/mailbox/evil")
    assert "{{7*7}}" in letter.text
    assert "<script>" not in letter.response.text


@pytest.mark.parametrize("name", ["nothing", "..%2fsandbox-secret", "%00", "a-message.eml.eml"])
def test_mailbox_opens_nothing_else(portal: Portal, name: str) -> None:
    assert portal.visitor().get(f"/demo/mailbox/{name}").status == 404
