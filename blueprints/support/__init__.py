"""Help, open to everyone."""

from flask import Blueprint

bp = Blueprint("support", __name__)

from blueprints.support import views
