"""The router at the end of a line: what it says, starting it anew, its Wi-Fi."""

from flask import Blueprint

bp = Blueprint("equipment", __name__, url_prefix="/a/<account_public_id>/equipment")

from blueprints.dashboard.equipment import views
