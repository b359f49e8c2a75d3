"""A file layer under SQLite that sees what the driver writes: it can count, fail, or lose power.

It is a VFS put in front of the system's own inside the very library that Python's driver uses, so
the portal's engine, pragmas and transactions run unchanged. Only opening, writing, truncating,
syncing and deleting pass through here; everything else, shared memory included, is the system's.
"""

from __future__ import annotations

import _sqlite3
import atexit
import ctypes
import os
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from ctypes import c_char_p, c_int, c_int64, c_void_p
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

OK, READONLY, IOERR, FULL = 0, 8, 10, 13
IOERR_WRITE, IOERR_FSYNC = IOERR | 3 << 8, IOERR | 4 << 8
OPEN_CREATE = 4
PIECE_BYTES = 512
"""What a disk writes whole. SQLite trusts that the bytes beside it stay as they were."""


class Operation(NamedTuple):
    """Something that changes a file: `kind` is create, write, truncate, sync or delete, or `note`
    for what the test itself put between them."""

    kind: str
    path: str
    at: int = 0
    data: bytes = b""


@dataclass
class Disk:
    """The files whose path begins with `prefix`.

    `before` is asked about each operation and returns an error code to give to SQLite instead of
    doing it, or 0. Nothing is synced to the real disk: what would be lasting is known from `log`.
    """

    prefix: str
    before: Callable[[Operation], int] = lambda _operation: OK
    log: list[Operation] = field(default_factory=list)
    is_recording: bool = False
    count: int = 0

    def ask(self, operation: Operation) -> int:
        self.count += 1
        code = self.before(operation)
        if code == OK and self.is_recording:
            self.log.append(operation)
        return code

    def note(self, text: str) -> None:
        """Put something into the log that happened outside the files."""
        self.log.append(Operation("note", text))


_Callback = ctypes.CFUNCTYPE
_OPEN = _Callback(c_int, c_void_p, c_void_p, c_void_p, c_int, c_void_p)
_DELETE = _Callback(c_int, c_void_p, c_char_p, c_int)
_CLOSE = _Callback(c_int, c_void_p)
_WRITE = _Callback(c_int, c_void_p, c_void_p, c_int, c_int64)
_TRUNCATE = _Callback(c_int, c_void_p, c_int64)
_SYNC = _Callback(c_int, c_void_p, c_int)


class _Vfs(ctypes.Structure):
    _fields_ = [
        ("version", c_int),
        ("file_size", c_int),
        ("max_path", c_int),
        ("next", c_void_p),
        ("name", c_char_p),
        ("app_data", c_void_p),
        ("open", c_void_p),
        ("delete", c_void_p),
        ("others", c_void_p * 14),
    ]


class _Methods(ctypes.Structure):
    _fields_ = [
        ("version", c_int),
        ("close", c_void_p),
        ("read", c_void_p),
        ("write", c_void_p),
        ("truncate", c_void_p),
        ("sync", c_void_p),
        ("others", c_void_p * 13),
    ]


