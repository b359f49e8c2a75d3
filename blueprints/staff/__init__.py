"""The ISP's own people: their pages under /staff, and the commands of whoever runs the portal."""

from flask import Blueprint

bp = Blueprint("staff", __name__, url_prefix="/staff")

from blueprints.staff import bill_runs, money, phone, prices, reports, views

bp.register_blueprint(bill_runs.bp)
bp.register_blueprint(money.bp)
bp.register_blueprint(phone.bp)
bp.register_blueprint(prices.bp)
bp.register_blueprint(reports.bp)
