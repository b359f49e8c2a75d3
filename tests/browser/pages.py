"""Every page there is, as each person meets it: for the crawls."""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

from playwright.sync_api import expect

from tests.browser import second_steps
from tests.browser.conftest import Town, Visitor
from tests.browser.town import LONG_NAME, STATES, account_number
from tests.world import CANARY, STAFF

PEOPLE = (
    "alice", "bob", "vera", "theo", "rich", "held", "closed", "new", "busy", "waiting", "arab",
    "vast", "ada", "ben", "tess", None,
)  # fmt: skip
"""None is a visitor who is not signed in; comes last, as opening a return page asks the bank."""

EVERYONES = (
    "/sign-in",
    "/sign-in?done=signed-out",
    "/sign-in?done=registered",
    "/sign-in?done=expired",
    "/sign-in?done=password-reset",
    "/register",
    "/register?done=ended",
    "/register?done=taken",
    "/recover",
    "/recover?done=overdone",
    "/recover/link/nothing",
    "/forgot-id",
    "/help",
    "/broadband-facts",
    "/demo/mailbox",
    "/there-is-no-such-page",
)
SECOND_STEPS = ("", "/app", "/message", "/passkey", "/recovery-codes")
OWN_PAGES = (
    *("", "name", "language", "time-zone", "contacts", "contacts/add/email", "contacts/add/phone"),
    *("address", "messages", "password", "sessions", "data", "close"),
)
FEW = ("", "billing/", "billing/pay")
SAVED = (
    *("methods/", "methods/?done=failed", "methods/add", "methods/busymethod1"),
    *("methods/busymethod2", "methods/busymethod1/remove"),
)
SEEN_BY = {
    "theo": ("", "billing/", "usage/", "equipment/", "phone/"),
    "closed": ("", "billing/invoices/"),
}
OWNED_BY = {"bob": "alice", "vera": "alice", "theo": "alice"}
OF_BILLING = (
    *("money", "payments/new", "credit", "charge", "refund", "unpaid"),
    *("money?done=asked", "money?done=charged"),
    *("exemptions", "exemptions?done=exempted", "exemptions/STATE"),
)
"""What staff for billing open of an account."""
DESKS = (
    *("approvals", "approvals/alicecredit", "approvals?done=approved"),
    *("bank-lines", "bank-lines/aliceline", "bank-lines?done=ignored"),
    *("disputes", "disputes/alicedispute", "disputes/alicedispute?done=answered"),
    *(
        "calls",
        "calls/callfile",
        "vouchers",
        "vouchers/vouchers",
        "bill-runs/",
        "bill-runs/somebillrun",
    ),
    *("prices/", "prices/VOICE-HOME", "prices/TV-BASIC", "prices/TV-BASIC?done=planned"),
    *("prices/TV-BASIC/withdraw/someprice", "prices/TV-BASIC/offering"),
    *("reports/", "reports/journal", "reports/payments?to=soon", "reports/payments"),
    *(
        f"reports/{kind}"
        for kind in ("receivables", "revenue", "autopay", "tax", "failed-payments")
    ),
)
"""What they open besides."""
OF_USAGE = (
    "usage/",
    "usage/months",
    "usage/sessions",
    "usage/csv?from=soon",
    "usage/alerts",
    "usage/top-up",
)
OF_ROUTER = (
    *("equipment/", "equipment/restart", "equipment/wifi"),
    *(
        f"equipment/outcome?done={done}"
        for done in ("restart-done", "wifi-queued", "refresh-sent", "wifi-unclear", "restart-away")
    ),
    *(f"equipment/outcome?done=wifi-{end}" for end in ("none", "several", "refused")),
)
PLANS = (
    *("", "alicesub1/change", "alicesub1/change/FIBER-1000?when=now", "alicesub1/change/FIBER-100"),
    *(
        "alicesub1/change/AIR-50",
        "add/STATIC-IP",
        "add/TV-BASIC",
        "channels?q=o",
        "alicesub3/remove",
        "end",
    ),
    *("changes/alicewish", "changes/alicewish?done=made"),
    *("pause", "pause?from_on=soon&until_on=", "pause/alicepause", "move", "move/alicemove"),
)
OF_MONEY = (
    *("billing/", "billing/invoices/", "billing/payments/", "billing/spending"),
    *("billing/statement", "billing/statement?from=soon"),
)


