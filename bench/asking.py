"""A plain client for measuring: requests sent at fixed moments, whatever became of those before.

Times count from the moment a request was due, so that a server which stands still is not spared.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass

PATIENCE_SECONDS = 30


@dataclass(frozen=True, slots=True)
class Told:
    """One answer: its status (0 for none) and the seconds since it was due."""

    status: int
    seconds: float
    head: str = ""


def request(method: str, path: str, host: str, headers: dict[str, str], body: str = "") -> bytes:
    """The bytes of a request on a connection of its own."""
    sent = {"Host": host, "Connection": "close", "Accept-Encoding": "br"} | headers
    if method == "POST":
        sent |= {
            "Content-Type": "application/x-www-form-urlencoded",
            "Content-Length": str(len(body.encode())),
        }
    lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in sent.items())]
    return ("\r\n".join([*lines, "", ""]) + body).encode()


async def ask(port: int, sent: bytes, due: float | None = None) -> Told:
    """Send one request to this machine and read the whole answer."""
    began = time.monotonic() if due is None else due
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(sent)
            received = await reader.read(-1)
            writer.close()
    except (OSError, TimeoutError):
        return Told(0, time.monotonic() - began)
    head = received.split(b"\r\n\r\n", 1)[0].decode("latin-1")
    status = int(head.split(" ", 2)[1]) if head.startswith("HTTP/") else 0
    return Told(status, time.monotonic() - began, head)


async def steadily(
    port: int, rate: float, seconds: float, make: Callable[[int], bytes]
) -> list[Told]:
    """`rate` requests a second for `seconds`, `make(number)` being each."""
    began = time.monotonic()
    waiting = []
    for number in range(int(rate * seconds)):
        due = began + number / rate
        await asyncio.sleep(max(0.0, due - time.monotonic()))
        waiting.append(asyncio.create_task(ask(port, make(number), due)))
    return list(await asyncio.gather(*waiting))


def percentile(values: list[float], share: float) -> float:
    """The value that `share` of `values` do not exceed; 0 for none."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0
