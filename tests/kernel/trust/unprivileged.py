# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""Unprivileged processes in the hooked cgroup, and what they have at hand."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence

from testing.waiting import PATIENCE_S

NOBODY = 65534
PRELUDE = """
import ctypes, errno, os, select, socket, struct, sys, time
UDP = socket.IPPROTO_UDP
WORKING, GEN, DISSECTOR, ASSURE = 200, 201, 202, 203
def bind(where, device=None, port=4433):
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    if device:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, device.encode())
    sock.bind((where, port))
    return sock
def attempt(sock, option, value):
    try:
        sock.setsockopt(UDP, option, value)
    except OSError as error:
        return errno.errorcode[error.errno]
    return "done"
def index_of(sock):
    return struct.unpack_from("=II", sock.getsockopt(UDP, GEN, 12))[1]
"""


def unprivileged(
    code: str, *arguments: str, user: int = NOBODY, pass_fds: Sequence[int] = ()
) -> subprocess.CompletedProcess[str]:
    """Run Python code as another user to its end; what it prints is the answer."""
    return subprocess.run(
        [sys.executable, "-c", PRELUDE + code, *arguments],
        user=user,
        group=user,
        extra_groups=[],
        pass_fds=pass_fds,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=True,
        cwd="/",
    )


def start_unprivileged(code: str, user: int = NOBODY) -> subprocess.Popen[str]:
    """Begin to run Python code as another user, and talk to it."""
    return subprocess.Popen(
        [sys.executable, "-c", PRELUDE + code],
        user=user,
        group=user,
        extra_groups=[],
        text=True,
        bufsize=1,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd="/",
    )