def addresses(town: Town, name: str | None) -> list[str]:
    """The path of every page that `name` can open, each state of it that the town has."""
    if name is None:
        returns = [f"/pay/{state}payment/return" for state in STATES]
        return [*EVERYONES, town.welcome, town.welcome_dead, *returns]
    if name in STAFF:
        return [f"/staff/{rest}" for rest in _of_staff(town, name)]
    others = {
        "waiting": ["/accounts"],
        "new": [second_steps.LIST + rest for rest in SECOND_STEPS],
        "alice": ["/help", "/there-is-no-such-page"],
        "busy": ["/help", "/there-is-no-such-page"],
        "held": [],
        "rich": [
            *(f"/settings/{rest}" for rest in OWN_PAGES),
            *("/activity", "/activity?kind=staff", "/invitation/nothing"),
            town.path("people", "rich"),
            town.path("people/invite", "rich"),
        ],
        "vast": [],
    }
    if name in others:
        return [*others[name], *_of_account(town, name)]
    # These see the same pages as alice, apart from a few; for theo the second says that he may not.
    return [town.path(rest, OWNED_BY.get(name, name)) for rest in SEEN_BY.get(name, FEW)]


def _of_staff(town: Town, name: str) -> list[str]:
    account = f"accounts/{town.public_ids['alice']}"
    if name == "ben":
        invoice = town.one(
            "SELECT min(invoices.public_id) FROM invoices JOIN accounts ON accounts.id = account_id"
            " WHERE accounts.public_id = ?",
            town.public_ids["alice"],
        )
        payment = town.one(
            "SELECT min(payments.public_id) FROM payments JOIN accounts ON accounts.id = account_id"
            " WHERE state = 'succeeded' AND accounts.public_id = ?",
            town.public_ids["alice"],
        )
        of_account = (
            *(*OF_BILLING, f"invoices/{invoice}", f"invoices/{invoice}?done=sent"),
            *(f"payments/{payment}", f"payments/{payment}/receipt"),
        )
        vast = f"accounts/{town.public_ids['vast']}/money"
        return [*(f"{account}/{rest}" for rest in of_account), vast, *DESKS]
    found = ["", "?q=pine", "?q=zzz", account, f"accounts/{town.public_ids['vast']}", "nothing"]
    found += ["phone", "phone?done=confirmed", f"{account}/phone", f"{account}/phone?done=given"]
    found.append(f"accounts/{town.public_ids['rich']}/phone")
    if name != "ada":
        return [*found, "members"]
    person = f"{account}/people/alicecustomer"
    found += [f"{account}?done=verified", person, f"{person}?done=unlocked", f"{person}/view"]
    found += [f"{account}/call", f"{account}/call?done=sent", "letters"]
    found += ["plan-changes", "plan-changes?done=accepted", "plan-changes/alicewish"]
    found += ["moves/alicemove"]
    found += ["lost-factors", "lost-factors/alicereset/proof", "members", "members/bencustomer"]
    return found


def _of_account(town: Town, name: str) -> list[str]:
    found = [town.path(rest, name) for rest in ("", *OF_MONEY, "billing/pay", *OF_USAGE)]
    found.append(town.path(f"usage/?day={datetime.now(UTC).date() - timedelta(days=2)}", name))
    with closing(sqlite3.connect(town.data / "lastmile.db")) as connection:
        number = "SELECT id FROM accounts WHERE public_id = ?"
        values = (town.public_ids[name],)
        invoices = connection.execute(
            "SELECT public_id, open_minor FROM invoices"
            " JOIN invoice_balances ON invoice_id = invoices.id"
            f" WHERE invoices.account_id = ({number}) GROUP BY open_minor > 0, kind",
            values,
        ).fetchall()
        planned = connection.execute(
            f"SELECT public_id FROM planned_payments WHERE account_id = ({number})", values
        ).fetchall()
        payments = connection.execute(
            f"SELECT public_id FROM payments WHERE account_id = ({number}) GROUP BY state", values
        ).fetchall()
    for public_id, open_minor in invoices:
        found.append(town.path(f"billing/invoices/{public_id}", name))
        if open_minor:
            found.append(town.path(f"billing/pay?invoice={public_id}", name))
    found += [town.path(f"billing/payments/{public_id}", name) for (public_id,) in payments]
    found += [town.path(f"billing/planned/{public_id}", name) for (public_id,) in planned]
    plans = ["schedule", "autopay", "arrangement"]
    if name == "held":
        day = (datetime.now(UTC) + timedelta(days=5)).date()
        plans += [
            f"arrangement?count=3&first_on={day}&every=week",
            "arrangement?count=3&first_on=soon",
            "planned/heldwaiting20/change",
        ]
    found += [town.path(f"billing/{rest}", name) for rest in plans]
    if name == "alice":
        disputed = town.one(
            "SELECT invoices.public_id FROM disputes JOIN invoices ON invoices.id = invoice_id"
            " WHERE disputes.public_id = 'alicedispute'"
        )
        ways = (f"invoices/{disputed}/dispute", "disputes/alicedispute", "voucher", "how-to-pay")
        found += [town.path(f"billing/{rest}", name) for rest in ways]
        found += [town.path(f"plans/{rest}", name) for rest in PLANS]
        found += [
            town.path(f"phone/{rest}", name)
            for rest in ("", "numbers/alicephone?done=saved", "calls")
        ]
        first, last = (datetime.now(UTC).date() + timedelta(days=days) for days in (10, 30))
        found.append(town.path(f"plans/pause?from_on={first}&until_on={last}", name))
        found.append(town.path("plans/pause/alicepause/end", name))
    if name == "rich":
        found.append(town.path("plans/move", name))
    if name in ("alice", "rich"):
        found += [town.path(f"billing/{rest}", name) for rest in ("disputes/", "credit")]
    if name in ("alice", "vast"):
        found += [town.path(rest, name) for rest in OF_ROUTER]
    if name == "busy":
        lists = ("invoices/?state=paid", "invoices/?page=2", "invoices/?year=1999")
        found += [town.path(f"billing/{rest}", name) for rest in (*lists, *SAVED)]
    return found


