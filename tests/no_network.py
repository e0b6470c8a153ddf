"""Ends the process that calls `forbid()`, or any it starts, with SIGSYS when it makes an internet socket.

A seccomp filter (seccomp(2)), so that native code obeys too; sockets between processes are left alone.
"""

import ctypes
import platform
import struct
import sys

SOCKET_CALL = {"x86_64": 41, "aarch64": 198}
NO_NEW_PRIVILEGES, SET_SECCOMP, FILTER = 38, 22, 2
LOAD, IF_EQUAL, RETURN = 0x20, 0x15, 0x06
KILL_PROCESS, ALLOW = 0x80000000, 0x7FFF0000
AF_INET, AF_INET6 = 2, 10


def is_possible() -> bool:
    return sys.platform == "linux" and platform.machine() in SOCKET_CALL


def forbid() -> None:
    """Raises OSError if the kernel takes no filter."""
    # (operation, lines to skip if equal, lines to skip if not, value); the data are struct seccomp_data.
    lines = [
        (LOAD, 0, 0, 0),
        (IF_EQUAL, 0, 4, SOCKET_CALL[platform.machine()]),
        (LOAD, 0, 0, 16),
        (IF_EQUAL, 1, 0, AF_INET),
        (IF_EQUAL, 0, 1, AF_INET6),
        (RETURN, 0, 0, KILL_PROCESS),
        (RETURN, 0, 0, ALLOW),
    ]
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *line) for line in lines))
    program = ctypes.create_string_buffer(struct.pack("HxxxxxxQ", len(lines), ctypes.addressof(code)))
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    if prctl(NO_NEW_PRIVILEGES, 1, 0, 0, 0) or prctl(SET_SECCOMP, FILTER, ctypes.byref(program), 0, 0):
        raise OSError(ctypes.get_errno(), "no seccomp filter")
