"""The streaming apps that come with a package."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import update

from blueprints.staff import catalog
from blueprints.staff.errors import CatalogInvalid
from core import postman
from core.db import db, unit_of_work
from models import Message, Plan
from tests.dashboard.plans.shop import Shop

URL = "https://movienight.example/activate"
APPS = ["Pinecrest TV Everywhere", {"name": "Movie Night Go", "url": URL}]


def test_page_of_channels_has_each_app_with_where_it_is_activated(shop: Shop) -> None:
    portal = shop.portal
    alice = portal.visitor("alice")
    assert not shop.preview(alice, "channels").select("#apps")
    with portal.app.app_context():
        unit_of_work(
            lambda session: session.execute(
                update(Plan).where(Plan.code == "TV-FAMILY").values(streaming=APPS)
            )
        )
    assert "Pinecrest TV Everywhere, Movie Night Go" in shop.preview(alice, "add/TV-FAMILY").text
    shop.change(alice, "add/TV-FAMILY")
    [section] = shop.preview(alice, "channels").select("#apps")
    assert [row.text_content().split(" ")[0] for row in section.cssselect("li")] == [
        "Pinecrest", "Movie",
    ]  # fmt: skip
    [link] = section.cssselect("a")
    assert dict(link.attrib) == {"href": URL, "rel": "noopener noreferrer"}
    with portal.app.app_context():
        message = db.session.query(Message).filter_by(kind="plan_change", channel="email").one()
        text = postman.compose(message, "https://my.example").text
    assert "Pinecrest TV Everywhere, Movie Night Go" in text


CATALOG = """[isp]
name = "Pinecrest Broadband"
currency = "USD"
timezone = "America/Los_Angeles"
languages = ["en"]
[[plans]]
code = "TV"
kind = "tv"
name = "TV"
price_minor = 100
streaming = [APP]
"""


@pytest.mark.parametrize(
    "app",
    [
        '{name = "App", url = "http://app.example"}',
        '{name = "App", url = "javascript:alert(1)"}',
        '{name = "App", url = "https://"}',
        '{name = "App", url = "https://app"}',
        '{name = "App", url = "https://app.example/a b"}',
        '{name = "App", url = "https://me@app.example/"}',
        '{name = "App", url = "https://app.example:port/"}',
        '{name = "App", url = "https://app.example/\\"onclick="}',
        '{url = "https://app.example"}',
        '{name = "App", address = "https://app.example"}',
        "7",
        '"App", {name = "App", url = 1}',
        '"App", {name = "App", url = "https://app.example"}',
    ],
)
def test_app_that_is_none_is_refused(app: str) -> None:
    with pytest.raises(CatalogInvalid, match=r"plans\.TV\.streaming"):
        catalog.parse(CATALOG.replace("APP", app))


def test_apps_of_the_demo_are_read(tmp_path: Path) -> None:
    path = tmp_path / "catalog.toml"
    path.write_text(CATALOG.replace("APP", f'"One", {{name = "Two", url = "{URL}"}}'))
    [plan] = catalog.read_file(path).plans
    assert plan["streaming"] == ["One", {"name": "Two", "url": URL}]
