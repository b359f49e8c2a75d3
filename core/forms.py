"""The base of all forms. The gate in `core/access.py` checks where a form came from before any
view runs, so a form only checks the shape of its fields."""

from __future__ import annotations

from typing import Any, TypeVar

from flask import current_app, request
from flask_wtf import FlaskForm
from flask_wtf.form import _Auto

from core import kept_forms
from core.sessions import signed_in


class PortalForm(FlaskForm):
    """A form whose proof of origin was checked by the gate for every unsafe route at once."""

    class Meta:
        csrf = False

        def wrap_formdata(self, _form: Any, formdata: Any) -> Any:
            """Only the fields of a form: a file or JSON in their place would be no text."""
            return request.form if formdata is _Auto else formdata


AnyForm = TypeVar("AnyForm", bound=PortalForm)


def shown(form_class: type[AnyForm], **now: Any) -> AnyForm:
    """The form as its page shows it: with what was typed before the session ran out or the password
    was asked for once more, otherwise with what is so `now`."""
    secret = current_app.config["PORTAL"].secret
    kept = kept_forms.find(secret, signed_in(), request.path) or {}
    return form_class(formdata=None, data={**now, **kept})
