"""What the lines of an account carried: this bill period, its days and hours, a year, sessions;
and when their customers are told."""

from flask import Blueprint

bp = Blueprint("usage", __name__, url_prefix="/a/<account_public_id>/usage")

from blueprints.dashboard.usage import views
