"""What other systems call: notices of payment gateways."""

from flask import Blueprint

bp = Blueprint("api", __name__)

from blueprints.api import views
