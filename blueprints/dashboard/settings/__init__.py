"""What a customer sets: name, contacts, language, password, messages, devices, data."""

from flask import Blueprint

bp = Blueprint("settings", __name__, url_prefix="/settings")

from blueprints.dashboard.settings import (  # noqa: E402 - the views need `bp`
    contact_views,  # noqa: F401
    data_views,  # noqa: F401
    device_views,  # noqa: F401
    views,  # noqa: F401
)
