"""The demo's switch keeps what it is told, and any process may tell it."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateways.voice.base import Feature, ForwardWhen, NumberSettings
from gateways.voice.errors import GatewayRefused, GatewayTimeout
from gateways.voice.simulated import SimulatedVoice

NUMBER, ZONE = "+15415550171", "America/Los_Angeles"
QUIET = NumberSettings(
    frozenset({Feature.CALL_FORWARDING, Feature.DO_NOT_DISTURB}),
    "+15414166117",
    ForwardWhen.BUSY,
    "22:00",
    "07:00",
)


def test_number_is_as_it_was_set_at_last(tmp_path: Path) -> None:
    switch = SimulatedVoice(tmp_path / "voice.db")
    assert switch.read_number(NUMBER) is None
    switch.set_number(NUMBER, NumberSettings(), ZONE)
    switch.set_number(NUMBER, QUIET, ZONE)
    switch.set_number(NUMBER, QUIET, ZONE)
    assert SimulatedVoice(tmp_path / "voice.db").read_number(NUMBER) == QUIET
    switch.forget()
    assert switch.read_number(NUMBER) is None


@pytest.mark.parametrize("number", ["", "5415550171", "+0", "+1541555017112345"])
def test_what_is_no_number_is_refused(tmp_path: Path, number: str) -> None:
    with pytest.raises(GatewayRefused):
        SimulatedVoice(tmp_path / "voice.db").set_number(number, QUIET, ZONE)


def test_broken_file_is_a_switch_that_does_not_answer(tmp_path: Path) -> None:
    switch = SimulatedVoice(tmp_path / "voice.db")
    (tmp_path / "voice.db").write_bytes(b"no database" * 100)
    with pytest.raises(GatewayTimeout):
        switch.read_number(NUMBER)


def test_facts_say_all_of_the_settings() -> None:
    assert NumberSettings.of(QUIET.as_facts()) == QUIET
    assert NumberSettings.of({}) == NumberSettings()
    assert NumberSettings.of({"on": ["voicemail", "teleport"]}).on == {Feature.VOICEMAIL}
