"""Answers that are known, given before Flask makes a request of what was asked.

It stands around Flask's application and opens the application context that both use: what it has
found out (who is signed in, the ISP's settings) is not asked again when the answer is not known.
Every answer it gives was given by the application before, to the same question in the same state,
after every check: it knows no rule of its own.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from contextlib import nullcontext
from threading import Lock
from typing import TYPE_CHECKING

from flask import Flask, Response, current_app, g, request
from sqlalchemy.exc import SQLAlchemyError
from werkzeug.sansio.utils import host_is_trusted

from core import cache, clock, form_guard, isp, maintenance, words
from core.compression import encoding_for
from core.db import connect_once
from core.isp import NotSetUp, current_isp
from core.policy import POLICY
from core.remembered import Memory, Parts, Remembered, compress_around, split_around
from core.sessions import RowSessions
from core.settings import Settings

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

log = logging.getLogger("lastmile.front")

ENDPOINT = "lastmile.endpoint"
"""Names in the environment the route of an answer that Flask did not see."""
_CONSTANT = "constant"
_MOST_HOSTS = 16
"""Ways of writing our own host, with a port or without, that are known to be it."""
_LONGEST_QUERY = 200
"""A longer one is none of ours, and nothing to fill the memory with."""
Known = tuple[str, list[tuple[str, str]], bytes]


class Front:
    """`app`'s own WSGI application with what is remembered in front of it. `build` names all that
    pages depend on and no revision tells."""

    def __init__(self, app: Flask, settings: Settings, build: str) -> None:
        self._app = app
        self._application: WSGIApplication = app.wsgi_app
        self._build = build
        self._folder = str(settings.data)
        self._hosts = app.config["TRUSTED_HOSTS"]
        self._met: set[str] = set()
        self._sessions = RowSessions(is_https=settings.is_https)
        # Threads that look at once in one process wake each other for each step of SQLite, which
        # costs more than waiting in turn. PostgreSQL may be slow to answer: nobody waits for that.
        self._turn = Lock() if settings.is_sqlite else nullcontext()
        self._memory = Memory(settings.remembered_pages, settings.remembered_bytes)
        app.extensions["remembered"] = self._memory

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        context = self._app.app_context()
        with self._turn:
            context.push()
            connect_once()
            known = self._find(environ) if environ["REQUEST_METHOD"] == "GET" else None
        try:
            if known is None:
                return self._application(environ, start_response)
            status, headers, body = known
            start_response(status, headers)
            return (body,)
        finally:
            context.pop()

    def _find(self, environ: WSGIEnvironment) -> Known | None:
        """The answer, when it is known. Whatever goes wrong here is left to the application."""
        try:
            return self._look(environ)
        except (SQLAlchemyError, NotSetUp):
            pass  # the application meets it too, and says what there is to say
        except Exception:
            log.exception("the front failed")
        g.pop("portal_session", None)
        return None

    def _look(self, environ: WSGIEnvironment) -> Known | None:
        path = environ["PATH_INFO"]
        is_personal = path.startswith("/a/")
        is_concerned = is_personal or path in cache.CONSTANT_PATHS
        if not (is_concerned and self._memory.is_on):
            return None
        if _has_body(environ) or len(environ.get("QUERY_STRING", "")) > _LONGEST_QUERY:
            return None
        # Flask refuses a host that is not ours; the port may be any, no page depends on it.
        if not self._is_ours(environ.get("HTTP_HOST", "")):
            return None
        maintenance.heed_file(self._folder)
        if isp.is_pinned():
            return None
        return self._find_personal(environ) if is_personal else self._find_constant(environ)

    def _is_ours(self, host: str) -> bool:
        if host in self._met:
            return True
        is_ours = host_is_trusted(host, self._hosts)
        if is_ours and len(self._met) < _MOST_HOSTS:
            self._met.add(host)
        return is_ours

    def _find_personal(self, environ: WSGIEnvironment) -> Known | None:
        held = g.portal_session = self._sessions.open(environ)
        person = held.find_signed_in()
        if person is None or person.account is None or person.is_use_due:
            return None
        view = isp.at(person.isp_revision)
        # Staff who see it as the customer does have a word on top that this page has not.
        if view.is_closed or person.viewer_id is not None:
            return None
        g.language = words.language_for(
            person.language, environ.get("HTTP_ACCEPT_LANGUAGE", ""), view.languages
        )
        state = cache.page_state(self._build, environ, view, person, g.language)
        page = self._recall(environ, state)
        if page is None:
            return None
        headers = list(page.headers)
        if person.is_own_device:
            tag = cache.page_tag(state, person)
            if cache.is_held(environ, tag):
                environ[ENDPOINT] = page.endpoint
                return "304 NOT MODIFIED", [("ETag", tag), *page.kept_headers], b""
            headers.append(("ETag", tag))
        if page.body is None:
            return None
        values = {name: form_guard.MAKERS[name](person).encode() for name in page.body.order}
        return _answer(environ, page.endpoint, headers, page.body.filled(values))

    def _find_constant(self, environ: WSGIEnvironment) -> Known | None:
        if environ.get("QUERY_STRING") or "HTTP_HX_REQUEST" in environ:
            return None
        if "HTTP_IF_NONE_MATCH" in environ or self._sessions.has_cookie(environ):
            return None
        view = current_isp()
        if view.is_closed:
            return None
        g.language = words.language_for(
            None, environ.get("HTTP_ACCEPT_LANGUAGE", ""), view.languages
        )
        is_announcing = view.find_announcement(clock.now()) is not None
        state = (_CONSTANT, environ["PATH_INFO"], view.revision, g.language, is_announcing)
        page = self._recall(environ, state)
        if page is None or page.body is None:
            return None
        return _answer(environ, page.endpoint, list(page.headers), page.body.filled({}))

    def _recall(self, environ: WSGIEnvironment, state: tuple[object, ...]) -> Remembered | None:
        key = (encoding_for(environ.get("HTTP_ACCEPT_ENCODING", "")), state)
        page = self._memory.find(key)
        if page is None or page.body is None:
            g.remember_under = key
        return page


def _has_body(environ: WSGIEnvironment) -> bool:
    has_length = environ.get("CONTENT_LENGTH", "0") not in ("", "0")
    return has_length or "HTTP_TRANSFER_ENCODING" in environ


def _answer(
    environ: WSGIEnvironment, endpoint: str, headers: list[tuple[str, str]], body: bytes
) -> Known:
    environ[ENDPOINT] = endpoint
    headers.append(("Content-Length", str(len(body))))
    return "200 OK", headers, body


# Remembering ----------------------------------------------------------------------------------


def compress_to_remember(response: Response) -> Parts | None:
    """Compress a page that is to be remembered around the values that are its own."""
    if not _is_to_be_remembered(response) or response.status_code != 200:
        return None
    if g.get("is_constant"):
        return Parts((response.get_data(),))
    body, values, encoding = response.get_data(), form_guard.made(), g.remember_under[0]
    if encoding is None:
        return split_around(body, values)
    parts = compress_around(body, values) if encoding == "br" else None
    if parts is not None:
        response.set_data(parts.filled(values))
        response.headers["Content-Encoding"] = "br"
    return parts


def remember(response: Response, parts: Parts | None) -> None:
    """Keep the answer, which has its headers now, for whoever asks the same in the same state."""
    if not _is_to_be_remembered(response) or (parts is None and response.status_code != 304):
        return
    own = ("Content-Length",) if g.get("is_constant") else ("Content-Length", "ETag")
    headers = tuple((name, value) for name, value in response.headers.items() if name not in own)
    memory: Memory = current_app.extensions["remembered"]
    memory.keep(g.pop("remember_under"), Remembered(str(request.endpoint), headers, parts))


def _is_to_be_remembered(response: Response) -> bool:
    if "remember_under" not in g or response.is_streamed or response.status_code not in (200, 304):
        return False
    if g.get("is_constant"):
        return True
    rule = POLICY.get(request.endpoint or "")
    return rule is not None and rule.is_kept and "Set-Cookie" not in response.headers
