"""The ways billing can fail. `customer_message` is safe to show and says what to do."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flask_babel import gettext as _

from blueprints.billing import gateway_words
from core.errors import NotFound, Refusal

if TYPE_CHECKING:
    from blueprints.billing.bill_run import Plan


class InvoiceNotFound(NotFound):
    """There is no such invoice on this account."""


class PaymentNotFound(NotFound):
    """There is no such payment on this account."""


class PaymentRefused(Refusal):
    """The payment cannot be started; nothing was stored."""


class AmountUnusual(Refusal):
    """Much more than is due is to be booked at the counter: a slip of the finger, as a rule."""

    @property
    def customer_message(self) -> str:
        return _("This is much more than is due. Tick this if the amount is right.")


class AmountOutOfBounds(PaymentRefused):
    """The amount is under `minimum` or over `maximum` (both formatted)."""

    def __init__(self, minimum: str, maximum: str) -> None:
        super().__init__()
        self.minimum, self.maximum = minimum, maximum

    @property
    def customer_message(self) -> str:
        return _(
            "Enter an amount from %(minimum)s to %(maximum)s.",
            minimum=self.minimum,
            maximum=self.maximum,
        )


class AmountChanged(PaymentRefused):
    """What is owed is no longer what the page showed; `amount` (formatted) is what it is now."""

    def __init__(self, amount: str) -> None:
        super().__init__()
        self.amount = amount

    @property
    def customer_message(self) -> str:
        return _(
            "The amount has changed to %(amount)s since this page was opened. Check it and go on.",
            amount=self.amount,
        )


class NothingToPay(PaymentRefused):
    """The invoice or the balance is already paid, or a payment for it is under way at the bank."""

    @property
    def customer_message(self) -> str:
        return _("This is already paid. To pay ahead, choose another amount.")


class GatewaySaysNo(PaymentRefused):
    """The gateway refused to start; `reason` is its sentence, safe to show."""

    def __init__(self, reason: str, payment_public_id: str) -> None:
        super().__init__()
        self.reason, self.payment_public_id = reason, payment_public_id

    @property
    def customer_message(self) -> str:
        return gateway_words.translate(self.reason)


class MethodGone(PaymentRefused):
    """The saved method is not there any more, or not this customer's."""

    @property
    def customer_message(self) -> str:
        return _("This payment method is no longer saved. Choose another way to pay.")


class NoGateway(PaymentRefused):
    """This ISP takes no online payments."""

    @property
    def customer_message(self) -> str:
        return _("Paying online is not available here. The help page says how to pay.")


class PaymentUnderWay(PaymentRefused):
    """Another payment of the account is created, sent or unknown: show it instead."""

    def __init__(self, public_id: str) -> None:
        super().__init__()
        self.public_id = public_id

    @property
    def customer_message(self) -> str:
        return _("A payment is already under way. Continue with it or cancel it first.")


class GatewaySilent(PaymentRefused):
    """The gateway did not answer; the payment is kept as unknown and asked about."""

    def __init__(self, payment_public_id: str) -> None:
        super().__init__()
        self.payment_public_id = payment_public_id

    @property
    def customer_message(self) -> str:
        return _("The payment service did not answer. We are asking it where your payment stands.")


class BillRunUnderWay(Refusal):
    """Another bill run goes on."""

    @property
    def customer_message(self) -> str:
        return _("A bill run is under way. Wait until it is done.")


class BillRunStopped(Refusal):
    """What the run would bill stands out; `plan` says why, and its total can be accepted."""

    def __init__(self, plan: Plan) -> None:
        super().__init__("; ".join(str(reason.as_facts()) for reason in plan.reasons))
        self.plan = plan

    @property
    def customer_message(self) -> str:
        return _("The bill run stopped before it went on. Look at what it found, then decide.")


class BillRunHalted(Refusal):
    """Staff stopped the run: what it had issued stays, the next run goes on with the rest."""

    @property
    def customer_message(self) -> str:
        return _("The bill run was stopped. The next one goes on where it ended.")


class BillRunNotSeen(Refusal):
    """A run can only be started from what was added up, for a day that has come."""

    @property
    def customer_message(self) -> str:
        return _("Look at what would be billed first, then start it from there.")


class CreditRefused(Refusal):
    """More is to be given back than is left of the invoice, or nothing; nothing was stored."""

    @property
    def customer_message(self) -> str:
        return _("Of this invoice only what has not been given back yet can be credited.")


class ReversalNotFound(NotFound):
    """There is no such refund."""


class RefundRefused(Refusal):
    """The payment has not arrived, or came by a way on which nothing goes back."""

    @property
    def customer_message(self) -> str:
        return _(
            "Only money that has arrived goes back, by the way it came. Give a credit instead."
        )


class TooMuchBack(Refusal):
    """More is to be given back than is left of the payment: `left` (formatted)."""

    def __init__(self, left: str) -> None:
        super().__init__()
        self.left = left

    @property
    def customer_message(self) -> str:
        return _("Of this payment %(left)s can still be given back.", left=self.left)


class SamePerson(Refusal):
    """Whoever asked for it cannot approve it."""

    @property
    def customer_message(self) -> str:
        return _("Somebody else has to approve it.")


class MoreThanCredit(Refusal):
    """More is to be moved than the account is in credit by; `credit` is that, formatted."""

    def __init__(self, credit: str) -> None:
        super().__init__()
        self.credit = credit

    @property
    def customer_message(self) -> str:
        return _("This account is in credit by %(credit)s. Enter at most that.", credit=self.credit)


class AccountUnknown(Refusal):
    """No account has the number that staff typed."""

    @property
    def customer_message(self) -> str:
        return _("No account has this number.")


class DecidedBefore(Refusal):
    """Somebody was faster: it is decided, billed or taken back already."""

    @property
    def customer_message(self) -> str:
        return _("This has been decided meanwhile. Look at how it stands now.")


class TruthMismatch(Exception):
    """The gateway's amount, currency or customer is not what we asked for (bar 57)."""
