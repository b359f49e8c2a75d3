"""A thin line below the browser: a TCP relay that all connections of one customer share.

What goes through it is cut into packets that wait their turn at 50 kbit/s each way and arrive a
quarter of a second later; opening a connection costs its packets and one round trip before the
first byte. Every packet counts with its headers. The line can also lose the answer to a request
after the server acted. It works on any client and any server, knows nothing of what it carries but
the first line of a request, and runs in a thread of its own.

Not imitated: acknowledgements (1 % of the other direction), and the slow start of TCP, whose first
window (14 kB) holds more than such a line can have under way (3 kB).
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
import struct
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Generic, NamedTuple, TypeVar

T = TypeVar("T")

BITS_PER_SECOND = 50_000
ROUND_TRIP_SECONDS = 0.5
PACKET_BYTES = 1_460
HEADER_BYTES = 40
"""IP and TCP headers of one packet; a packet of the handshake is nothing else."""

_REQUEST = re.compile(rb"([A-Z]+) (\S+) HTTP/1\.[01]\r\n")


class Parcel(NamedTuple, Generic[T]):
    """What one packet carries, and when its last bit arrives."""

    flow: int
    content: T
    arrives_at: float


@dataclass
class Pipe(Generic[T]):
    """One direction of a line, as arithmetic: flows take turns, packet by packet.

    `bits_per_second` None is a line without limits. Times are seconds on any one clock.
    """

    bits_per_second: float | None
    delay_seconds: float
    free_at: float = 0.0
    _waiting: OrderedDict[int, deque[tuple[T, int, float]]] = field(default_factory=OrderedDict)

    def put(self, flow: int, content: T, size: int, at: float) -> None:
        """Let a packet of `size` bytes, headers included, stand in line from `at` on."""
        self._waiting.setdefault(flow, deque()).append((content, size, at))

    def take(self) -> Parcel[T] | None:
        """The packet whose turn it is; None when nothing waits."""
        if not self._waiting:
            return None
        flow, queue = self._waiting.popitem(last=False)
        content, size, at = queue.popleft()
        if queue:
            self._waiting[flow] = queue
        seconds = size * 8 / self.bits_per_second if self.bits_per_second else 0.0
        self.free_at = max(self.free_at, at) + seconds
        return Parcel(flow, content, self.free_at + self.delay_seconds)


@dataclass(frozen=True, slots=True)
class Loss:
    """Of the answer only the first `kept` bytes arrive; then the connection is reset, or nothing
    is ever heard of it again."""

    kept: int = 0
    is_reset: bool = True


@dataclass
class Request:
    """One request that went through the line, and what came back. Bytes are those of HTTP."""

    method: str
    path: str
    port: int
    connection: int
    began_at: float
    sent: int = 0
    received: int = 0
    ended_at: float = 0.0
    loss: Loss | None = None


@dataclass
class Count:
    """What one route of the line carried; `wire_…` with the headers of packets."""

    connections: int = 0
    sent: int = 0
    received: int = 0
    wire_sent: int = 0
    wire_received: int = 0


Plan = Callable[[Request], Loss | None]


class ThinLine:
    """A running line. `listen` opens a route; settings may change while it runs.

    `lose` decides about each request as its first line passes; `requests` and `counts` grow.
    """

    def __init__(
        self,
        bits_per_second: float | None = BITS_PER_SECOND,
        round_trip_seconds: float = ROUND_TRIP_SECONDS,
    ) -> None:
        self.lose: Plan | None = None
        self.requests: list[Request] = []
        self.counts: dict[int, Count] = {}
        self._up: _Way = _Way(bits_per_second, round_trip_seconds / 2)
        self._down: _Way = _Way(bits_per_second, round_trip_seconds / 2)
        self._servers: list[asyncio.Server] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._last_flow = 0
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()

    def set_speed(self, bits_per_second: float | None, round_trip_seconds: float) -> None:
        """Change the line from the next packet on; None and 0 make it as good as none."""
        for way in (self._up, self._down):
            way.pipe.bits_per_second = bits_per_second
            way.pipe.delay_seconds = round_trip_seconds / 2

    def listen(self, port: int, host: str = "127.0.0.1") -> int:
        """Open a route to `port` of this machine; the port to connect to instead."""
        return asyncio.run_coroutine_threadsafe(self._listen(host, port), self._loop).result(10)

    async def _listen(self, host: str, port: int) -> int:
        counted = Count()

        async def meet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.current_task()
            assert task is not None
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
            self._last_flow += 1
            connection = _Connection(self, self._last_flow, counted, port)
            with contextlib.suppress(OSError, asyncio.CancelledError):
                await connection.carry(reader, writer, host)

        server = await asyncio.start_server(meet, host, 0)
        self._servers.append(server)
        entrance: int = server.sockets[0].getsockname()[1]
        self.counts[entrance] = counted
        return entrance

    def close(self) -> None:
        """Cut every connection and end the thread."""
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    async def _close(self) -> None:
        for server in self._servers:
            server.close()
        tasks = [*self._tasks, *self._up.tasks, *self._down.tasks]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@contextlib.contextmanager
def thin_line(
    bits_per_second: float | None = BITS_PER_SECOND,
    round_trip_seconds: float = ROUND_TRIP_SECONDS,
) -> Iterator[ThinLine]:
    """A line for the length of a block."""
    line = ThinLine(bits_per_second, round_trip_seconds)
    try:
        yield line
    finally:
        line.close()


Deliver = Callable[[float], None]


class _Way:
    """A pipe that really takes its time: hands over what each packet carries when it arrives."""

    def __init__(self, bits_per_second: float | None, delay_seconds: float) -> None:
        self.pipe: Pipe[Deliver] = Pipe(bits_per_second, delay_seconds)
        self.tasks: set[asyncio.Task[None]] = set()
        self._is_pumping = False

    def send(self, flow: int, size: int, deliver: Deliver) -> None:
        """Call `deliver` with the time at which a packet of `size` bytes arrives."""
        self.pipe.put(flow, deliver, size, time.monotonic())
        if not self._is_pumping:
            self._is_pumping = True
            task = asyncio.get_running_loop().create_task(self._pump())
            self.tasks.add(task)
            task.add_done_callback(self.tasks.discard)

    async def passed(self, flow: int, size: int) -> None:
        """Wait until a packet that carries nothing has arrived."""
        arrived: asyncio.Future[float] = asyncio.get_running_loop().create_future()

        def deliver(at: float) -> None:
            if not arrived.done():
                arrived.set_result(at)

        self.send(flow, size, deliver)
        await _sleep_until(await arrived)

    async def _pump(self) -> None:
        while (parcel := self.pipe.take()) is not None:
            parcel.content(parcel.arrives_at)
            await _sleep_until(self.pipe.free_at)
        self._is_pumping = False


async def _sleep_until(at: float) -> None:
    seconds = at - time.monotonic()
    if seconds > 0:
        await asyncio.sleep(seconds)


class _Connection:
    """One connection through the line."""

    def __init__(self, line: ThinLine, flow: int, counted: Count, port: int) -> None:
        self._line = line
        self._flow = flow
        self._count = counted
        self._port = port
        self._request: Request | None = None
        self._is_answered = True

    async def carry(
        self, client_in: asyncio.StreamReader, client_out: asyncio.StreamWriter, host: str
    ) -> None:
        """From the handshake to the end of both directions."""
        up, down = self._line._up, self._line._down
        self._count.connections += 1
        self._count.wire_sent += HEADER_BYTES
        self._count.wire_received += HEADER_BYTES
        server_out: asyncio.StreamWriter | None = None
        try:
            await up.passed(self._flow, HEADER_BYTES)
            await down.passed(self._flow, HEADER_BYTES)
            server_in, server_out = await asyncio.open_connection(host, self._port)
            ways = [
                asyncio.ensure_future(self._relay(client_in, server_out, up, self._note_sent)),
                asyncio.ensure_future(self._relay(server_in, client_out, down, self._note_answer)),
            ]
            try:
                done, _ = await asyncio.wait(ways, return_when=asyncio.FIRST_EXCEPTION)
                if any(way.exception() for way in done):
                    _reset(client_out)
            finally:
                for way in ways:
                    way.cancel()
                await asyncio.gather(*ways, return_exceptions=True)
        finally:
            for writer in (client_out, server_out):
                if writer is not None:
                    writer.close()

    async def _relay(
        self,
        source: asyncio.StreamReader,
        target: asyncio.StreamWriter,
        way: _Way,
        note: Callable[[bytes], bytes],
    ) -> None:
        """Carry one direction until its end. Raises ConnectionError when it is to be cut."""
        arrivals: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()
        delivering = asyncio.ensure_future(self._deliver(arrivals, target))

        def send(packet: bytes) -> None:
            way.send(
                self._flow,
                len(packet) + HEADER_BYTES,
                lambda at: arrivals.put_nowait((at, packet)),
            )

        try:
            while data := await source.read(65_536):
                carried = note(data)
                for start in range(0, len(carried), PACKET_BYTES):
                    send(carried[start : start + PACKET_BYTES])
                if len(carried) < len(data):
                    await self._break_off(way)
            send(b"")  # the end, in a packet of its own
            await delivering
        finally:
            delivering.cancel()

    async def _break_off(self, way: _Way) -> None:
        """The rest of an answer is lost."""
        assert self._request is not None
        assert self._request.loss is not None
        if not self._request.loss.is_reset:
            await asyncio.Event().wait()  # until the client gives up
        await way.passed(self._flow, HEADER_BYTES)
        raise ConnectionResetError

    async def _deliver(
        self, arrivals: asyncio.Queue[tuple[float, bytes]], target: asyncio.StreamWriter
    ) -> None:
        while True:
            at, packet = await arrivals.get()
            await _sleep_until(at)
            if not packet:
                with contextlib.suppress(OSError):
                    target.write_eof()
                return
            target.write(packet)
            await target.drain()
            if self._request is not None:
                self._request.ended_at = at

    def _note_sent(self, data: bytes) -> bytes:
        self._count.sent += len(data)
        self._count.wire_sent += len(data) + HEADER_BYTES * _packets(data)
        found = _REQUEST.match(data) if self._is_answered else None
        if found is not None:
            self._is_answered = False
            self._request = Request(
                found[1].decode(),
                found[2].decode("latin-1"),
                self._port,
                self._flow,
                time.monotonic(),
            )
            if self._line.lose is not None:
                self._request.loss = self._line.lose(self._request)
            self._line.requests.append(self._request)
        if self._request is not None:
            self._request.sent += len(data)
        return data

    def _note_answer(self, data: bytes) -> bytes:
        """The part of `data` that gets through."""
        self._is_answered = True
        request = self._request
        if request is not None and request.loss is not None:
            left = request.loss.kept - request.received
            data = data[: max(left, 0)]
        if request is not None:
            request.received += len(data)
        self._count.received += len(data)
        self._count.wire_received += len(data) + HEADER_BYTES * _packets(data)
        return data


def _packets(data: bytes) -> int:
    return -(-len(data) // PACKET_BYTES)


def _reset(writer: asyncio.StreamWriter) -> None:
    """Make the coming end of this connection a reset, not an orderly close."""
    found: socket.socket | None = writer.get_extra_info("socket")
    if found is not None:
        found.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
