"""What a customer sets: name, contacts, language, password, messages, devices, data."""

from flask import Blueprint

bp = Blueprint("settings", __name__, url_prefix="/settings")

from blueprints.dashboard.settings import (
    contact_views,
    data_views,
    device_views,
    views,
)
