# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""Clients of the servers that have a profile: their own programs where there is one.

Each asks all the time until it is ended, repeats nothing, and counts what got no answer.
"""

from __future__ import annotations

import contextlib
import csv
import os
import re
import signal
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from testing.load import LOOPBACK, Counts, Load
from tests.servers.mumble import session as mumble_session

_TIMEOUT_S = 5
#: Between requests of a thread; longer where each is a process, of which the processors are busy.
_PAUSE_S = 0.004
_PROCESS_PAUSE_S = 0.1
_TEEWORLDS_REQUESTS = 20
_TEEWORLDS_PAUSE_S = 0.1
MUMBLE_USERS = 2

_OPTIONS = """<?xml version="1.0" encoding="ISO-8859-1" ?>
<scenario name="options">
  <send><![CDATA[

OPTIONS sip:[remote_ip]:[remote_port] SIP/2.0
Via: SIP/2.0/UDP [local_ip]:[local_port];branch=[branch]
Max-Forwards: 70
From: <sip:sipp@[local_ip]>;tag=[call_number]
To: <sip:[remote_ip]>
Call-ID: [call_id]
CSeq: 1 OPTIONS
Content-Length: 0

  ]]></send>
  <recv response="200" timeout="5000"></recv>
</scenario>
"""


class Client(Protocol):
    """Load that runs from its creation on."""

    def end(self) -> Counts:
        """Stop, when every request is answered or lost."""
        ...


class _Threads:
    """Threads that each ask one request after the other, with pauses."""

    def __init__(
        self, count: int, ask: Callable[[], tuple[int, int]], pause_s: float = _PROCESS_PAUSE_S
    ) -> None:
        self._ask, self._pause_s, self._sent, self._lost = ask, pause_s, 0, 0
        self._done, self._lock = threading.Event(), threading.Lock()
        self._threads = [threading.Thread(target=self._run, daemon=True) for _ in range(count)]
        for thread in self._threads:
            thread.start()

    def _run(self) -> None:
        while not self._done.wait(self._pause_s):
            sent, lost = self._ask()
            with self._lock:
                self._sent += sent
                self._lost += lost

    def end(self) -> Counts:
        """Stop asking."""
        self._done.set()
        for thread in self._threads:
            thread.join()
        return Counts(self._sent, self._lost)


def requests(payload: bytes, answer: bytes) -> Callable[[int], Client]:
    """Return a client that sends one packet from a new port, and knows how its answer begins."""

    def ask(port: int) -> tuple[int, int]:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.settimeout(_TIMEOUT_S)
            sock.connect((LOOPBACK, port))
            sock.send(payload)
            with contextlib.suppress(OSError):
                return 1, int(not sock.recv(2048).startswith(answer))
        return 1, 1

    return lambda port: _Threads(2, lambda: ask(port), _PAUSE_S)


def snmp(port: int) -> Client:
    """Run net-snmp's snmpget, one after the other."""

    def ask() -> tuple[int, int]:
        command = ["snmpget", "-v2c", "-cpublic", "-r0", f"-t{_TIMEOUT_S}", "-Oqv", "-m", ""]
        done = subprocess.run(
            [*command, f"{LOOPBACK}:{port}", ".1.3.6.1.2.1.1.3.0"], capture_output=True, check=False
        )
        return 1, int(done.returncode != 0)

    return _Threads(2, ask)


def radius(port: int) -> Client:
    """FreeRADIUS's radclient: 40 logins at a time."""

    def ask() -> tuple[int, int]:
        done = subprocess.run(
            [
                *("radclient", "-c40", "-p4", "-r1", f"-t{_TIMEOUT_S}", "-s"),
                *(f"{LOOPBACK}:{port}", "auth", "testing123"),
            ],
            input="User-Name = bob\nUser-Password = hello\n",
            capture_output=True,
            text=True,
            check=False,
        )
        counts = {key: int(value) for key, value in re.findall(r"(\w+)\s*: (\d+)", done.stdout)}
        return 40, 40 - counts["Accepted"]

    return _Threads(2, ask)


def http3(port: int) -> Client:
    """Run ngtcp2's gtlsclient: a connection and a download, one after the other."""

    def ask() -> tuple[int, int]:
        with tempfile.TemporaryDirectory(prefix="udpgrm-http3-") as directory:
            subprocess.run(
                [
                    *("gtlsclient", "-q", f"--timeout={_TIMEOUT_S}s", f"--download={directory}"),
                    *("--exit-on-all-streams-close", f"--handshake-timeout={_TIMEOUT_S}s"),
                    *(LOOPBACK, str(port), "https://localhost/answer"),
                ],
                capture_output=True,
                check=False,
            )
            answer = Path(directory, "answer")
            return 1, int(not answer.exists() or answer.read_text() != "hello")

    return _Threads(2, ask)


