"""The telephone numbers of an account and what they do with calls."""

from flask import Blueprint

bp = Blueprint("phone", __name__, url_prefix="/a/<account_public_id>/phone")

from blueprints.dashboard.phone import views