class _Layer:
    """The VFS itself: registered once as the default and never taken away, since connections keep
    a pointer to it. Files of no `Disk` get the system's own methods."""

    def __init__(self) -> None:
        self.disks: list[Disk] = []
        self._files: dict[int, tuple[Disk, str]] = {}
        self._methods: dict[int, _Methods] = {}
        self._keep: list[Any] = []
        library = ctypes.CDLL(_sqlite3.__file__)
        library.sqlite3_vfs_find.restype = c_void_p
        library.sqlite3_vfs_find.argtypes = [c_char_p]
        library.sqlite3_vfs_register.argtypes = [c_void_p, c_int]
        base = _Vfs.from_address(library.sqlite3_vfs_find(None))
        self._base = base
        self._base_open, self._base_delete = _OPEN(base.open), _DELETE(base.delete)
        self._vfs = _Vfs()
        ctypes.pointer(self._vfs)[0] = base
        self._vfs.next, self._vfs.name = None, b"lastmile-tests"
        self._vfs.open = self._pointer(_OPEN(self._open))
        self._vfs.delete = self._pointer(_DELETE(self._delete))
        library.sqlite3_vfs_register(ctypes.addressof(self._vfs), 1)
        atexit.register(self._step_aside)

    def _step_aside(self) -> None:
        """Leave everything to the system: connections may be closed after the interpreter is."""
        self._vfs.open, self._vfs.delete = self._base.open, self._base.delete
        for address, methods in self._methods.items():
            ctypes.pointer(methods)[0] = _Methods.from_address(address)

    def _pointer(self, callback: Any) -> int | None:
        self._keep.append(callback)
        return ctypes.cast(callback, c_void_p).value

    def _find(self, path: str) -> Disk | None:
        return next((disk for disk in self.disks if path.startswith(disk.prefix)), None)

    def _open(self, vfs: int, name: int | None, file: int, flags: int, out_flags: int) -> int:
        path = os.fsdecode(ctypes.string_at(name)) if name else ""
        disk = self._find(path) if path else None
        if disk is not None and flags & OPEN_CREATE and not Path(path).exists():
            code = disk.ask(Operation("create", path))
            if code != OK:
                c_void_p.from_address(file).value = None
                return code
        code = int(self._base_open(vfs, name, file, flags, out_flags))
        if code == OK and disk is not None:
            self._files[file] = disk, path
            methods = c_void_p.from_address(file)
            methods.value = ctypes.addressof(self._methods_over(methods.value or 0))
        return code

    def _methods_over(self, base_address: int) -> _Methods:
        if base_address not in self._methods:
            base = _Methods.from_address(base_address)
            made = _Methods()
            ctypes.pointer(made)[0] = base
            made.close = self._pointer(_CLOSE(self._closing(_CLOSE(base.close))))
            made.write = self._pointer(_WRITE(self._writing(_WRITE(base.write))))
            made.truncate = self._pointer(_TRUNCATE(self._truncating(_TRUNCATE(base.truncate))))
            made.sync = self._pointer(_SYNC(self._sync))
            self._methods[base_address] = made
        return self._methods[base_address]

    def _closing(self, base: Any) -> Callable[[int], int]:
        def close(file: int) -> int:
            self._files.pop(file, None)
            return int(base(file))

        return close

    def _writing(self, base: Any) -> Callable[[int, int, int, int], int]:
        def write(file: int, buffer: int, size: int, at: int) -> int:
            disk, path = self._files[file]
            code = disk.ask(Operation("write", path, at, ctypes.string_at(buffer, size)))
            if code == FULL:
                base(file, buffer, size // 2, at)  # as much as there was room for
            return code or int(base(file, buffer, size, at))

        return write

    def _truncating(self, base: Any) -> Callable[[int, int], int]:
        def truncate(file: int, size: int) -> int:
            disk, path = self._files[file]
            return disk.ask(Operation("truncate", path, size)) or int(base(file, size))

        return truncate

    def _sync(self, file: int, _flags: int) -> int:
        disk, path = self._files[file]
        return disk.ask(Operation("sync", path))

    def _delete(self, vfs: int, name: bytes, sync_folder: int) -> int:
        path = os.fsdecode(name)
        disk = self._find(path)
        code = disk.ask(Operation("delete", path, sync_folder)) if disk is not None else OK
        return code or int(self._base_delete(vfs, name, sync_folder))


_layers: list[_Layer] = []


@contextmanager
def under(database: Path, **options: Any) -> Iterator[Disk]:
    """The layer under `database` and its companions, for connections opened from now on."""
    if not _layers:
        _layers.append(_Layer())
    disk = Disk(str(database), **options)
    _layers[0].disks.append(disk)
    try:
        yield disk
    finally:
        _layers[0].disks.remove(disk)
        disk.before, disk.is_recording = lambda _operation: OK, False


class Platter:
    """What a disk holds for good, and what is on its way to it.

    A sync makes a file's content and its name lasting; everything since is lost or kept in part.
    """

    def __init__(self, files: dict[str, bytes]) -> None:
        self._lasting = {path: bytearray(content) for path, content in files.items()}
        self._pending: dict[str, list[Operation]] = {}

    def play(self, log: list[Operation]) -> None:
        for operation in log:
            path = operation.path
            if operation.kind == "note":
                continue
            pending = self._pending.setdefault(path, [])
            pending.append(operation)
            if operation.kind == "sync" or (operation.kind == "delete" and operation.at):
                for each in pending:
                    self._apply(each)
                pending.clear()

    def _apply(self, operation: Operation) -> None:
        kind, path, at, data = operation
        if kind == "delete":
            self._lasting.pop(path, None)
        elif kind == "create":
            self._lasting[path] = bytearray()
        elif kind == "truncate":
            content = self._lasting.setdefault(path, bytearray())
            del content[at:]
        elif kind == "write":
            content = self._lasting.setdefault(path, bytearray())
            if len(content) < at:
                content.extend(bytes(at - len(content)))
            content[at : at + len(data)] = data

    def lose_power(self, dice: random.Random) -> dict[str, bytes]:
        """The files as the machine finds them when it is started again.

        Of what was not synced, each piece of 512 bytes, each change of length and each creation or
        deletion of a name is there or not, whatever came before or after it.
        """
        for pending in self._pending.values():
            share = dice.choice((0.0, 0.1, 0.5, 0.9, 1.0))
            for operation in pending:
                for part in _pieces(operation):
                    if dice.random() < share:
                        self._apply(part)
        self._pending.clear()
        return {path: bytes(content) for path, content in self._lasting.items()}


def _pieces(operation: Operation) -> Iterator[Operation]:
    kind, path, at, data = operation
    if kind != "write":
        yield operation
        return
    end = at + len(data)
    while at < end:
        until = min(end, (at // PIECE_BYTES + 1) * PIECE_BYTES)
        yield Operation("write", path, at, data[: until - at])
        data, at = data[until - at :], until
