"""What the environment and the file of models say, and what is refused with its name."""

from __future__ import annotations

from pathlib import Path

import pytest

from core.genieacs_settings import STANDARDS, USUAL_FIND_BY, GenieacsSettings, WifiPaths
from core.settings import Settings, SettingsError, read_settings

FILE = """
find_by = ["VirtualParameters.line", "_tags"]

[models."HG8245*"]
hosts = "InternetGatewayDevice.X_HW.Hosts"
networks = [
  { name = "InternetGatewayDevice.A.SSID", passphrase = "InternetGatewayDevice.A.Key", band = "5" },
]
"""


def read(folder: Path, text: str | None = None, **env: str) -> Settings:
    given = {
        "LASTMILE_DATA": str(folder / "data"),
        "LASTMILE_EQUIPMENT_GATEWAY": "genieacs",
        "LASTMILE_GENIEACS_URL": "http://10.0.0.20:7557/",
    }
    if text is not None:
        path = folder / "genieacs.toml"
        path.write_text(text)
        given["LASTMILE_GENIEACS_FILE"] = str(path)
    return read_settings(given | env)


def genieacs(folder: Path, text: str | None = None, **env: str) -> GenieacsSettings:
    found = read(folder, text, **env).genieacs
    assert found is not None
    return found


def test_address_is_enough(tmp_path: Path) -> None:
    found = genieacs(tmp_path)
    assert (found.url, found.headers, found.find_by) == (
        "http://10.0.0.20:7557",
        {},
        USUAL_FIND_BY,
    )
    assert found.find_map("HG8245H", "Device") is STANDARDS["Device"]
    assert found.find_map("HG8245H", "").networks == ()


def test_user_and_password_become_a_header_and_are_not_shown(tmp_path: Path) -> None:
    found = genieacs(tmp_path, LASTMILE_GENIEACS_URL="https://user:p%40ss@ACS.example.net")
    assert found.url == "https://acs.example.net"
    assert found.headers == {"Authorization": "Basic dXNlcjpwQHNz"}
    assert "dXNlcjpwQHNz" not in repr(found)


def test_headers_are_taken(tmp_path: Path) -> None:
    found = genieacs(tmp_path, LASTMILE_GENIEACS_HEADERS='{"X-Key": "hidden-word"}')
    assert found.headers == {"X-Key": "hidden-word"}
    assert "hidden-word" not in repr(read(tmp_path))


def test_file_says_where_models_differ(tmp_path: Path) -> None:
    found = genieacs(tmp_path, FILE)
    assert found.find_by == ("VirtualParameters.line", "_tags")
    model = found.find_map("HG8245H", "InternetGatewayDevice")
    assert model.hosts == "InternetGatewayDevice.X_HW.Hosts"
    assert model.networks == (
        WifiPaths("InternetGatewayDevice.A.SSID", ("InternetGatewayDevice.A.Key",), "", "5"),
    )
    assert found.find_map("F670L", "InternetGatewayDevice") is STANDARDS["InternetGatewayDevice"]


@pytest.mark.parametrize(
    "url",
    [
        "",
        "acs",
        "ftp://acs",
        "http://",
        "http://acs:port",
        "http://acs/nbi",
        "http://acs/?a=1",
        "http://äcs",
    ],
)
def test_odd_address_is_refused_and_not_repeated(tmp_path: Path, url: str) -> None:
    with pytest.raises(SettingsError, match="LASTMILE_GENIEACS_URL must look like"):
        read(tmp_path, LASTMILE_GENIEACS_URL=url)


@pytest.mark.parametrize("text", ["x", "[]", '{"A": 1}', '{"A": "b\\n"}', '{"A": "é"}'])
def test_odd_headers_are_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(SettingsError, match="LASTMILE_GENIEACS_HEADERS must be JSON"):
        read(tmp_path, LASTMILE_GENIEACS_HEADERS=text)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("x", "cannot be read"),
        ("y = 1", "y is not known"),
        ("find_by = []", "find_by must be a list"),
        ('find_by = ["$where"]', "find_by must be a parameter"),
        ('find_by = ["a,b"]', "find_by must be a parameter"),
        ("models = 1", "models must be tables"),
        ("[models]\nA = 1", "models must be tables"),
        ("[models.A]\nb = 1", r'models\."A"\.b is not known'),
        ("[models.A]\nhosts = 1", "hosts must be a parameter"),
        ("[models.A]\nnetworks = [1]", "networks must be a list of tables"),
        ("[models.A]\nnetworks = [{}]", "name must be a parameter"),
        ('[models.A]\nnetworks = [{name = "a", band = "x"}]', "band must be like"),
    ],
)
def test_odd_file_is_refused(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(SettingsError, match=words):
        read(tmp_path, text)


def test_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="LASTMILE_GENIEACS_FILE"):
        read(tmp_path, LASTMILE_GENIEACS_FILE=str(tmp_path / "nothing"))


def test_demo_alone_makes_up_routers(tmp_path: Path) -> None:
    demo = {"LASTMILE_DEMO": "1", "LASTMILE_DATA": str(tmp_path)}
    assert read_settings(demo).equipment_gateway == "simulated"
    assert read_settings({"LASTMILE_DATA": str(tmp_path)}).equipment_gateway == ""
    for env in (
        demo | {"LASTMILE_EQUIPMENT_GATEWAY": "genieacs"},
        {"LASTMILE_DATA": str(tmp_path), "LASTMILE_EQUIPMENT_GATEWAY": "simulated"},
        {"LASTMILE_DATA": str(tmp_path), "LASTMILE_EQUIPMENT_GATEWAY": "magic"},
    ):
        with pytest.raises(SettingsError, match="LASTMILE_EQUIPMENT_GATEWAY"):
            read_settings(env)
