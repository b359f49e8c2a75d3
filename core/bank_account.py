"""The bank account of the ISP, to which customers transfer money, as the catalog names it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from flask_babel import gettext as _

_IBAN = re.compile(r"[A-Z]{2}[0-9]{2}[A-Z0-9]{11,30}")
_ROUTING_WEIGHTS = (3, 7, 1, 3, 7, 1, 3, 7, 1)


def is_iban(text: str) -> bool:
    """Whether it has the shape of an IBAN without spaces, and its check digits (ISO 13616) fit."""
    if _IBAN.fullmatch(text) is None:
        return False
    digits = "".join(str(int(letter, 36)) for letter in text[4:] + text[:4])
    return int(digits) % 97 == 1


def is_routing_number(text: str) -> bool:
    """Whether it is nine digits of which the last fits the others, as banks of the US have them."""
    return re.fullmatch(r"[0-9]{9}", text) is not None and not (
        sum(weight * int(digit) for weight, digit in zip(_ROUTING_WEIGHTS, text, strict=True)) % 10
    )


@dataclass(frozen=True, slots=True)
class BankAccount:
    """Whose account it is, and its IBAN, or its number with the bank's routing number, or both.
    What is not known is empty."""

    holder: str
    bank: str = ""
    iban: str = ""
    bic: str = ""
    routing: str = ""
    account: str = ""

    @classmethod
    def read(cls, stored: Mapping[str, Any] | None) -> BankAccount | None:
        """What the catalog has named; None where it names none."""
        return cls(**stored) if stored else None

    def rows(self) -> list[tuple[str, str]]:
        """What a person types at their bank, each with its word in the reader's language."""
        grouped = " ".join(re.findall(r".{1,4}", self.iban))
        rows = [
            (_("Account holder"), self.holder),
            (_("IBAN"), grouped),
            (_("BIC"), self.bic),
            (_("Routing number"), self.routing),
            (_("Account number at the bank"), self.account),
            (_("Bank"), self.bank),
        ]
        return [(str(word), value) for word, value in rows if value]
