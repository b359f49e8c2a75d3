"""Compression of answers. Flask-Compress leaves out everything but 2xx, yet a form shown again with
what is wrong in it, or a page that says no, is as large as any other."""

from __future__ import annotations

from flask import Response
from flask_compress import Compress


class CompressAnswers(Compress):
    """Flask-Compress for refusals and errors too."""

    def after_request(self, response: Response | None) -> Response:
        if response is None or response.status_code < 400:
            return super().after_request(response)
        status = response.status
        response.status_code = 200
        try:
            return super().after_request(response)
        finally:
            response.status = status
