"""Staff's pages about money: statement, counter, credits, charges, approvals, vouchers."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from datetime import timedelta

import pytest

from blueprints.billing.vouchers import codes
from core import clock
from core.downloads import BYTE_ORDER_MARK
from tests.conftest import Portal, Queries
from tests.page import FRAGMENT, Page, Visitor


def path(portal: Portal, rest: str = "money", name: str = "alice") -> str:
    return f"/staff/accounts/{portal.world.public_ids[name]}/{rest}"


def balance(portal: Portal, name: str = "alice") -> int:
    return int(
        portal.one(
            "SELECT balance_minor FROM accounts WHERE id = :id", id=portal.world.accounts[name]
        )
    )


def send(visitor: Visitor, at: str, **values: str) -> Page:
    page = visitor.get(at)
    return visitor.submit(page, at.rsplit("/", 1)[1], **values)


# The statement --------------------------------------------------------------------------------


def test_statement_reads_like_one(portal: Portal, queries: Queries) -> None:
    ben = portal.visitor("ben")
    with queries:
        page = ben.get(path(portal))
    assert page.status == 200
    assert queries.count <= 15
    rows = [
        [" ".join(cell.text_content().split()) for cell in row.cssselect("td, th")]
        for row in page.select("#statement tbody tr")
    ]
    assert len(rows) == 6
    assert rows[0][1] == "Invoice 2026-000007"
    assert rows[-1][1] == "Invoice 2026-000001"
    assert rows[0][4] == f"${balance(portal) / 100:.2f}"
    assert any("Payment" in row[1] and row[3].startswith("-$") for row in rows)
    assert portal.one("SELECT count(*) FROM data_accesses WHERE fields LIKE '%balance%'") >= 1


def test_statement_is_paged_and_its_page_is_a_fragment(portal: Portal) -> None:
    portal.execute(
        "INSERT INTO charges (public_id, account_id, is_credit, kind, description, reason,"
        " amount_minor, created_at) VALUES ('c', :id, :no, '', 'Visit', 'Asked', 500, :now)",
        id=portal.world.accounts["alice"],
        no=False,
        now=clock.now(),
    )
    ben = portal.visitor("ben")
    for number in range(16):
        send(ben, path(portal, "payments/new"), amount=f"{number + 1}.00", kind="cash")
    first = ben.get(path(portal))
    assert "Page 1 of 2" in first.text
    assert "Visit" in first.text
    second = ben.get(path(portal), headers=FRAGMENT, page=2)
    assert "Page 2 of 2" in second.text
    assert "Visit" not in second.text
    assert ben.get(path(portal), page=99).status == 200


@pytest.mark.parametrize(("name", "status"), [("sue", 403), ("tess", 403), ("alice", 404)])
def test_only_who_handles_money_sees_it(portal: Portal, name: str, status: int) -> None:
    assert portal.visitor(name).get(path(portal)).status == status
    assert portal.visitor("ada").get("/staff/accounts/nothing/money").status == 404


# The counter ----------------------------------------------------------------------------------


def test_cash_is_taken_with_a_receipt_on_paper(portal: Portal) -> None:
    ben = portal.visitor("ben")
    owed = balance(portal)
    page = ben.get(path(portal, "payments/new"))
    assert page.form("/new")[1]["amount"] == f"{owed / 100:.2f}"
    typed = {"amount": "40.00", "kind": "cheque", "note": "no. 17, card 4111 1111 1111 1111"}
    out = ben.submit(page, "/new", **typed)
    again = ben.submit(page, "/new", **typed)
    assert (out.status, again.location) == (303, out.location)
    assert balance(portal) == owed - 4_000
    receipt = ben.get(out.location)
    for words in ("$40.00", "Cheque", "no. 17", "•••• 1111", "Ben", "1001", "R-"):
        assert words in receipt.text
    assert receipt.select("link[href*='css/staff']")
    statement = ben.get(path(portal))
    assert "Payment: Cheque" in statement.text
    alice = portal.visitor("alice")
    assert "Cheque" in alice.get(portal.path("billing/payments/")).text


def test_amount_with_a_slip_is_asked_about_and_taken_when_it_is_right(portal: Portal) -> None:
    ben, owed = portal.visitor("ben"), balance(portal)
    page = ben.get(path(portal, "payments/new"))
    assert not page.select("#is_sure")
    asked = ben.submit(page, "/new", amount="99,999", kind="cash")
    assert asked.status == 422
    assert "This is much more than is due." in asked.text
    assert balance(portal) == owed
    out = ben.submit(asked, "/new", amount="99,999", kind="cash", is_sure="y")
    assert out.status == 303
    assert balance(portal) == owed - 9_999_900


def test_cash_is_taken_by_whoever_gave_the_password_lately(
    portal: Portal, tick: Callable[..., None]
) -> None:
    ben = portal.visitor("ben")
    page = ben.get(path(portal, "payments/new"))
    tick(minutes=11)
    out = ben.submit(page, "/new", amount="5", kind="cash")
    assert out.location.startswith("/confirm?")
    assert portal.one("SELECT count(*) FROM payments WHERE gateway = 'counter'") == 0


def test_receipt_is_in_the_language_of_the_account(portal: Portal) -> None:
    portal.execute("UPDATE accounts SET language = 'es' WHERE number = '1001'")
    ben = portal.visitor("ben")
    out = send(ben, path(portal, "payments/new"), amount="5", kind="cash")
    receipt = ben.get(out.location)
    assert receipt.select("html")[0].get("lang") == "es"
    assert "Efectivo" in receipt.text
    assert "Print the receipt" in receipt.text


@pytest.mark.parametrize(
    ("typed", "words"),
    [
        ({"amount": "", "kind": "cash"}, "Enter the amount like 19.99"),
        ({"amount": "-5", "kind": "cash"}, "Enter the amount like 19.99"),
        ({"amount": "0", "kind": "cash"}, "Enter the amount like 19.99"),
        ({"amount": "5"}, "Choose what they pay with"),
        ({"amount": "5", "kind": "gold"}, "valid choice"),
        ({"amount": "100000.01", "kind": "cash"}, "Enter an amount from $0.01 to $100,000.00"),
        ({"amount": "5", "kind": "cash", "note": "x" * 201}, "200"),
    ],
)
def test_bad_input_is_answered_and_nothing_is_booked(
    portal: Portal, typed: dict[str, str], words: str
) -> None:
    ben = portal.visitor("ben")
    page = send(ben, path(portal, "payments/new"), **typed)
    assert page.status == 422
    assert words in page.text
    assert portal.one("SELECT count(*) FROM payments WHERE gateway = 'counter'") == 0


def test_receipt_of_another_account_is_not_there(portal: Portal) -> None:
    ben = portal.visitor("ben")
    out = send(ben, path(portal, "payments/new"), amount="5", kind="cash")
    public_id = out.location.split("/")[-2]
    theirs = path(portal, f"payments/{public_id}/receipt", "mallory")
    assert ben.get(theirs).status == 404


# Credits and charges --------------------------------------------------------------------------


def test_credit_is_given_and_read_by_both(portal: Portal) -> None:
    ben, owed = portal.visitor("ben"), balance(portal)
    out = send(ben, path(portal, "credit"), amount="7.50", reason="Slow all week")
    assert "The credit is booked" in ben.get(out.location).text
    assert "Slow all week" in ben.get(out.location).text
    assert balance(portal) == owed - 750
    home = portal.visitor("alice").get(portal.path())
    assert "Credit of $7.50 given" in home.text
    assert "Slow all week" not in home.text


def test_money_is_given_only_after_the_password(portal: Portal) -> None:
    ben = portal.visitor("ben")
    page = ben.get(path(portal, "credit"))
    portal.execute("UPDATE sessions SET password_at = :old", old=clock.now() - timedelta(hours=1))
    out = ben.submit(page, "/credit", amount="7.50", reason="Slow all week")
    assert out.location.startswith("/confirm?")
    assert portal.one("SELECT count(*) FROM adjustments") == 0


def test_credit_above_the_limit_is_approved_by_another(portal: Portal) -> None:
    ben, ada, owed = portal.visitor("ben"), portal.visitor("ada"), balance(portal)
    out = send(ben, path(portal, "credit"), amount="150", reason="A month without")
    page = ben.get(out.location)
    assert "waits until a second member" in page.text
    assert "A month without" in page.text
    own = ben.get(ben.get("/staff/approvals").select("main .rows a")[0].get("href"))
    assert "Somebody else has to approve" in own.text
    assert not own.select("button[value=yes]")
    listed = ada.get("/staff/approvals")
    href = listed.select("main .rows a")[0].get("href")
    assert "$150.00" in listed.text
    assert ada.submit(ada.get(href), href).status == 422
    out = ada.submit(ada.get(href), href, decision="yes")
    assert "Approved and booked" in ada.get(out.location).text
    assert balance(portal) == owed - 15_000
    assert ada.get(href).status == 404


def test_asker_may_take_a_credit_back(portal: Portal) -> None:
    ben, owed = portal.visitor("ben"), balance(portal)
    send(ben, path(portal, "credit"), amount="150", reason="A month without")
    href = ben.get("/staff/approvals").select("main .rows a")[0].get("href")
    out = ben.submit(ben.get(href), href, decision="no")
    assert "nothing was booked" in ben.get(out.location).text
    assert balance(portal) == owed


def test_charge_waits_for_the_next_bill_and_can_be_taken_back(portal: Portal) -> None:
    ben, owed = portal.visitor("ben"), balance(portal)
    typed = {"amount": "40", "description": "Visit", "kind": "", "reason": "Moved the router"}
    out = send(ben, path(portal, "charge"), **typed)
    page = ben.get(out.location)
    assert "joins the next bill" in page.text
    assert "Moved the router" in page.text
    assert balance(portal) == owed
    out = ben.submit(page, "/cancel")
    assert "taken back" in ben.get(out.location).text
    assert "No charge waits" in ben.get(out.location).text
    page = send(ben, path(portal, "charge"), amount="40", kind="boat", reason="No")
    assert page.status == 422


def test_invoice_or_a_line_of_it_is_credited(portal: Portal) -> None:
    ben, owed = portal.visitor("ben"), balance(portal)
    href = ben.get(path(portal)).select("aside a, .cols a[href*='/invoices/']")[-1].get("href")
    page = ben.get(href)
    [tv] = [
        label.get("for")
        for label in page.select("form[method=post] label")
        if "Local TV" in label.text_content()
    ]
    chosen = page.select(f"#{tv}")[0].get("value")
    out = ben.submit(page, href.rsplit("/", 1)[1], what=chosen, amount="10", reason="No signal")
    assert "The credit is booked" in ben.get(out.location).text
    assert balance(portal) == owed - 1_000 - 63
    too_much = ben.submit(
        ben.get(href), href.rsplit("/", 1)[1], what=chosen, amount="10", reason="No signal"
    )
    assert too_much.status == 422
    assert "not been given back yet" in too_much.text
    note = portal.one("SELECT public_id FROM invoices WHERE kind = 'credit'")
    page = ben.get(path(portal, f"invoices/{note}"))
    assert page.status == 200
    assert not page.select("form[action*='/invoices/']")
    mine = portal.one("SELECT public_id FROM invoices WHERE account_id = :id LIMIT 1",
                      id=portal.world.accounts["mallory"])  # fmt: skip
    assert ben.get(path(portal, f"invoices/{mine}")).status == 404


def newest_invoice(portal: Portal, name: str = "alice") -> str:
    return str(
        portal.one(
            "SELECT public_id FROM invoices WHERE account_id = :id ORDER BY id DESC LIMIT 1",
            id=portal.world.accounts[name],
        )
    )


def test_bill_is_sent_again_once_for_each_press(portal: Portal) -> None:
    ben = portal.visitor("ben")
    at = path(portal, f"invoices/{newest_invoice(portal)}")
    page = ben.get(at)
    assert "a•••@example.net" in page.text
    assert "alice@example.net" not in page.response.text
    assert "alice@example.net" in portal.visitor("ada").get(at).text
    for _ in range(2):
        out = ben.submit(page, "/send")
        assert (out.status, out.location) == (303, f"{at}?done=sent")
    assert "goes out again" in ben.get(out.location).text
    queued = portal.rows("SELECT channel, recipient FROM messages WHERE kind = 'bill_ready'")
    assert ("email", "alice@example.net") in queued
    assert len(queued) == len(page.select("aside li, .cols ul.rows li"))
    ben.submit(ben.get(at), "/send")
    again = portal.rows("SELECT channel FROM messages WHERE kind = 'bill_ready'")
    assert len(again) == 2 * len(queued)


def test_bill_of_an_account_without_addresses_goes_nowhere(portal: Portal) -> None:
    account = portal.world.accounts["alice"]
    ben, at = portal.visitor("ben"), path(portal, f"invoices/{newest_invoice(portal)}")
    page = ben.get(at)
    portal.execute("DELETE FROM memberships WHERE account_id = :id", id=account)
    portal.execute("DELETE FROM contacts WHERE account_id = :id", id=account)
    out = ben.submit(page, "/send")
    shown = ben.get(out.location)
    assert "there is no address any more" in shown.text
    assert "no address is on file" in shown.text
    assert not shown.select("form[action$='/send']")
    theirs = path(portal, f"invoices/{newest_invoice(portal, 'mallory')}/send")
    assert ben.post(theirs, page.form("/send")[1]).status == 404


# Vouchers -------------------------------------------------------------------------------------


def test_batch_is_made_printed_once_and_cancelled(portal: Portal) -> None:
    ben = portal.visitor("ben")
    page = ben.get("/staff/vouchers")
    typed = {"name": "Shop", "amount": "20", "count": "5", "form": "page"}
    printed = ben.submit(page, "/vouchers", **typed)
    shown = [item.text_content() for item in printed.select(".voucher-sheet__code")]
    assert len(shown) == 5
    assert all(codes.is_whole(codes.clean(code)) for code in shown)
    again = ben.submit(page, "/vouchers", **typed)
    assert again.status == 303
    batch = ben.get(again.location)
    assert shown[0] not in batch.text
    out = ben.submit(batch, again.location)
    assert "can be redeemed any more" in ben.get(out.location).text
    assert "Cancelled" in ben.get("/staff/vouchers").text


def test_codes_as_a_file(portal: Portal) -> None:
    ben = portal.visitor("ben")
    typed = {"name": "Shop", "amount": "20", "count": "3", "form": "csv"}
    file = ben.submit(ben.get("/staff/vouchers"), "/vouchers", **typed, expires_on="2026-12-31")
    assert file.response.mimetype == "text/csv"
    assert file.response.headers["Cache-Control"] == "no-store"
    rows = list(csv.DictReader(io.StringIO(file.text.removeprefix(BYTE_ORDER_MARK))))
    assert [row["serial"] for row in rows] == ["1", "2", "3"]
    assert rows[0]["amount"] == "20.00"
    assert rows[0]["expires_on"] == "2026-12-31"
    assert all(codes.is_whole(codes.clean(row["code"])) for row in rows)


@pytest.mark.parametrize("day", ["2026-12-31", "soon", ""])
def test_batch_that_waits_for_the_password_is_shown_as_typed(
    portal: Portal, tick: Callable[..., None], day: str
) -> None:
    ben = portal.visitor("ben")
    page = ben.get("/staff/vouchers")
    tick(minutes=11)
    typed = {"name": "Shop", "amount": "20", "count": "3", "form": "csv", "expires_on": day}
    assert ben.submit(page, "/vouchers", **typed).location.startswith("/confirm?")
    shown = ben.get("/staff/vouchers").form("/vouchers")[1]
    assert {name: shown[name] for name in typed} == typed


@pytest.mark.parametrize(
    "changed",
    [{"count": "0"}, {"count": "1001"}, {"count": "x"}, {"amount": "10000.01"}, {"name": ""},
     {"expires_on": "soon"}, {"form": "tape"}],
)  # fmt: skip
def test_bad_batch_is_answered(portal: Portal, changed: dict[str, str]) -> None:
    ben = portal.visitor("ben")
    typed = {"name": "Shop", "amount": "20", "count": "5", "form": "page"} | changed
    page = ben.submit(ben.get("/staff/vouchers"), "/vouchers", **typed)
    assert page.status == 422
    assert portal.one("SELECT count(*) FROM vouchers") == 0
