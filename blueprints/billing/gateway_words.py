"""What gateways say to customers, in the reader's language.

A gateway's sentence is kept as it came, in English; each that ours can say is known here.
"""

from __future__ import annotations

from flask_babel import gettext as _


def translate(sentence: str) -> str:
    """The sentence in the language of the answer, or as it is where we do not know it."""
    return {
        "The bank declined the card: not enough money in the account.": _(
            "The bank declined the card: not enough money in the account."
        ),
        "The bank declined the payment.": _("The bank declined the payment."),
        "The card has expired.": _("The card has expired."),
        "The security code of the card was not right.": _(
            "The security code of the card was not right."
        ),
        "The number of the card was not right.": _("The number of the card was not right."),
        "The bank wants its customer to confirm this payment.": _(
            "The bank wants its customer to confirm this payment."
        ),
        "The bank could not confirm that it was you.": _(
            "The bank could not confirm that it was you."
        ),
        "The bank could not take the money from the account.": _(
            "The bank could not take the money from the account."
        ),
        "The bank account is not there any more.": _("The bank account is not there any more."),
        "The bank account is closed.": _("The bank account is closed."),
        "The bank did not accept the card.": _("The bank did not accept the card."),
        "The card was reported lost or stolen.": _("The card was reported lost or stolen."),
        "The card has expired or was cancelled.": _("The card has expired or was cancelled."),
        "The payment was charged back meanwhile.": _("The payment was charged back meanwhile."),
        "There was not enough money at the payment service.": _(
            "There was not enough money at the payment service."
        ),
        "It was cancelled at the payment service.": _("It was cancelled at the payment service."),
        "The bank did not take the refund.": _("The bank did not take the refund."),
        "The customer's bank sent the refund back.": _("The customer's bank sent the refund back."),
        "This payment method is no longer there.": _("This payment method is no longer there."),
        "This payment was already started.": _("This payment was already started."),
        "This payment could not be made.": _("This payment could not be made."),
        "The payment could not be started.": _("The payment could not be started."),
        "The method could not be saved.": _("The method could not be saved."),
    }.get(sentence, sentence)
