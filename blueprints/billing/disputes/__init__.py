"""A customer does not agree with a line of an invoice: both sides write, staff decide."""

from flask import Blueprint

bp = Blueprint("disputes", __name__)

from blueprints.billing.disputes import views