def walk(visitor: Visitor, name: str | None) -> Iterator[str]:
    """Open every page of a person, one after the other; afterwards the answers to forms."""
    if name is not None:
        visitor.sign_in(name)
    for path in addresses(visitor.town, name):
        visitor.open(path)
        yield path
    for answer in ANSWERS.get(name, ()):
        answer(visitor)
        yield answer.__name__
    if name in (None, "vast"):
        yield from _around_maintenance(visitor, name)


# Before and during maintenance ----------------------------------------------------------------


def _around_maintenance(visitor: Visitor, name: str | None) -> Iterator[str]:
    town = visitor.town
    places = ["/sign-in", "/staff/sign-in", "/help"] if name is None else [town.path("", name)]
    for is_on, hours, message in (
        (False, 2, f"{LONG_NAME} {CANARY}"),
        (True, 2, f"{LONG_NAME} {CANARY}"),
        (True, -1, ""),
    ):
        with maintenance(town.data, is_on=is_on, hours=hours, message=message):
            for path in places:
                words = "Closed for maintenance" if is_on else "Planned maintenance"
                expect(visitor.open(path).get_by_text(words).first).to_be_visible()
                yield f"{path} {'closed' if is_on else 'announced'} {hours}"
            if is_on and name is None:
                _refused_as_staff(visitor, f"nobody {hours}")
                yield f"/staff/sign-in refused {hours}"


def _refused_as_staff(visitor: Visitor, who: str) -> None:
    """Somebody tries the way in of staff; the button leads back to it."""
    page = visitor.open("/staff/sign-in")
    for label in ("ID or e-mail", "Password"):
        page.get_by_label(label).first.fill(who)
    page.get_by_role("button", name="Sign in", exact=True).click()
    expect(page.get_by_text("You were not signed in: only staff can be")).to_be_visible()
    expect(page.get_by_role("link", name="Try again")).to_have_attribute("href", "/staff/sign-in")


@contextmanager
def maintenance(data: Path, *, is_on: bool, hours: int, message: str) -> Iterator[None]:
    """The portal of this folder with a row of maintenance, which ends in so many hours."""
    end = datetime.now(UTC).replace(tzinfo=None) + timedelta(hours=hours)
    row = (
        is_on,
        str(end - timedelta(hours=3)),
        str(end),
        json.dumps({"": message} if message else {}),
    )
    anew = "UPDATE isp SET revision = revision + 1"
    _run(data, ("INSERT INTO maintenance VALUES (1, ?, ?, ?, ?)", row), (anew, ()))
    try:
        yield
    finally:
        _run(data, ("DELETE FROM maintenance", ()), (anew, ()))


def _run(data: Path, *statements: tuple[str, tuple[object, ...]]) -> None:
    with closing(sqlite3.connect(data / "lastmile.db", timeout=10)) as connection, connection:
        for sql, values in statements:
            connection.execute(sql, values)


# Pages that only a form leads to.


def nothing_typed(visitor: Visitor) -> None:
    page = visitor.open("/sign-in")
    page.eval_on_selector("main form", "(form) => { form.noValidate = true; }")
    page.get_by_role("button", name="Sign in", exact=True).click()


