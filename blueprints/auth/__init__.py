"""Signing in and out, and the link with which a subscriber chooses ID and password."""

from flask import Blueprint

bp = Blueprint("auth", __name__)

from blueprints.auth import confirm, views  # noqa: E402, F401 - the views need `bp`
