"""Bill runs: what one would bill, starting it, how far it is, stopping it."""

from flask import Blueprint

bp = Blueprint("bill_runs", __name__, url_prefix="/bill-runs")

from blueprints.staff.bill_runs import views
