"""The page after signing in, and the choice between several accounts."""

from flask import Blueprint

bp = Blueprint("dashboard", __name__)

from blueprints.dashboard import views
