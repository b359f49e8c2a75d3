"""What gateways say to customers, in the reader's language.

A gateway's sentence is kept as it came, in English, and so is the title of a card or bank account;
each that ours can say is known here.
"""

from __future__ import annotations

import re

from flask_babel import gettext as _
from flask_babel import lazy_gettext as _l

# As `MethodTruth.title` has it: the kind or brand, and the last digits.
_TITLE = re.compile(r"(.+) ending (\w{2,8})")
_SENTENCES = {
    "The bank declined the card: not enough money in the account.": _l(
        "The bank declined the card: not enough money in the account."
    ),
    "The bank declined the payment.": _l("The bank declined the payment."),
    "The card has expired.": _l("The card has expired."),
    "The security code of the card was not right.": _l(
        "The security code of the card was not right."
    ),
    "The number of the card was not right.": _l("The number of the card was not right."),
    "The bank wants its customer to confirm this payment.": _l(
        "The bank wants its customer to confirm this payment."
    ),
    "The bank could not confirm that it was you.": _l(
        "The bank could not confirm that it was you."
    ),
    "The bank could not take the money from the account.": _l(
        "The bank could not take the money from the account."
    ),
    "The bank account is not there any more.": _l("The bank account is not there any more."),
    "The bank account is closed.": _l("The bank account is closed."),
    "The bank did not accept the card.": _l("The bank did not accept the card."),
    "The card was reported lost or stolen.": _l("The card was reported lost or stolen."),
    "The card has expired or was cancelled.": _l("The card has expired or was cancelled."),
    "The payment was charged back meanwhile.": _l("The payment was charged back meanwhile."),
    "There was not enough money at the payment service.": _l(
        "There was not enough money at the payment service."
    ),
    "It was cancelled at the payment service.": _l("It was cancelled at the payment service."),
    "The bank did not take the refund.": _l("The bank did not take the refund."),
    "The customer's bank sent the refund back.": _l("The customer's bank sent the refund back."),
    "This payment method is no longer there.": _l("This payment method is no longer there."),
    "This payment was already started.": _l("This payment was already started."),
    "This payment could not be made.": _l("This payment could not be made."),
    "The payment could not be started.": _l("The payment could not be started."),
    "The method could not be saved.": _l("The method could not be saved."),
}


def translate(sentence: str) -> str:
    """The sentence or title in the language of the answer, or as it is where we do not know it."""
    title = _TITLE.fullmatch(sentence)
    if title is not None:
        return _("%(what)s ending %(digits)s", what=_kind(title[1]), digits=title[2])
    return str(_SENTENCES.get(sentence, sentence))


def _kind(what: str) -> str:
    """What a method is called; the names of brands are the same in every language."""
    return {"Card": _("Card"), "Bank account": _("Bank account")}.get(what, what)
