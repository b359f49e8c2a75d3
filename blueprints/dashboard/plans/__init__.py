"""What an account subscribes to: changing plans, adding and removing them, and their labels."""

from flask import Blueprint

bp = Blueprint("plans", __name__, url_prefix="/a/<account_public_id>/plans")

from blueprints.dashboard.plans import move_views, pause_views, views
