# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""The time that root waits for a new group while users keep the daemon busy."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import time
from collections.abc import Iterator

import udpgrm.client as grm
from benchmarks.report import Row
from benchmarks.stats import Summary, percentile

_SECTION = "Root beside hostile users"
_USERS, _GROUPS, _LAST_UID = 6, 20, 65534
_LEAST_MS, _TIMES_IDLE = 50, 10
#: Groups of sockets that are closed at once, as fast as the kernel lets one process.
_CHURN = """
import socket, sys, time
base = int(sys.argv[1])
print("begins", flush=True)
while True:
    for port in range(base, base + 2000):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            sock.bind(("127.0.0.1", port))
            try:
                sock.setsockopt(socket.IPPROTO_UDP, 200, 0)
            except OSError:
                time.sleep(0.01)
"""


def _new_groups(first_port: int) -> list[float]:
    """Return the milliseconds until each of some new groups of root's is registered."""
    times = []
    for port in range(first_port, first_port + _GROUPS):
        started = time.perf_counter()
        with grm.bind(f"127.0.0.1:{port}")[0] as sock:
            grm.enroll([sock], 1, timeout=60)
            times.append((time.perf_counter() - started) * 1e3)
    return times


@contextlib.contextmanager
def _hostile_users() -> Iterator[None]:
    with contextlib.ExitStack() as stack:
        for number in range(_USERS):
            uid = _LAST_UID - number
            process = stack.enter_context(
                subprocess.Popen(
                    [sys.executable, "-c", _CHURN, str(20000 + 2500 * number)],
                    user=uid,
                    group=uid,
                    extra_groups=[],
                    stdout=subprocess.PIPE,
                    cwd="/",
                )
            )
            stack.callback(process.kill)
            assert process.stdout is not None
            assert process.stdout.readline() == b"begins\n"
        time.sleep(2)  # until their quotas are used up
        yield


def measure() -> Iterator[Row]:
    """Measure new groups of root's, alone and beside six users who make groups all the time."""
    idle = percentile(_new_groups(5000), 50)
    with _hostile_users():
        busy = percentile(_new_groups(6000), 50)
    bar = max(_LEAST_MS, _TIMES_IDLE * idle)
    for name, value, most in (("alone", idle, None), (f"beside {_USERS} users", busy, bar)):
        figure = Summary(value, value, value)
        yield Row(_SECTION, f"a new group, {name}, median", "ms", figure, None, None, most)
