"""What other systems call: notices of payment gateways."""

from flask import Blueprint

bp = Blueprint("api", __name__)

from blueprints.api import views  # noqa: E402, F401 - the views need `bp`
