"""What the process that makes PDFs may reach: some folders to read, no network (bar 48).

The kernel refuses the rest, whatever a template or the compiler asks for: sockets by a seccomp
filter, files by Landlock. Where the kernel has not got one of them (Landlock came with Linux 5.13),
what is left is that templates are ours, values are never evaluated, and typst reads below its root.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct
import sys
from collections.abc import Iterable
from pathlib import Path

_NO_NEW_PRIVILEGES, _SET_SECCOMP, _FILTER = 38, 22, 2
_LOAD, _JUMP_IF_EQUAL, _RETURN = 0x20, 0x15, 0x06
_ALLOW, _REFUSE = 0x7FFF0000, 0x00050000
_MACHINES = {"x86_64": (0xC000003E, 41), "aarch64": (0xC00000B7, 198)}
"""What the kernel calls the machine, and the number of `socket` on it."""
_IO_URING_SETUP = 425
"""It can open sockets as well; the number is the same everywhere."""
_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF, _PATH_BENEATH = 444, 445, 446, 1
_EVERYTHING, _READ = (1 << 13) - 1, 1 << 2 | 1 << 3


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("operations", ctypes.c_void_p))


def shut_in(readable: Iterable[Path]) -> None:
    """From now on this process and what it starts read below `readable` alone, and open neither
    other files nor sockets."""
    if sys.platform != "linux":
        return
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0)
    _close_files(libc, readable)
    _close_network(libc)


def _close_network(libc: ctypes.CDLL) -> None:
    if platform.machine() not in _MACHINES:
        return
    machine, socket_number = _MACHINES[platform.machine()]
    refused = _REFUSE | errno.EACCES
    operations = (
        (_LOAD, 0, 0, 4),
        (_JUMP_IF_EQUAL, 1, 0, machine),
        (_RETURN, 0, 0, refused),
        (_LOAD, 0, 0, 0),
        (_JUMP_IF_EQUAL, 2, 0, socket_number),
        (_JUMP_IF_EQUAL, 1, 0, _IO_URING_SETUP),
        (_RETURN, 0, 0, _ALLOW),
        (_RETURN, 0, 0, refused),
    )
    code = b"".join(struct.pack("HBBI", *each) for each in operations)
    buffer = ctypes.create_string_buffer(code, len(code))
    program = _Program(len(operations), ctypes.addressof(buffer))
    libc.prctl(_SET_SECCOMP, _FILTER, ctypes.byref(program), 0, 0)


def _close_files(libc: ctypes.CDLL, readable: Iterable[Path]) -> None:
    handled = struct.pack("Q", _EVERYTHING)
    rules = libc.syscall(_CREATE_RULESET, handled, len(handled), 0)
    if rules < 0:
        return
    for folder in readable:
        descriptor = os.open(folder, os.O_PATH | os.O_CLOEXEC)
        libc.syscall(_ADD_RULE, rules, _PATH_BENEATH, struct.pack("=Qi", _READ, descriptor), 0)
        os.close(descriptor)
    libc.syscall(_RESTRICT_SELF, rules, 0)
    os.close(rules)
