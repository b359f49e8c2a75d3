"""Letters with a registration code."""

from __future__ import annotations

from flask import Response, current_app
from flask_babel import gettext as _

from blueprints.staff import bp
from blueprints.staff import letters as service
from blueprints.staff.views import asking
from core.htmx import render
from core.policy import FIRST_PAGES
from core.words import language, speaking
from models import FlowKind

_REGISTER = FIRST_PAGES[FlowKind.REGISTER]


@bp.get("/letters")
def letters() -> Response:
    return render("staff/letters.html", letters=service.list_letters(asking.reader()))


@bp.post("/letters/<public_id>/print")
def letter_print(public_id: str) -> Response:
    """The one answer with the code: it is shown once and never again."""
    letter = service.print_letter(public_id, asking.reader(), asking.secret())
    public_url = current_app.config["PORTAL"].public_url
    # What stands above the letter is for the member of staff, in their own language.
    above = {
        "lang": language(),
        "back": _("Back to the letters"),
        "hint": _("Print this page now (Ctrl+P): the code is not shown again."),
    }
    with speaking(letter.language):
        return render(
            "staff/letter.html", letter=letter, above=above, register_url=public_url + _REGISTER
        )
