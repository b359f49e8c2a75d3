"""A switch that tests can have fail, and alice's number."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from blueprints.lines.phone import choosing
from blueprints.lines.phone.syncing import NumberSyncing
from core.db import db, refuse_inside_unit, unit_of_work
from core.form_keys import ArrivedKey
from gateways.voice.base import Feature, NumberSettings, VoiceGateway
from models import PhoneNumber
from tests import crawl
from tests.conftest import Portal

ALICE = crawl.PHONES["alice"]


class ShakySwitch(VoiceGateway):
    """Numbers in memory; `before` and `after` are called around each change."""

    title = "Shaky switch"

    def __init__(self) -> None:
        self.numbers: dict[str, NumberSettings] = {}
        self.calls: list[NumberSettings] = []
        self.before: Callable[[], None] = lambda: None
        self.after: Callable[[], None] = lambda: None

    def set_number(self, number: str, wanted: NumberSettings, timezone: str) -> None:
        assert timezone == "America/Los_Angeles"
        refuse_inside_unit("a call to the switch")
        self.before()
        self.numbers[number] = wanted
        self.calls.append(wanted)
        self.after()

    def read_number(self, number: str) -> NumberSettings | None:
        return self.numbers.get(number)


@dataclass
class Exchange:
    portal: Portal
    switch: ShakySwitch = field(default_factory=ShakySwitch)
    _count: int = 0

    def __post_init__(self) -> None:
        self.sync = NumberSyncing(self.switch)

    def choose(
        self,
        *on: Feature,
        name: str = "alice",
        of: str = "",
        stamp: str | None = None,
        **more: Any,
    ) -> str:
        """Choose for the number of `name`, as the owner of the account `of`, usually the same, on
        a page that shows what is wanted or has the `stamp`."""
        self._count += 1
        key = ArrivedKey(bytes([self._count]) * 32, "customer:1", b"c" * 32)
        return choosing.choose(
            self.portal.world.accounts[of or name],
            f"{name}phone",
            NumberSettings(frozenset(on), **more),
            choosing.stamp_of(self.wanted(name)) if stamp is None else stamp,
            self.portal.world.customers[name],
            "/done",
            key,
        )

    def number(self, name: str = "alice") -> PhoneNumber:
        db.session.expire_all()
        return db.session.query(PhoneNumber).filter_by(public_id=f"{name}phone").one()

    def wanted(self, name: str = "alice") -> NumberSettings:
        return NumberSettings.of(self.number(name).wanted)

    def reached(self, name: str = "alice") -> NumberSettings:
        return NumberSettings.of(self.number(name).reached)


@pytest.fixture
def exchange(ctx: Portal) -> Exchange:
    unit_of_work(lambda session: crawl.add_phones(session, ctx.world))
    ctx.execute("UPDATE phone_numbers SET sync_at = NULL, sync_count = 0, sync_failure = ''")
    ctx.execute("UPDATE phone_numbers SET pending_at = NULL, reached = wanted")
    return Exchange(ctx)
