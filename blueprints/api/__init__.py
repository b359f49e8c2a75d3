"""What other systems call: notices of payment gateways, accounting of RADIUS servers."""

from flask import Blueprint

bp = Blueprint("api", __name__)

from blueprints.api import accounting, views
