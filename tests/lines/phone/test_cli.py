"""What operators do about telephone numbers."""

from __future__ import annotations

from pathlib import Path

from tests.conftest import Portal
from tests.lines.phone.conftest import ALICE, Exchange


def run(portal: Portal, *arguments: str) -> tuple[int, str]:
    done = portal.app.test_cli_runner().invoke(args=["phone", *arguments])
    return done.exit_code, done.output


def test_number_is_given_once(exchange: Exchange) -> None:
    portal = exchange.portal
    code, output = run(portal, "give", "3003", "541 555 0173", "--on", "voicemail")
    assert (code, output) == (0, "+15415550173 is given to account 3003.\n")
    code, output = run(portal, "give", "3003", "541 555 0174")
    assert code == 1
    assert "without a number" in output
    assert run(portal, "give", "3003", "5")[0] == 1
    assert "there is no account '9'" in run(portal, "give", "9", "541 555 0174")[1]
    assert "no feature sings" in run(portal, "give", "3003", "541 555 0174", "--on", "sings")[1]


def test_file_is_read_as_often_as_one_likes(exchange: Exchange, tmp_path: Path) -> None:
    file = tmp_path / "numbers.csv"
    file.write_text(
        "account_number,number,plan_code,features\n"
        f"1001,{ALICE},,\n"
        "3003,+1 541 555 0173,VOICE-HOME,voicemail caller_id\n"
        "3003,+1 541 555 0174,,\n"
        "9,+1 541 555 0175,,\n"
        "2002,soon,,\n"
    )
    code, output = run(exchange.portal, "import", str(file))
    assert code == 1
    assert "1 given, 1 known before, 3 refused." in output
    for line in ("line 4:", "line 5: there is no account '9'", "line 6: soon:"):
        assert line in output
    code, output = run(exchange.portal, "import", str(file))
    assert "0 given, 2 known before, 3 refused." in output
    file.write_text("account;number\n")
    assert "lacks account_number, number" in run(exchange.portal, "import", str(file))[1]


def test_switch_that_forgot_is_told_anew(exchange: Exchange) -> None:
    assert exchange.sync() == 0
    code, output = run(exchange.portal, "sync")
    assert code == 0
    assert output.startswith("2 numbers")
    assert exchange.sync() == 2
    assert exchange.switch.read_number(ALICE) == exchange.reached()
