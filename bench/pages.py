"""Requests a second of the hottest pages, as a share of a bare Flask route served the same way.

Reference and page take turns, so that a machine that is busy with something else slows both. The
dashboards are those of hundreds of owners in turn. A dashboard that is opened again is remembered
(core/remembered.py); a second portal remembers nothing, so that each of its pages is made.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from bench import dataset, serving
from bench.pressing import Pressed, WrongAnswers, press, tool
from bench.report import Bar, Result, Table
from bench.serving import Served

SESSIONS = 500
ROUNDS = {"small": 3, "full": 7}
SECONDS = {"small": 1, "full": 4}
FIRST = "dashboard, opened first"
# What is opened first has a limit of our own, so that it gets no slower than it is.
LIMITS = {
    "sign-in page": 0.6,
    "dashboard, opened again": 0.35,
    "dashboard, unchanged": 0.6,
    FIRST: 0.06,
}


class _Pages:
    """The pages of two served portals, looked at before they are pressed."""

    def __init__(
        self, served: Served, forgetful: Served, owners: Sequence[dataset.SignedInOwner]
    ) -> None:
        self._served, self._forgetful, self._owners = served, forgetful, owners
        self._look()

    def _look(self) -> None:
        homes = serving.homes(self._served, self._owners)
        self._requests = {
            "sign-in page": serving.sign_in_requests(self._served),
            "dashboard, opened again": homes.whole,
            "dashboard, unchanged": homes.unchanged,
            FIRST: serving.homes(self._forgetful, self._owners).whole,
        }

    def press(self, name: str, seconds: float) -> Pressed:
        port = (self._forgetful if name == FIRST else self._served).port
        try:
            return press(port, self._requests[name], seconds)
        except WrongAnswers:
            # The worker may have learnt of a payment meanwhile: one page that was held is old.
            self._look()
            return press(port, self._requests[name], seconds)


def run(size: str) -> Result:
    """Shares of the bare route, one process each. Raises WrongAnswers, RuntimeError when answers
    are not the pages asked for."""
    demo = dataset.demo()
    owners = dataset.open_sessions(demo, SESSIONS)
    rates: dict[str, list[float]] = {name: [] for name in LIMITS}
    shares: dict[str, list[float]] = {name: [] for name in LIMITS}
    bare_rates = []
    with (
        serving.bare() as bare,
        serving.portal(demo) as portal,
        serving.portal(demo, remembers=False) as forgetful,
    ):
        pages = _Pages(portal, forgetful, owners)
        for number in range(ROUNDS[size]):
            for name in LIMITS:
                order = (True, False) if number % 2 else (False, True)
                for is_bare in order:
                    if is_bare:
                        reference = press(bare.port, serving.bare_requests(bare), SECONDS[size])
                    else:
                        page = pages.press(name, SECONDS[size])
                bare_rates.append(reference.rate)
                rates[name].append(page.rate)
                shares[name].append(page.rate / reference.rate)
    middle = {name: statistics.median(found) for name, found in shares.items()}
    rows = [["bare Flask route", f"{statistics.median(bare_rates):,.0f}", "1"]]
    rows += [
        [name, f"{statistics.median(rates[name]):,.0f}", f"{middle[name]:.3f}"] for name in rates
    ]
    note = (
        f"One process each; {tool()} with eight connections, in turn {ROUNDS[size]} times "
        f"{SECONDS[size]} s, medians; `Accept-Encoding: br`; {len(owners)} owners of accounts with "
        f"a year of bills, in turn, of {demo.accounts:,} accounts."
    )
    return Result(
        [Table("", ("page", "requests a second", "share of the bare route"), rows, note)],
        [
            Bar(f"{name}, share", middle[name], limit, at_least=True)
            for name, limit in LIMITS.items()
        ],
    )