def wrong_password(visitor: Visitor) -> None:
    page = visitor.open("/sign-in")
    for label in ("ID or e-mail", "Password"):
        page.get_by_label(label).first.fill("nobody")
    page.get_by_role("button", name="Sign in", exact=True).click()


def too_many_tries(visitor: Visitor) -> None:
    for _ in range(3):
        wrong_password(visitor)


def welcome_refused(visitor: Visitor) -> None:
    page = visitor.open(visitor.town.welcome)
    page.locator("[name=sign_in_id]").fill("alice")
    page.locator("[name=password]").fill("short")
    page.get_by_role("button", name="Make my").click()


# A way in goes on from one of these to the next.


def nobody_named(visitor: Visitor) -> None:
    page = visitor.open("/register")
    page.eval_on_selector("main form", "(form) => { form.noValidate = true; }")
    page.get_by_role("button", name="Go on").click()


def way_asked(visitor: Visitor) -> None:
    page = visitor.open("/register")
    page.locator("[name=who]").fill(account_number("fresh"))
    page.get_by_role("button", name="Go on").click()
    page.wait_for_url("**/register/way")


def letter_asked(visitor: Visitor) -> None:
    visitor.page.get_by_label("By letter").check()
    visitor.page.get_by_role("button", name="Send").click()
    visitor.page.wait_for_url("**/register/code")


def code_asked(visitor: Visitor) -> None:
    visitor.town.forget_letters("fresh@example.net")
    page = visitor.open("/register/way")
    page.get_by_label("By e-mail").check()
    page.get_by_role("button", name="Send").click()
    page.wait_for_url("**/register/code")
    page.get_by_text("Nothing came?").click()


def code_refused(visitor: Visitor) -> None:
    visitor.page.locator("[name=code]").fill("wrong")
    visitor.page.get_by_role("button", name="Go on").click()
    expect(visitor.page.locator("[aria-invalid]")).to_have_count(1)


def id_asked(visitor: Visitor) -> None:
    text = visitor.town.wait_for_letter("fresh@example.net", "Your code")
    code = re.search(r"\d{3} \d{3}", text)
    assert code is not None
    visitor.page.locator("[name=code]").fill(code.group())
    visitor.page.get_by_role("button", name="Go on").click()
    visitor.page.wait_for_url("**/register/id")
    visitor.page.get_by_text("How do I choose").click()


def id_refused(visitor: Visitor) -> None:
    visitor.page.locator("[name=sign_in_id]").fill("alice")
    visitor.page.locator("[name=password]").fill("a password of mine that is long")
    visitor.page.get_by_role("button", name="Make my").click()
    expect(visitor.page.locator("[aria-invalid]")).to_have_count(1)


def link_asked(visitor: Visitor) -> None:
    visitor.town.forget_letters("vast@example.net")
    page = visitor.open("/recover")
    page.locator("[name=who]").fill("vast")
    page.get_by_role("button", name="Go on").click()
    page.get_by_role("button", name="Send").click()
    page.wait_for_url("**/recover/sent")


def link_opened(visitor: Visitor) -> None:
    text = visitor.town.wait_for_letter("vast@example.net", "/recover/link/")
    found = re.search(r"/recover/link/\S+", text)
    assert found is not None
    visitor.open(found.group())


def id_sent(visitor: Visitor) -> None:
    page = visitor.open("/forgot-id")
    page.locator("[name=who]").fill(account_number("vast"))
    page.get_by_role("button", name="Go on").click()
    page.get_by_role("button", name="Send").click()
    page.wait_for_url("**/forgot-id/sent")


def amount_refused(visitor: Visitor) -> None:
    page = visitor.open(visitor.town.path("billing/pay"))
    page.get_by_label("Another amount").check()
    page.get_by_label("Amount", exact=True).fill("plenty")
    page.get_by_role("button", name="Go on to payment").click()


def form_too_old(visitor: Visitor) -> None:
    page = visitor.open(visitor.town.path())
    page.eval_on_selector("main [name=form_key]", "(field) => { field.value = 'old'; }")
    page.get_by_role("button", name="Pay $").click()


def token_foreign(visitor: Visitor) -> None:
    page = visitor.open(visitor.town.path())
    page.eval_on_selector("main [name=csrf_token]", "(field) => { field.value = 'foreign'; }")
    page.get_by_role("button", name="Pay $").click()


def second_payment(visitor: Visitor) -> None:
    page = visitor.open(visitor.town.path("billing/pay", "waiting"))
    page.get_by_role("button", name="Go on to payment").click()


