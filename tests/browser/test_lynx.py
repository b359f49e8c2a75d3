"""The portal in lynx: a browser of text, without styles, scripts or the headers of newer ones."""

from __future__ import annotations

import os
import pty
import re
import subprocess
from pathlib import Path

import pytest

from tests import outside
from tests.browser import town
from tests.browser.conftest import Town
from tests.thin_line import ThinLine
from tests.world import PASSWORD


@pytest.fixture
def lynx() -> list[str]:
    return [str(outside.need("lynx")), "-cfg=/dev/null", "-accept_all_cookies", "-nopause"]


def keys(*presses: str) -> str:
    """A script of key presses: a word in <> is one key, everything else is typed."""
    names: list[str] = []
    for press in presses:
        names += [press] if press.startswith("<") else list(press)
    return "".join(f"key {name}\n" for name in names)


def dump(lynx: list[str], address: str) -> str:
    command = [*lynx, "-dump", "-nolist", address]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=30).stdout


def drive(lynx: list[str], address: str, script: Path) -> str:
    """What lynx draws while it follows the script on a terminal of its own."""
    inside, outside_end = pty.openpty()
    process = subprocess.Popen(
        [*lynx, f"-cmd_script={script}", address],
        stdin=outside_end,
        stdout=outside_end,
        stderr=outside_end,
        env=os.environ | {"TERM": "xterm", "LINES": "50", "COLUMNS": "100"},
        close_fds=True,
    )
    os.close(outside_end)
    drawn = b""
    try:
        while chunk := os.read(inside, 65_536):
            drawn += chunk
    except OSError:
        pass  # its end of the terminal is closed
    finally:
        os.close(inside)
        process.wait(20)
    return drawn.decode(errors="replace")


def test_sign_in_page_can_be_read_as_text(lynx: list[str], served: Town) -> None:
    text = dump(lynx, served.origin + "/sign-in")
    for words in ("Sign in", "ID or e-mail address", "Password", "This is my own device"):
        assert words in text
    assert "Show password" not in text


def test_customer_signs_in_and_looks_at_the_bills(
    lynx: list[str], served: Town, tmp_path: Path
) -> None:
    script = tmp_path / "keys"
    # From the brand's link to the first field; past the box to tick to the button.
    script.write_text(
        keys("<tab>", "rich", "<tab>", PASSWORD, "<tab>", "<tab>", "<return>") + keys("q", "y")
    )
    drawn = drive(lynx, served.origin + "/sign-in", script)
    assert "In credit" in drawn, drawn
    assert "$50.00" in drawn
    agent = "SELECT count(*) FROM sessions WHERE user_agent LIKE 'Lynx/%'"
    assert served.one(agent) == 1


def test_customer_pays_by_keys_alone_on_a_thin_line(
    lynx: list[str], served: Town, thin: ThinLine, tmp_path: Path
) -> None:
    """From the sign-in page over the bank's own site to the receipt."""
    name = served.new_payer()
    script = tmp_path / "keys"
    script.write_text(
        keys("<tab>", name, "<tab>", PASSWORD, "<tab>", "<tab>", "<return>")
        # Past skip link, brand, five destinations and the button that signs out.
        + keys(*["<tab>"] * 8, "<return>")
        + keys("<return>")  # the bank's first button
        + keys("q", "y")
    )
    drawn = drive(lynx, served.origin + "/sign-in", script)
    assert "Paid. Thank you." in drawn, drawn
    assert "Card ending 4242" in drawn
    paid = "SELECT count(*) FROM payments WHERE state = 'succeeded' AND account_id = "
    account = "(SELECT id FROM accounts WHERE number = ?)"
    assert served.one(paid + account, town.account_number(name)) == 1


def test_subscriber_registers_by_keys_alone(lynx: list[str], served: Town, tmp_path: Path) -> None:
    """In two sittings, with the code from the message in between."""
    name, jar, script = served.new_mover(), tmp_path / "cookies", tmp_path / "keys"
    settings = tmp_path / "lynx.cfg"
    settings.write_text(f"PERSISTENT_COOKIES:TRUE\nCOOKIE_FILE:{jar}\nCOOKIE_SAVE_FILE:{jar}\n")
    jar.touch()
    lynx = [lynx[0], f"-cfg={settings}", *lynx[2:]]
    script.write_text(
        keys("<tab>", town.account_number(name), "<tab>", "<return>")
        # Past the three ways, of which the first is chosen.
        + keys(*["<tab>"] * 4, "<return>")
        + keys("q", "y")
    )
    assert "Enter the code" in drive(lynx, served.origin + "/register", script)
    text = served.wait_for_letter(f"{name}@example.net", "Your code")
    [code] = re.findall(r"\d{3} \d{3}", text)
    script.write_text(
        keys("<tab>", code.replace(" ", ""), "<tab>", "<return>")
        + keys("<tab>", name, "<tab>", "amber-violin-thursday", "<tab>", "<return>")
        + keys("q", "y")
    )
    drawn = drive(lynx, served.origin + "/register/code", script)
    assert "Sign out" in drawn, drawn
    owner = "SELECT sign_in_id FROM customers WHERE sign_in_key = ?"
    assert served.one(owner, name) == name
