"""The portal in lynx: a browser of text, without styles, scripts or the headers of newer ones."""

from __future__ import annotations

import os
import pty
import re
import subprocess
from datetime import timedelta
from pathlib import Path

import pytest

from tests import outside
from tests.browser import town
from tests.browser.conftest import Town
from tests.browser.test_planning import today
from tests.thin_line import ThinLine
from tests.world import PASSWORD


@pytest.fixture
def lynx() -> list[str]:
    return [str(outside.need("lynx")), "-cfg=/dev/null", "-accept_all_cookies", "-nopause"]


def keys(*presses: str) -> str:
    """A script of key presses: a word in <> or after ^ is one key, everything else is typed."""
    names: list[str] = []
    for press in presses:
        names += [press] if press[0] in "<^" else list(press)
    return "".join(f"key {name}\n" for name in names)


def sign_in(name: str) -> str:
    """From the brand's link to the first field; past the box to tick to the button."""
    return keys("<tab>", name, "<tab>", PASSWORD, "<tab>", "<tab>", "<return>")


def follow(*words: str) -> str:
    """Search the page for each word in turn, then go where the last one leads. A script of lynx has
    no key for a blank, so it is one word each."""
    return "".join(keys("/", word, "<return>") for word in words) + keys("<return>")


def to_stop(number: int) -> str:
    """From the top of a page to the link, field or button of this number in its content: past skip
    link, brand, four destinations, settings and the button that signs out."""
    return keys(*["<tab>"] * (7 + number))


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
    script.write_text(sign_in("rich") + keys("q", "y"))
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
        sign_in(name)
        + to_stop(1)
        + keys("<return>")
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


# Bills ----------------------------------------------------------------------------------------

TO_BILLS = follow("Bills")
SAVE_CARD = (
    follow("Saved")
    + follow("Save")
    + to_stop(1)
    + keys("<return>", "<return>")  # on to the bank, and its first button
    + TO_BILLS
)


def bill_of(served: Town, name: str) -> str:
    number = "SELECT invoices.number FROM invoices JOIN accounts ON accounts.id = account_id"
    return str(served.one(f"{number} WHERE accounts.number = ?", town.account_number(name)))


def test_customer_saves_a_card_and_pays_with_it(
    lynx: list[str], served: Town, tmp_path: Path
) -> None:
    script = tmp_path / "keys"
    script.write_text(
        sign_in(served.new_payer())
        + TO_BILLS
        + SAVE_CARD
        + follow("Another")
        # Past all that is due, another amount and its field: the card, then the button.
        + to_stop(4)
        + keys("<return>", "<tab>", "<tab>", "<return>", "q", "y")
    )
    drawn = drive(lynx, served.origin + "/sign-in", script)
    assert "Paid. Thank you." in drawn, drawn
    assert "Visa ending 4242" in drawn


def test_customer_switches_autopay_on(lynx: list[str], served: Town, tmp_path: Path) -> None:
    script = tmp_path / "keys"
    script.write_text(
        sign_in(served.new_payer())
        + TO_BILLS
        + SAVE_CARD
        + follow("Autopay")
        # Past card, day and limit: the box to tick, then the button.
        + to_stop(4)
        + keys("<return>", "<tab>", "<return>", "q", "y")
    )
    drawn = drive(lynx, served.origin + "/sign-in", script)
    assert "Autopay is on" in drawn, drawn
    assert "Autopay will take $105.56" in drawn


def test_customer_schedules_a_payment(lynx: list[str], served: Town, tmp_path: Path) -> None:
    script = tmp_path / "keys"
    day = today() + timedelta(days=5)
    script.write_text(
        sign_in(served.new_payer())
        + TO_BILLS
        + SAVE_CARD
        + follow("Schedule")
        # Past all that is due, another amount and its field: the day, the card, the button.
        + to_stop(4)
        + keys(day.isoformat(), "<tab>", "<tab>", "<return>", "q", "y")
    )
    drawn = drive(lynx, served.origin + "/sign-in", script)
    assert "To be taken" in drawn, drawn


def test_customer_arranges_to_pay_later(lynx: list[str], served: Town, tmp_path: Path) -> None:
    script = tmp_path / "keys"
    day = today() + timedelta(days=5)
    script.write_text(
        sign_in(served.new_payer())
        + TO_BILLS
        + follow("More")
        # In one sum; the day; past how often to the button.
        + to_stop(2)
        + keys(day.isoformat(), "<tab>", "<tab>", "<return>")
        # Past the four of the form above, and who pays.
        + to_stop(6)
        + keys("<return>", "q", "y")
    )
    drawn = drive(lynx, served.origin + "/sign-in", script)
    assert "It is agreed" in drawn, drawn


@pytest.mark.parametrize(("link", "begins"), [("PDF", "%PDF-"), ("CSV", "\ufeffNumber,Issued")])
def test_customer_downloads_a_bill(
    lynx: list[str], served: Town, tmp_path: Path, link: str, begins: str
) -> None:
    name, script, path = served.new_payer(), tmp_path / "keys", tmp_path / "bill"
    script.write_text(
        sign_in(name)
        + TO_BILLS
        + follow(bill_of(served, name))
        # On the link, to download what it leads to: the first way offered, and where to.
        + keys("/", link, "<return>", "d", "<return>", "^U", str(path), "<return>", "q", "y")
    )
    drawn = drive(lynx, served.origin + "/sign-in", script)
    assert path.exists(), drawn
    assert path.read_bytes().startswith(begins.encode())


def test_customer_disputes_a_line(lynx: list[str], served: Town, tmp_path: Path) -> None:
    name, script = served.new_payer(), tmp_path / "keys"
    script.write_text(
        sign_in(name)
        + TO_BILLS
        + follow(bill_of(served, name))
        + follow("Something")
        # Past three lines of the bill, of which lynx chooses the first, to what is written.
        + to_stop(4)
        + keys("broken", "<tab>", "<return>", "q", "y")
    )
    drawn = drive(lynx, served.origin + "/sign-in", script)
    assert "We have it, and answer here." in drawn, drawn
    assert "broken" in drawn
