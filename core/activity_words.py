"""Activity in words: one sentence for each kind of event."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flask_babel import gettext as _

from core.money import Money, format_money
from core.words import language

ABOUT_MONEY = ("payment_received", "invoice_issued")
"""Kinds whose sentence names an amount: not for whoever may not see money."""


def _amount(facts: Mapping[str, Any]) -> str:
    return format_money(Money(facts["amount_minor"], facts["currency"]), language())


def describe(kind: str, facts: Mapping[str, Any] | None) -> str:  # noqa: PLR0911 - one a kind
    """The sentence for an event; a kind this build does not know gets a neutral one."""
    facts = facts or {}
    match kind:
        case "payment_received" if "amount_minor" in facts:
            return _("Payment of %(amount)s received", amount=_amount(facts))
        case "invoice_issued" if "amount_minor" in facts:
            return _("Bill of %(amount)s issued", amount=_amount(facts))
        case "line_held":
            return _("Line switched off: unpaid bill")
        case "line_released":
            return _("Line switched on again")
        case "signed_in":
            return _("Signed in")
        case "registered":
            return _("Online account created")
        case "account_opened":
            return _("Account opened")
        case _:
            return _("Something changed on this account")
