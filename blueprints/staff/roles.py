"""What each role of the ISP's own people needs for its work, and so what it sees.

Nobody sees a password, code or seed. E-mail addresses and phone numbers stand masked for all but
administrators: a caller is verified by a code, not by what staff could read out.
"""

from __future__ import annotations

from dataclasses import dataclass

from models import StaffRole


@dataclass(frozen=True, slots=True)
class Sight:
    """The parts of an account that a role sees."""

    contacts: bool
    address: bool
    balance: bool
    bills: bool
    line: bool
    people: bool

    @property
    def fields(self) -> list[str]:
        """The same as words for the note of who read what."""
        parts = {
            "contacts" if self.contacts else "contacts masked": True,
            "address" if self.address else "place": True,
            "balance": self.balance,
            "bills": self.bills,
            "line": self.line,
            "people": self.people,
        }
        return ["name", "number", *(name for name, is_seen in parts.items() if is_seen)]


SIGHT = {
    StaffRole.SUPPORT: Sight(
        contacts=False, address=False, balance=True, bills=False, line=True, people=True
    ),
    StaffRole.BILLING: Sight(
        contacts=False, address=True, balance=True, bills=True, line=False, people=False
    ),
    StaffRole.TECHNICAL: Sight(
        contacts=False, address=True, balance=False, bills=False, line=True, people=False
    ),
    StaffRole.ADMINISTRATOR: Sight(
        contacts=True, address=True, balance=True, bills=True, line=True, people=True
    ),
}


def masked_email(value: str) -> str:
    """`m•••@example.net`: enough to ask for the right one."""
    local, at, domain = value.partition("@")
    return f"{local[:1]}•••{at}{domain}"


def masked_phone(value: str) -> str:
    """`••• 813`: its last three digits."""
    digits = "".join(character for character in value if character.isdigit())
    return f"••• {digits[-3:]}"
