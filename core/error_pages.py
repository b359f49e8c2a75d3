"""Pages for everything that goes wrong. They cannot fail themselves: when the template does, a few
constant bytes answer."""

from __future__ import annotations

import logging
from collections.abc import Callable
from html import escape

from flask import Flask, Response, request
from flask_babel import lazy_gettext as _
from flask_babel.speaklater import LazyString
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from werkzeug.exceptions import HTTPException, SecurityError

from core import maintenance
from core.access import RoleForbids, ViewersOnlyRead, greet
from core.csrf import NotFromOurPage
from core.db import DatabaseBusy
from core.errors import NotFound, Refusal
from core.form_keys import FormExpired, KeyReused
from core.htmx import ForeignTarget, render
from core.isp import NotSetUp, pin_again
from core.log import reference
from core.passwords import TooBusy
from core.pdf import PdfFailed
from core.sessions import find_signed_in

log = logging.getLogger("lastmile.errors")

RETRY_SECONDS = 10
BARE = "Something went wrong. Please try again in a moment."


Words = str | LazyString
# Title, text and what to do next for a status code; translated when one is shown.
_WORDS: dict[int, tuple[Words, Words, Words]] = {
    400: (_("We did not understand this"), _("The address or the form is not complete."), ""),
    403: (
        _("This is not yours to open"),
        _("Your role does not include this page."),
        _("The owner of the account, or an administrator of the staff, can change your role."),
    ),
    404: (
        _("Page not found"),
        _("There is no such page, or it is not on your account."),
        _("Check the address, or start from your account."),
    ),
    405: (
        _("That does not work here"),
        _("This page cannot be used in this way."),
        _("Go back and use the button on the page."),
    ),
    413: (_("That is too large"), _("What you sent is larger than we accept."), ""),
    429: (_("Too many tries"), _("Please wait a little before the next try."), ""),
    503: (
        _("One moment, please"),
        _("The portal is very busy or being looked after. Nothing was lost."),
        _("Try again in a few seconds."),
    ),
}
_WORDS[411] = _WORDS[400]
_OTHER = (
    _("Something went wrong on our side"),
    _("It is noted, and nothing you paid is lost."),
    _("Try again in a moment. If it stays, call us."),
)


def _page(code: int, retry_after: int | None = None) -> Response:
    def make() -> Response:
        return _error(code, *_WORDS.get(code, _OTHER))

    response = _or_bare(make, code)
    if code >= 500 and (name := reference.get()):
        response.headers["X-Request-Id"] = name
    if retry_after is not None:
        response.headers["Retry-After"] = str(retry_after)
    return response


def _error(code: int, title: Words, text: Words, what_next: Words) -> Response:
    # What fails on our side asks for no session: that may be what fails.
    if code < 500:
        greet()
    return render(
        "errors/error.html",
        "alert",
        code,
        code=code,
        title=str(title),
        text=str(text),
        what_next=str(what_next),
        # It stands on every line that the log has about the request: to be told to support.
        reference=reference.get() if code >= 500 else "",
    )


def _away(make: Callable[[], Response]) -> Response:
    """What a failing database is answered with: what `make` says, but the announced page where this
    node's file says that the portal is closed. It is migrated or replaced then."""
    return _or_bare(lambda: maintenance.answer(is_for_people=True), 503) if pin_again() else make()


def _or_bare(make: Callable[[], Response], code: int) -> Response:
    """The page that `make` draws, or constant bytes when it cannot."""
    try:
        return make()
    except Exception:
        log.exception("the error page failed")
        return bare_page(code)


def bare_page(code: int, text: str = BARE) -> Response:
    """A page that needs neither database nor template."""
    body = (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(text)}</title>'
        '<meta name="viewport" content="width=device-width"></head>'
        f"<body><h1>{escape(text)}</h1></body></html>"
    )
    return Response(body, code, mimetype="text/html")


