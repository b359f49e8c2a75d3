"""What happened, in words, and "This wasn't me"."""

from flask import Blueprint

bp = Blueprint("activity", __name__, url_prefix="/activity")

from blueprints.dashboard.activity import views
