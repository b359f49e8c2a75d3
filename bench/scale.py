"""Two processes on two cores, the demo beside 50,000 accounts with a year of history."""

from __future__ import annotations

import statistics

from bench import dataset, serving
from bench.pressing import press, tool
from bench.processes import Use
from bench.report import Bar, Result, Table

ACCOUNTS = {"small": 4_000, "full": 50_000}
SESSIONS = {"small": 300, "full": 1_000}
ROUNDS = {"small": 3, "full": 7}
SECONDS = {"small": 1, "full": 4}
PROCESSES = 2
LEAST_SHARE = 0.3
MOST_DIFFERENT = 0.10
MOST_BYTES = 120_000_000  # of one web process


def run(size: str) -> Result:
    """Shares of the bare route at both sizes, median latencies, memory of the web processes."""
    sets = {"demo": dataset.demo(), "many": dataset.make(ACCOUNTS[size])}
    owners = {name: dataset.open_sessions(data, SESSIONS[size]) for name, data in sets.items()}
    rates: dict[str, list[float]] = {name: [] for name in ("bare", *sets, *map(_first, sets))}
    medians: dict[str, list[float]] = {"demo": [], "many": []}
    with (
        serving.bare(PROCESSES) as bare,
        serving.portal(sets["demo"], PROCESSES) as demo,
        serving.portal(sets["many"], PROCESSES) as many,
        serving.portal(sets["demo"], PROCESSES, remembers=False) as demo_anew,
        serving.portal(sets["many"], PROCESSES, remembers=False) as many_anew,
    ):
        served = {"demo": demo, "many": many, _first("demo"): demo_anew, _first("many"): many_anew}
        requests = {
            name: serving.homes(portal, owners[name.split()[0]]).whole
            for name, portal in served.items()
        }
        for number in range(ROUNDS[size]):
            reference = press(
                bare.port,
                serving.bare_requests(bare),
                SECONDS[size],
                connections=8 * PROCESSES,
            )
            rates["bare"].append(reference.rate)
            for name in sets if number % 2 else reversed(sets):
                first = _first(name)
                alone = press(served[first].port, requests[first], SECONDS[size], connections=1)
                medians[name].append(alone.median_seconds)
                for asked in (name, first):
                    pressed = press(
                        served[asked].port,
                        requests[asked],
                        SECONDS[size],
                        connections=8 * PROCESSES,
                    )
                    rates[asked].append(pressed.rate)
        uses = many.web_uses()
    return _report(sets, rates, medians, uses, size)


def _first(name: str) -> str:
    """The same pages from a portal that remembers none, so that each is opened first."""
    return f"{name} first"


def _report(
    sets: dict[str, dataset.Dataset],
    rates: dict[str, list[float]],
    medians: dict[str, list[float]],
    uses: list[Use],
    size: str,
) -> Result:
    shares = {
        name: statistics.median(
            mine / theirs for mine, theirs in zip(rates[name], rates["bare"], strict=True)
        )
        for name in rates
        if name != "bare"
    }
    middle = {name: statistics.median(found) for name, found in medians.items()}
    # Each round compares the two beside each other, so that a busy machine does not decide.
    slower = statistics.median(
        many / demo for many, demo in zip(medians["many"], medians["demo"], strict=True)
    )
    rows = [["bare Flask route", "", f"{statistics.median(rates['bare']):,.0f}", "1", ""]]
    rows += [
        [
            f"dashboard, opened {'first' if asked != name else 'again'}",
            f"{sets[name].accounts:,}",
            f"{statistics.median(rates[asked]):,.0f}",
            f"{shares[asked]:.3f}",
            f"{1000 * middle[name]:.2f} ms" if asked != name else "",
        ]
        for name in sets
        for asked in (name, _first(name))
    ]
    header = ("page", "accounts", "requests a second", "share", "median, one at a time")
    note = (
        f"{PROCESSES} processes; {tool()} on the same cores, {8 * PROCESSES} connections, in turn "
        f"{ROUNDS[size]} times {SECONDS[size]} s, medians; hundreds of owners in turn."
    )
    memory = [
        [str(number), f"{use.rss_bytes / 1e6:,.0f} MB", f"{use.pss_bytes / 1e6:,.0f} MB"]
        for number, use in enumerate(uses, 1)
    ]
    bars = [
        Bar(
            f"dashboard opened again, share at {sets[name].accounts:,}",
            shares[name],
            LEAST_SHARE,
            at_least=True,
        )
        for name in sets
    ]
    bars += [
        Bar("median of many accounts, apart from the demo's", abs(slower - 1), MOST_DIFFERENT),
        Bar(
            "memory of a web process",
            max(use.rss_bytes for use in uses) / 1e6,
            MOST_BYTES / 1e6,
            unit=" MB",
        ),
    ]
    return Result(
        [
            Table("", header, rows, note),
            Table(
                "Memory after the load", ("web process", "resident", "its part of shared"), memory
            ),
        ],
        bars,
    )
