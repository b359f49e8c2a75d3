"""Why a voucher is not redeemed. Nothing is told of where else it was used, or by whom."""

from __future__ import annotations

from flask_babel import gettext as _

from core.errors import Refusal


class VoucherRefused(Refusal):
    """The code is not redeemed; nothing was booked."""


class CodeMistyped(VoucherRefused):
    @property
    def customer_message(self) -> str:
        return _("Look again: a letter or digit of this code is not as it is printed.")


class CodeUnknown(VoucherRefused):
    @property
    def customer_message(self) -> str:
        return _(
            "We do not know this code. Compare it with the voucher, or ask where you bought it."
        )


class VoucherUsed(VoucherRefused):
    @property
    def customer_message(self) -> str:
        return _("This voucher was redeemed before.")


class VoucherExpired(VoucherRefused):
    @property
    def customer_message(self) -> str:
        return _("This voucher cannot be redeemed any more. Ask where it was sold.")
