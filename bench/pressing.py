"""As many requests a second as a server answers: by `wrk`, or by a Python client without it."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bench import client
from bench.client import Asked

_UNITS = {"us": 1e-6, "ms": 1e-3, "s": 1.0}


class WrongAnswers(RuntimeError):
    """Answers were not the pages asked for: what was measured is void."""


@dataclass(frozen=True, slots=True)
class Pressed:
    rate: float
    median_seconds: float


def tool() -> str:
    """What presses: to be named beside the figures, since a Python client costs more itself."""
    return "wrk" if shutil.which("wrk") else "a Python client (wrk is not installed)"


def press(port: int, requests: Sequence[Asked], seconds: float, *, connections: int = 8) -> Pressed:
    """Go through `requests` again and again. Raises WrongAnswers if any answer is not as wanted."""
    if shutil.which("wrk") is None:
        measured = client.closed_loop(port, requests, seconds, connections)
        if measured.wrong:
            raise WrongAnswers(f"{measured.wrong} of {len(measured.latencies)} answers")
        return Pressed(measured.rate, measured.part(0.5))
    with tempfile.TemporaryDirectory(prefix="lastmile-bench-") as folder:
        script = Path(folder) / "requests.lua"
        script.write_text(_lua(requests))
        done = subprocess.run(
            [
                *("wrk", "-t1", f"-c{connections}", f"-d{max(1, round(seconds))}s", "--latency"),
                *("-s", str(script), f"http://127.0.0.1:{port}/"),
            ],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
    return _read(done)


def _lua(requests: Sequence[Asked]) -> str:
    """A script of wrk that sends `requests` in turn and counts answers of another kind."""
    [status] = {request.status for request in requests}
    least = min(request.least_bytes for request in requests)
    lines = ["local all = {"]
    lines += [f"  {json.dumps(request.raw.decode())}," for request in requests]
    lines += [
        "}",
        "local i = 0",
        "request = function() i = i % #all + 1; return all[i] end",
        "wrong = 0",
        "response = function(status, headers, body)",
        f"  if status ~= {status} or #body < {least} then wrong = wrong + 1 end",
        "end",
        "local threads = {}",
        "setup = function(thread) table.insert(threads, thread) end",
        "done = function() print('WRONG ' .. threads[1]:get('wrong')) end",
    ]
    return "\n".join(lines)


def _read(answer: str) -> Pressed:
    wrong = re.search(r"WRONG (\d+)", answer)
    rate = re.search(r"Requests/sec:\s+([\d.]+)", answer)
    median = re.search(r"50%\s+([\d.]+)(us|ms|s)", answer)
    if wrong is None or rate is None or median is None or "Socket errors" in answer:
        raise RuntimeError(f"wrk did not finish:\n{answer}")
    if int(wrong.group(1)):
        raise WrongAnswers(f"{wrong.group(1)} answers were not the page asked for:\n{answer}")
    return Pressed(float(rate.group(1)), float(median.group(1)) * _UNITS[median.group(2)])