def no_contact_chosen(visitor: Visitor) -> None:
    page = visitor.open(f"/staff/accounts/{visitor.town.public_ids['alice']}/call")
    page.eval_on_selector("main form", "(form) => { form.noValidate = true; }")
    page.get_by_role("button", name="Send a code").click()
    expect(page.get_by_role("alert")).to_be_visible()


# What staff for billing type wrongly, and what their forms lead to.


def no_credit_given(visitor: Visitor) -> None:
    _wrong(visitor, f"accounts/{visitor.town.public_ids['alice']}/credit", "Give the credit")


def no_charge_added(visitor: Visitor) -> None:
    _wrong(visitor, f"accounts/{visitor.town.public_ids['alice']}/charge", "Add the charge")


def no_exemption_granted(visitor: Visitor) -> None:
    of_account = f"accounts/{visitor.town.public_ids['alice']}"
    _wrong(visitor, f"{of_account}/exemptions", "Exempt from the tax")


def nothing_given_back(visitor: Visitor) -> None:
    page = visitor.open(f"/staff/accounts/{visitor.town.public_ids['alice']}/refund")
    path = page.get_by_role("main").get_by_role("table").get_by_role("link").first
    _wrong(visitor, str(path.get_attribute("href")).removeprefix("/staff/"), "Give it back")


def no_vouchers_made(visitor: Visitor) -> None:
    _wrong(visitor, "vouchers", "Make the vouchers")


def no_price_planned(visitor: Visitor) -> None:
    _wrong(visitor, "prices/VOICE-HOME", "Plan this price")


def line_undecided(visitor: Visitor) -> None:
    _wrong(visitor, "bank-lines/aliceline", "Save the decision")


def dispute_unanswered(visitor: Visitor) -> None:
    _wrong(visitor, "disputes/alicedispute", "Send your message")


def _wrong(visitor: Visitor, path: str, button: str) -> None:
    page = visitor.open(f"/staff/{path}")
    page.eval_on_selector_all(
        "main form", "(all) => all.forEach((it) => { it.noValidate = true; })"
    )
    page.get_by_role("button", name=button).click()
    expect(page.get_by_role("alert")).to_be_focused()


def vouchers_made(visitor: Visitor) -> None:
    page = visitor.open("/staff/vouchers")
    page.get_by_label("Name").fill(LONG_NAME)
    page.get_by_label("Amount of each").fill("20")
    page.get_by_label("How many").fill("3")
    page.get_by_label("A page to print").check()
    page.get_by_role("button", name="Make the vouchers").click()
    expect(page.locator(".voucher-sheet__code")).to_have_count(3)


def cash_taken(visitor: Visitor) -> None:
    town = visitor.town
    page = visitor.open(f"/staff/accounts/{town.public_ids[town.new_payer()]}/payments/new")
    page.get_by_label("Cash").check()
    page.get_by_role("button", name="Book the payment").click()
    expect(page.get_by_role("heading", name="Receipt")).to_be_visible()


def run_added_up(visitor: Visitor) -> None:
    page = visitor.open("/staff/bill-runs/")
    page.get_by_role("button", name="Add it up").click()
    expect(page.get_by_text("What was added up")).to_be_visible()


def letter_printed(visitor: Visitor) -> None:
    page = visitor.open("/staff/letters")
    page.get_by_role("button", name="Print").first.click()
    expect(page.locator(".letter-page__code")).to_be_visible()


def portal_seen(visitor: Visitor) -> None:
    """Comes last: from here on it is alice's page."""
    account = visitor.town.public_ids["alice"]
    page = visitor.open(f"/staff/accounts/{account}/people/alicecustomer/view")
    page.get_by_label("Reason").fill("a call about a bill")
    page.get_by_role("button", name="See the portal").click()
    expect(page.get_by_role("button", name="End the view")).to_be_visible()


Answer = Callable[[Visitor], None]
ANSWERS: dict[str | None, tuple[Answer, ...]] = {
    None: (
        *(nothing_typed, wrong_password, too_many_tries, welcome_refused),
        *(nobody_named, way_asked, letter_asked, code_asked, code_refused, id_asked, id_refused),
        *(link_asked, link_opened, id_sent, *second_steps.PAGES),
    ),
    "alice": (amount_refused, form_too_old, token_foreign),
    "waiting": (second_payment,),
    "ben": (
        *(no_credit_given, no_charge_added, no_exemption_granted, nothing_given_back),
        no_vouchers_made,
        no_price_planned,
        *(line_undecided, dispute_unanswered, vouchers_made, cash_taken, run_added_up),
    ),
    "ada": (no_contact_chosen, letter_printed, portal_seen),
}
