"""What the page about staff says of each role is what the code lets it see and do."""

from __future__ import annotations

from blueprints.staff.roles import SIGHT
from core.policy import POLICY
from core.settings import ROOT
from models import StaffRole

DOES = {
    "verify a caller": "staff.call_send",
    "unlock, end sessions, start a reset, lost factors": "staff.unlock",
    "see the portal as the customer does": "staff.view_begin",
    "print letters": "staff.letter_print",
    "bill runs": "staff.bill_runs.start",
    "take, give and charge money, match transfers, decide disputes, make vouchers": (
        "staff.money.take_post"
    ),
    "plan prices, withdraw plans and offer them again": "staff.prices.plan_post",
    "exempt an account from a tax": "staff.money.exemption_add",
    "leave an unpaid account alone, choose its group": "staff.unpaid_rest",
    "give out phone numbers": "staff.phone.give",
    "see where calls are forwarded, set it at the switch": "staff.phone.confirm",
    "reports, journal": "staff.reports.report",
    "members of staff": "staff.member_add",
}
SEES = {
    "e-mail addresses and phone numbers in full": "contacts",
    "postal address": "address",
    "balance": "balance",
    "bills and payments": "bills",
    "lines": "line",
    "people who sign in, activity": "people",
}


def table() -> dict[str, list[bool]]:
    text = (ROOT / "docs" / "staff.md").read_text()
    lines = text.split("<!-- roles: begin -->")[1].split("<!-- roles: end -->")[0].split("\n")
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line]
    assert rows[0][1:] == [role.value for role in StaffRole]
    return {what: [cell == "yes" for cell in cells] for what, *cells in rows[2:]}


def test_table_of_roles_is_what_the_code_says() -> None:
    wanted = {
        what: [getattr(SIGHT[role], part) for role in StaffRole] for what, part in SEES.items()
    } | {what: [role in POLICY[name].staff for role in StaffRole] for what, name in DOES.items()}
    assert table() == wanted


def test_helpers_do_all_that_helps_people_in() -> None:
    together = ("unlock", "end_sessions", "reset", "reset_proof_post", "reset_approve")
    assert len({POLICY[f"staff.{name}"].staff for name in together}) == 1