def coap(path: str) -> Callable[[int], Client]:
    """Run libcoap's coap-client: confirmable requests, each from a new port, none repeated."""

    def ask(port: int) -> tuple[int, int]:
        done = subprocess.run(
            ["coap-client-notls", f"-B{_TIMEOUT_S}", f"coap://{LOOPBACK}:{port}/{path}"],
            capture_output=True,
            check=False,
        )
        return 1, int(b"test server" not in done.stdout)

    return lambda port: _Threads(2, lambda: ask(port))


def teeworlds(port: int) -> Client:
    """Sessions of 2 s: a token, as a player gets one, then requests that only its server takes."""

    def session() -> tuple[int, int]:
        lost, mine = 1 + _TEEWORLDS_REQUESTS, os.urandom(4)
        with (
            contextlib.suppress(OSError),
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock,
        ):
            sock.settimeout(_TIMEOUT_S)
            sock.connect((LOOPBACK, port))
            sock.send((b"\4\0\0\xff\xff\xff\xff\5" + mine).ljust(519, b"\0"))
            token = sock.recv(2048)[8:12]
            lost -= 1
            for _ in range(_TEEWORLDS_REQUESTS):
                time.sleep(_TEEWORLDS_PAUSE_S)
                with contextlib.suppress(TimeoutError):
                    sock.send(b"\x21" + token + mine + b"\xff\xff\xff\xffgie3\1")
                    lost -= b"inf3" in sock.recv(2048)
        return 1 + _TEEWORLDS_REQUESTS, lost

    return _Threads(2, session, _TEEWORLDS_PAUSE_S)


def mumble_sessions(port: int) -> Client:
    """Users that log in, ping the server over both protocols for 2 s, and leave."""
    return _Threads(MUMBLE_USERS, lambda: mumble_session((LOOPBACK, port)))


class Sipp:
    """Sipp: OPTIONS, each from a port of its own."""

    def __init__(self, port: int) -> None:
        self._directory = tempfile.TemporaryDirectory(prefix="udpgrm-sipp-")
        scratch = Path(self._directory.name)
        (scratch / "options.xml").write_text(_OPTIONS)
        self._statistics = scratch / "statistics"
        self._process = subprocess.Popen(
            [
                *("sipp", "-sf", str(scratch / "options.xml"), f"{LOOPBACK}:{port}"),
                *("-i", LOOPBACK, "-t", "un", "-max_socket", "4000", "-r", "200", "-nr"),
                *("-nostdin", "-trace_stat", "-stf", str(self._statistics), "-fd", "1"),
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd=scratch,
        )

    def end(self) -> Counts:
        """Stop it, and read its statistics."""
        self._process.send_signal(signal.SIGUSR1)  # no new calls
        self._process.wait(60)
        with self._statistics.open(newline="") as file:
            last = list(csv.DictReader(file, delimiter=";"))[-1]
        self._directory.cleanup()
        created = int(last["TotalCallCreated"])
        return Counts(created, created - int(last["SuccessfulCall(C)"]))


class Turn:
    """coturn's own client: sessions of 2 s with their allocations, channels and data."""

    def __init__(self, port: int) -> None:
        # the relay sends to an echo server
        self._peer = subprocess.Popen(
            ["turnutils_peer", "-L", LOOPBACK, "-p", "3480"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self._sessions = _Threads(2, lambda: self._session(port))

    def _session(self, port: int) -> tuple[int, int]:
        done = subprocess.run(
            [
                *("turnutils_uclient", "-n", "50", "-m", "2", "-z", "40", "-l", "100", "-c"),
                *("-e", LOOPBACK, "-r", "3480", "-p", str(port), LOOPBACK),
            ],
            capture_output=True,
            text=True,
            check=False,
        )
        printed = done.stdout + done.stderr
        found = re.findall(r"tot_send_msgs=(\d+), tot_recv_msgs=(\d+)", printed)
        assert found, printed[-2000:]
        sent, received = map(int, found[-1])
        return sent, sent - received

    def end(self) -> Counts:
        """Stop after the sessions that have begun."""
        counts = self._sessions.end()
        self._peer.kill()
        self._peer.wait()
        return counts


def dns(port: int) -> Client:
    """Run dnsperf, and a resolver with a new port for each query."""
    return Load(port)
