"""Tokens under masks, and where a request says it comes from (bars 39, 43)."""

from __future__ import annotations

import base64
import secrets

import pytest
from flask import Request
from hypothesis import given, settings
from hypothesis import strategies as st
from werkzeug.test import EnvironBuilder

from core.csrf import NotFromOurPage, check_origin, is_token_of, mask

SECRET = bytes(range(16))
OWN = "https://my.pinecrest.example"


def request(**headers: str) -> Request:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Request(EnvironBuilder(method="POST", headers=list(named.items())).get_environ())


def test_token_fits_its_session() -> None:
    assert is_token_of(SECRET, mask(SECRET))


def test_token_looks_different_each_time_and_never_shows_the_secret() -> None:
    tokens = {mask(SECRET) for _ in range(50)}
    assert len(tokens) == 50
    for token in tokens:
        raw = base64.urlsafe_b64decode(token + "==")
        assert SECRET not in raw


def test_token_of_another_session_does_not_fit() -> None:
    assert not is_token_of(SECRET, mask(secrets.token_bytes(16)))


@pytest.mark.parametrize(
    "token",
    ["", "=", "a", "%%%%", "\0", "é" * 40, "A" * 43, "A" * 5000],
)
def test_token_of_another_shape_does_not_fit(token: str) -> None:
    assert not is_token_of(SECRET, token)


def test_token_cut_or_continued_does_not_fit() -> None:
    token = mask(SECRET)
    assert not is_token_of(SECRET, token[:-1])
    assert not is_token_of(SECRET, token[:-4])
    assert not is_token_of(SECRET, token + "AAAA")


@settings(deadline=None)
@given(st.text(max_size=80))
def test_no_text_fits_by_chance(token: str) -> None:
    assert not is_token_of(SECRET, token)


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Origin": OWN},
        {"Origin": OWN + ":443"},
        {"Sec_Fetch_Site": "same-origin"},
        {"Sec_Fetch_Site": "none"},
        {"Origin": OWN, "Sec_Fetch_Site": "same-origin"},
    ],
)
def test_own_page_and_browsers_that_say_nothing_pass(headers: dict[str, str]) -> None:
    check_origin(request(**headers), OWN)


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": ""},
        {"Origin": "http://my.pinecrest.example"},
        {"Origin": "https://my.pinecrest.example:8443"},
        {"Origin": "https://my.pinecrest.example.evil.example"},
        {"Origin": "https://evil.example@my.pinecrest.example"},
        {"Sec_Fetch_Site": "cross-site"},
        {"Sec_Fetch_Site": "same-site"},
        {"Sec_Fetch_Site": "anything"},
        {"Origin": OWN, "Sec_Fetch_Site": "cross-site"},
        {"Origin": "https://evil.example", "Sec_Fetch_Site": "same-origin"},
    ],
)
def test_other_sites_are_refused(headers: dict[str, str]) -> None:
    with pytest.raises(NotFromOurPage):
        check_origin(request(**headers), OWN)
