"""What the views of getting in read from a request and from the settings, and put into answers."""

from __future__ import annotations

from flask import Response, current_app, request

from blueprints.auth.service import Browser, SignInRules
from core.htmx import render
from core.sessions import DEVICE_COOKIE, PRE_COOKIE, SESSION_COOKIE, cookie_name


def browser() -> Browser:
    """Who is asking, by address and cookies."""
    is_https = current_app.config["PORTAL"].is_https
    return Browser(
        address=request.remote_addr or "",
        user_agent=request.user_agent.string,
        session_token=request.cookies.get(cookie_name(SESSION_COOKIE, is_https=is_https)),
        device_token=request.cookies.get(cookie_name(DEVICE_COOKIE, is_https=is_https)),
    )


def rules() -> SignInRules:
    """The parts of the settings that getting in needs."""
    portal = current_app.config["PORTAL"]
    return SignInRules(portal.secret, portal.data, portal.shared_networks)


def set_pre_cookie(response: Response) -> Response:
    """The cookie that a form posted before sign-in has to bring along (bar 39)."""
    is_https = current_app.config["PORTAL"].is_https
    response.set_cookie(
        cookie_name(PRE_COOKIE, is_https=is_https),
        "1",
        path="/",
        secure=is_https,
        httponly=True,
        samesite="Strict",
    )
    return response


def wait_page(seconds: int, back: str) -> Response:
    """Too many tries: when to try again, and what else helps."""
    page = render("auth/wait.html", None, 429, retry_after=seconds, back=back)
    page.headers["Retry-After"] = str(seconds)
    return set_pre_cookie(page)
