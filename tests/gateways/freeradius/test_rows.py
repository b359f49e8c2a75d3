"""Whatever becomes of the packets on their way to `radacct`, its rows count what was carried."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from blueprints.lines import counting
from blueprints.lines.counting import Counted
from gateways.network.freeradius.accounting import as_report

BEGAN, EVERY = 1_800_000_000, 300


@dataclass
class Row:
    """A session's row as the queries of FreeRADIUS for PostgreSQL keep it."""

    nas: str = "10.0.0.1"
    session: str = "S1"
    unique_id: str = "u1"
    username: str = "ppp-alice"
    started: int | None = None
    updated: int | None = None
    stopped: int | None = None
    seconds: int | None = None
    interval: int | None = None
    octets_in: int | None = None
    octets_out: int | None = None
    address: str = ""
    address6: str = ""
    prefix6: str = ""
    device: str = ""
    cause: str = ""

    def take(self, kind: str, seconds: int, up: int, down: int) -> None:
        at, is_new = BEGAN + seconds, self.started is None
        if kind == "start":
            self.started = self.updated = at
            if is_new:
                self.seconds = self.octets_in = self.octets_out = 0
            return
        if self.stopped is not None:
            return
        if is_new:
            self.started = at - seconds if kind == "stop" else at
        elif kind == "interim":
            self.interval = at - (self.updated or at)
        self.updated, self.seconds, self.octets_in, self.octets_out = at, seconds, up, down
        if kind == "stop":
            self.stopped = at


@st.composite
def histories(draw: Any) -> list[tuple[str, int, int, int]]:
    """Packets in the order in which they arrive, some twice, some never, the last one last, and
    that one now and then without counters."""
    count = draw(st.integers(1, 8))
    bytes_each = st.integers(0, 3 << 32)
    up = down = 0
    packets = [("start", 0, 0, 0)]
    for number in range(1, count + 1):
        up, down = up + draw(bytes_each), down + draw(bytes_each)
        packets.append(("interim", number * EVERY, up, down))
    carried = draw(st.sampled_from([(up + 1, down + 1), (0, 0)]))
    last = ("stop", count * EVERY + 7, *carried)
    kept = [packet for packet in packets if draw(st.integers(0, 4))]
    again = draw(st.lists(st.sampled_from(packets), max_size=4))
    return [*draw(st.permutations(kept + again)), last, *draw(st.permutations(again))]


@given(packets=histories(), data=st.data())
def test_every_byte_counts_once_and_none_is_taken_back(
    packets: list[tuple[str, int, int, int]], data: st.DataObject
) -> None:
    row, sessions = Row(), list[Counted]()
    counted = [0, 0]
    for number, packet in enumerate(packets):
        row.take(*packet)
        if not data.draw(st.booleans()) and number < len(packets) - 1:
            continue  # no look at the table in between
        report = as_report(row, is_swapped=False)
        if report is None:
            continue
        place = counting.which(sessions, report)
        known = counting.begin(report) if place is None else sessions[place]
        after, delta = counting.count(known, report)
        if place is None:
            sessions.append(after)
        else:
            sessions[place] = after
        if delta is not None:
            assert delta.up_bytes >= 0
            assert delta.down_bytes >= 0
            counted[0] += delta.up_bytes
            counted[1] += delta.down_bytes
    _kind, _seconds, up, down = next(packet for packet in packets if packet[0] == "stop")
    if up:
        assert counted == [up, down]
    else:
        assert counted[0] <= max(packet[2] for packet in packets)
        assert counted[1] <= max(packet[3] for packet in packets)
    assert any(each.is_stopped for each in sessions)