def _note_denial(why: str) -> None:
    """One line for each request that was not allowed (bar 76)."""
    try:
        person = find_signed_in()
    except SQLAlchemyError:
        person = None
    who = person.public_id if person is not None else ""
    log.info("denied", extra={"why": why, "endpoint": request.endpoint, "customer": who})


def install(app: Flask) -> None:  # noqa: C901 - one handler for each kind of failure
    """Register a page for every kind of failure."""

    @app.errorhandler(HTTPException)
    def http_error(error: HTTPException) -> Response:
        response = _page(error.code or 500)
        if error.code == 405:
            response.headers["Allow"] = ", ".join(getattr(error, "valid_methods", None) or ())
        return response

    @app.errorhandler(SecurityError)
    def unknown_host(_error: SecurityError) -> Response:
        # No page can be drawn: without a host that is ours there is no address to link to. Made
        # plain, so that whoever asks under foreign names cannot fill the log (bar 22).
        return bare_page(400, "This portal is not served under that name")

    @app.errorhandler(NotFound)
    def not_found(_error: NotFound) -> Response:
        return _page(404)

    @app.errorhandler(RoleForbids)
    def forbidden(_error: RoleForbids) -> Response:
        _note_denial("role")
        return _page(403)

    @app.errorhandler(ViewersOnlyRead)
    def only_reads(_refused: ViewersOnlyRead) -> Response:
        _note_denial("viewer")
        return _or_bare(
            lambda: _error(
                403,
                _("You are only looking"),
                _("You see the portal as this customer does and cannot change anything."),
                _("End the view to go on working yourself."),
            ),
            403,
        )

    @app.errorhandler(NotFromOurPage)
    @app.errorhandler(FormExpired)
    def expired_form(error: Exception) -> Response:
        if isinstance(error, NotFromOurPage):
            _note_denial("not from our page")

        def make() -> Response:
            greet()
            return render("errors/expired_form.html", "alert", 403)

        return _or_bare(make, 403)

    @app.errorhandler(KeyReused)
    def already_sent(_reused: KeyReused) -> Response:
        return _or_bare(
            lambda: _error(
                409,
                _("This form was already sent"),
                _("It was sent before with other content, and that is what counts."),
                _("Open the page again to see where it stands."),
            ),
            409,
        )

    @app.errorhandler(Refusal)
    def refused(error: Refusal) -> Response:
        return _or_bare(
            lambda: _error(409, _("This did not work"), error.customer_message, ""), 409
        )

    @app.errorhandler(TooBusy)
    def too_many(_error: TooBusy) -> Response:
        return _page(503, RETRY_SECONDS)

    @app.errorhandler(DatabaseBusy)
    @app.errorhandler(PoolTimeout)
    def busy(error: Exception) -> Response:
        if isinstance(error, DatabaseBusy):
            log.warning("no turn to write", extra={"reason": str(error.__cause__ or error)})
        return _away(lambda: _page(503, RETRY_SECONDS))

    @app.errorhandler(PdfFailed)
    def not_printed(error: PdfFailed) -> Response:
        log.error("no PDF was made", extra={"reason": str(error)})
        return _page(503, RETRY_SECONDS)

    @app.errorhandler(DBAPIError)
    def database_away(error: DBAPIError) -> Response:
        log.error("database error", exc_info=error)
        return _away(lambda: _page(503, RETRY_SECONDS))

    @app.errorhandler(SQLAlchemyError)
    def database_changing(error: SQLAlchemyError) -> Response:
        log.error("unexpected error", exc_info=error)
        return _away(lambda: _page(500))

    @app.errorhandler(NotSetUp)
    def not_set_up(_error: NotSetUp) -> Response:
        text = "This portal is not set up yet. Run: flask setup"
        return _away(lambda: bare_page(503, text))

    @app.errorhandler(ForeignTarget)
    def foreign_target(error: ForeignTarget) -> Response:
        log.error("refused to redirect", exc_info=error)
        return _page(500)

    @app.errorhandler(Exception)
    def anything(error: Exception) -> Response:
        log.error("unexpected error", exc_info=error)
        return _page(500)
