"""Printed codes that are sold elsewhere and redeemed on an account."""

from flask import Blueprint

bp = Blueprint("vouchers", __name__)

from blueprints.billing.vouchers import views
