"""What a customer sets: name, contacts, language, password, messages, devices, data."""

from flask import Blueprint

bp = Blueprint("settings", __name__, url_prefix="/settings")

from blueprints.dashboard.settings import views  # noqa: E402, F401 - the views need `bp`
