"""The accounts behind the demo's customers, made so that their bills fall right for today."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta

from demo import REGISTERS
from demo.habits import Habit

_EMPTY = {
    "email": "",
    "phone": "",
    "city": "Pinecrest",
    "region": "OR",
    "postcode": "97001",
    "country": "US",
    "language": "en",
    "add_on_codes": "",
    "status": "Active",
    "opening_balance": "0",
    "area": "PINE",
}


@dataclass(frozen=True, slots=True)
class NamedAccount:
    """An account of the demo by name. `owner` is a sign-in ID of DEMO_CUSTOMERS or empty.

    `last_bill_days` is how many days before today its latest bill was issued; `habit` how it pays,
    `paid_until_days` before today it stopped paying, `joined_days` after the cut-over its owner
    registered.
    """

    number: str
    name: str
    owner: str
    plan: str
    street: str
    last_bill_days: int
    habit: Habit
    add_ons: str = ""
    activated_on: str = "2023-03-15"
    phone: str = ""
    paid_until_days: int = 0
    joined_days: int = 9
    closed_days: int | None = None

    def as_row(self, today: date, *, is_closed: bool = False) -> dict[str, str]:
        """The account as a row of an export."""
        email = f"{self.owner or self.name.lower().replace(' ', '.')}@example.net"
        return _EMPTY | {
            "account_number": self.number,
            "name": self.name,
            "email": email,
            "phone": self.phone,
            "street": self.street,
            "plan_code": self.plan,
            "add_on_codes": self.add_ons,
            "line_username": f"ppp{self.number}",
            "status": "Closed" if is_closed else "Active",
            "activated_on": self.activated_on,
            "bill_day": str((today - timedelta(days=self.last_bill_days)).day),
        }


MARIA, ROSA, ED = "10200014", "10200063", "10200056"
OMAR, PETROV_BICYCLES = "10200035", "10200049"
GRACE, NINA = "10200028", "10200042"

NAMED_ACCOUNTS = (
    NamedAccount(
        MARIA, "Maria Lopez", "maria.lopez", "FIBER-300", "118 Orchard St", 6, Habit.STEADY,
        add_ons="TV-BASIC;TV-FAMILY;VOICE-HOME;ROUTER-RENT", activated_on="2021-05-18",
        phone="+1 541 416 6117", paid_until_days=12,
    ),
    NamedAccount(
        "10200021", "Tom Becker", "tom.becker", "AIR-50", "4210 County Line Rd", 10, Habit.STEADY,
        add_ons="TV-BASIC;TV-SPORTS", activated_on="2020-10-02", phone="+1 541 635 7813",
        paid_until_days=80,
    ),
    NamedAccount(
        GRACE, "Grace Kim", "grace.kim", "FIBER-100", "77 Mill Ln", 9, Habit.AHEAD,
        add_ons="STATIC-IP", activated_on="2024-01-20", phone="+1 503 226 7767",
    ),
    NamedAccount(
        OMAR, "Omar Haddad", "omar.haddad", "FIBER-1000", "9 Saddleback Ave", 8, Habit.PROMPT,
        add_ons="VOICE-HOME", activated_on="2022-08-09", phone="+1 971 804 3341",
    ),
    NamedAccount(
        NINA, "Nina Petrov", "nina.petrov", "FIBER-300", "2 Harbor Rd", 11, Habit.PROMPT,
        add_ons="TV-BASIC;TV-KIDS", activated_on="2022-02-11", phone="+1 503 862 4095",
    ),
    NamedAccount(
        PETROV_BICYCLES, "Petrov Bicycles LLC", "", "FIBER-1000", "310 Foundry St\nUnit 2", 7,
        Habit.STEADY, add_ons="STATIC-IP;VOICE-HOME", activated_on="2023-06-01",
        phone="+1 503 862 4096", paid_until_days=13,
    ),
    NamedAccount(
        ROSA, "Rosa Petrov", "", "AIR-25", "55 Ridge Ave", 12, Habit.STEADY, add_ons="VOICE-HOME",
        activated_on="2019-11-30",
    ),
    NamedAccount(
        ED, "Ed Walker", "ed.walker", "AIR-25", "640 Old Mission Ave", 14, Habit.STEADY,
        activated_on="2018-04-04", phone="+1 541 734 9076", closed_days=64,
    ),
    NamedAccount(
        REGISTERS, "Ruth Adler", "", "FIBER-100", "31 Chapel St", 5, Habit.PROMPT,
        activated_on="2020-06-15", phone="+1 541 416 6120",
    ),
)  # fmt: skip


def newcomer(today: date) -> dict[str, str]:
    """The row of the account that is opened today."""
    sam = NamedAccount(
        "10200070", "Sam Rivera", "sam.rivera", "FIBER-300", "23 Cedar Ln", 0, Habit.STEADY,
        add_ons="TV-BASIC", activated_on=today.isoformat(), phone="+1 541 203 8926",
    )  # fmt: skip
    return sam.as_row(today)


NEWCOMER = "10200070"

# Who shares an account beside its owner: sign-in ID, name, account number, role.
SHARED = (
    ("nina.petrov", "Nina Petrov", PETROV_BICYCLES, "owner"),
    ("nina.petrov", "Nina Petrov", ROSA, "viewer"),
    ("luis.lopez", "Luis Lopez", MARIA, "payer"),
)
