"""Staff's desk for money: an account's statement, what is taken, given and charged, and what waits
for somebody to decide."""

from flask import Blueprint

bp = Blueprint("money", __name__)

from blueprints.staff.money import (
    account_views,
    approval_views,
    bank_views,
    counter_views,
    dispute_views,
    exemption_views,
    giving_views,
    refund_views,
    voucher_views,
)
