"""What the environment and the file of access servers say, and what is refused with its name."""

from __future__ import annotations

from pathlib import Path

import pytest

from core.radius_settings import KNOWN_TYPES, HoldSettings, Means, RadiusSettings
from core.settings import Settings, SettingsError, read_settings

URL = "postgresql://lastmile:hidden-word@radius.example.net/radius"
FILE = """
[hold]
group = ""
held_kbps = 512

[types.mikrotik]
hold_by = "disconnect"

[types.cisco]
open = { "Cisco-AVPair" = "policy={down_kbps}" }
held = { "Cisco-AVPair" = "policy={list}" }

[nas."10.0.0.0/24"]
secret = "wide-secret"

[nas."10.0.0.7"]
type = "cisco"
secret = "narrow-secret"
address = "192.0.2.7"
port = 1700
swapped = true
"""


def read(folder: Path, text: str | None = None, **env: str) -> Settings:
    given = {
        "LASTMILE_DATA": str(folder / "data"),
        "LASTMILE_NETWORK_GATEWAY": "freeradius",
        "LASTMILE_RADIUS_READ_URL": URL,
        "LASTMILE_RADIUS_WRITE_URL": URL,
    }
    if text is not None:
        path = folder / "radius.toml"
        path.write_text(text)
        path.chmod(0o640)
        given["LASTMILE_RADIUS_FILE"] = str(path)
    return read_settings(given | env)


def radius(folder: Path, text: str | None = None, **env: str) -> RadiusSettings:
    found = read(folder, text, **env)
    assert found.network_gateway == "freeradius"
    assert found.radius is not None
    return found.radius


def test_two_addresses_are_enough(tmp_path: Path) -> None:
    found = radius(tmp_path)
    assert found.read_url == URL.replace("postgresql:", "postgresql+psycopg:")
    assert (found.hold, found.types, found.nases) == (HoldSettings(), KNOWN_TYPES, ())
    assert found.used_types == [KNOWN_TYPES["mikrotik"]]
    assert "hidden-word" not in repr(read(tmp_path))


@pytest.mark.parametrize(
    ("url", "driver"),
    [
        ("mysql://u:p@host/radius", "mysql+pymysql://"),
        ("mariadb://u:p@host/radius", "mysql+pymysql://"),
        ("postgres://u:p@host/radius", "postgresql+psycopg://"),
        ("sqlite:////var/lib/radius.db", "sqlite://"),
    ],
)
def test_every_database_of_freeradius_has_its_driver(tmp_path: Path, url: str, driver: str) -> None:
    assert radius(tmp_path, LASTMILE_RADIUS_READ_URL=url).read_url.startswith(driver)


@pytest.mark.parametrize(
    "url", ["", "radius", "oracle://u:hidden@h/r", "sqlite:///relative.db", "sqlite://", "mysql:x"]
)
@pytest.mark.parametrize("name", ["LASTMILE_RADIUS_READ_URL", "LASTMILE_RADIUS_WRITE_URL"])
def test_address_of_no_database_is_refused_and_not_repeated(
    tmp_path: Path, name: str, url: str
) -> None:
    with pytest.raises(SettingsError, match=name) as refused:
        read(tmp_path, **{name: url})
    assert "hidden" not in str(refused.value)


def test_file_adds_servers_kinds_and_the_garden(tmp_path: Path) -> None:
    found = radius(tmp_path, FILE)
    assert found.hold == HoldSettings(group="", held_kbps=512)
    assert found.types["mikrotik"].hold_by is Means.DISCONNECT
    assert found.types["mikrotik"].open == KNOWN_TYPES["mikrotik"].open
    narrow, wide = found.find_nas("10.0.0.7"), found.find_nas("10.0.0.8")
    assert narrow is not None
    assert wide is not None
    assert (narrow.secret, narrow.address, narrow.port) == (b"narrow-secret", "192.0.2.7", 1700)
    assert (narrow.is_swapped, wide.is_swapped) == (True, False)
    assert (wide.type, wide.secret, wide.address) == ("mikrotik", b"wide-secret", "")
    assert found.find_nas("10.0.1.8") is None
    assert found.find_nas("a-name") is None
    assert "narrow-secret" not in repr(found)
    assert found.used_types == [found.types["mikrotik"], found.types["cisco"]]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[", "cannot be read"),
        ("[hold]\ngruop = 1", "hold.gruop is not known"),
        ("hold = 1", "hold must be a table"),
        ("[hold]\nheld_kbps = 0", "hold.held_kbps makes no sense"),
        ("[hold]\nheld_kbps = true", "hold.held_kbps makes no sense"),
        ("[hold]\nheld_list = ''", "hold.held_list makes no sense"),
        ("nas = 1", "nas must be tables"),
        ("[nas.router]\nsecret = 'long-enough'", "nas.router: name it by its address"),
        ("[nas.'10.0.0.1']", "secret makes no sense"),
        ("[nas.'10.0.0.1']\nsecret = 'short'", "secret makes no sense"),
        ("[nas.'10.0.0.1']\nsecret = 'long-enough'\ntype = 'x'", "type makes no sense"),
        ("[nas.'10.0.0.1']\nsecret = 'long-enough'\nport = 0", "port makes no sense"),
        (
            "[nas.'10.0.0.0/24']\nsecret = 'long-enough'\naddress = '10.0.0.1'",
            "address cannot be that of a whole network",
        ),
        ("[types.x]\nchange_by = 'magic'", "change_by must be one of coa, disconnect, nothing"),
        ("[types.x]\nopen = { A = '{speed}' }", "types.x.open.A may have in braces only"),
        ("[types.x]\nopen = { A = '{list.__class__}' }", "types.x.open.A may have in braces only"),
        ("[types.x]\nopen = { A = '{' }", "types.x.open.A may have in braces only"),
        ("[types.x]\nopen = { A = 1 }", "types.x.open must name attributes"),
        ("dictionary = '/nowhere'", "dictionary must be the whole path"),
    ],
)
def test_file_without_sense_is_refused_with_the_place(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(SettingsError) as refused:
        read(tmp_path, text)
    assert said in str(refused.value)
    assert "radius.toml" in str(refused.value)
    assert "long-enough" not in str(refused.value)


def test_file_that_everybody_may_read_is_refused(tmp_path: Path) -> None:
    read(tmp_path, FILE)
    (tmp_path / "radius.toml").chmod(0o644)
    with pytest.raises(SettingsError, match="open to everybody: chmod o="):
        read(tmp_path, LASTMILE_RADIUS_FILE=str(tmp_path / "radius.toml"))


def test_demo_tells_no_real_network(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="no real network must be told"):
        read(tmp_path, LASTMILE_DEMO="1")


def test_token_for_accounting_is_no_word_to_guess(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="LASTMILE_ACCOUNTING_TOKEN") as refused:
        read(tmp_path, LASTMILE_ACCOUNTING_TOKEN="a-short-one")
    assert "a-short-one" not in str(refused.value)
    assert read(tmp_path, LASTMILE_ACCOUNTING_TOKEN="t" * 20).accounting_token == "t" * 20
