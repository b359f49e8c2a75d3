"""Reports: what the books say of all accounts, each as chart, table and CSV."""

from flask import Blueprint

bp = Blueprint("reports", __name__, url_prefix="/reports")

from blueprints.staff.reports import journal, views
