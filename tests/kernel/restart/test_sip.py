# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""A SIP proxy that asks a fixed upstream from the service's own socket, restarted during calls."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from testing.host import ROOT, client, plain_socket
from testing.waiting import PATIENCE_S
from tests.kernel.restart_fixtures import edge
from tests.kernel.restarts import TO, UNTIL_NO_FLOWS, WHERE, Edge, serving_only

__all__ = ["edge"]

#: Callers at a time, each with one call after another, and with how many when a restart begins.
CALLERS, CALLS_BEFORE = 40, 5
#: How long a call's answer takes, and how long it lasts (seconds).
RINGS_S, LASTS_S = 0.1, 0.3
#: An answer that did not come by then never comes, where many do not: nothing is sent again.
LOST_S = 5.0
#: How long a call lives without a message: longer than a busy machine takes for the next one.
FLOW_S = 15
#: Keeps calls in memory, and knows the answers of its own calls only. Answers probes itself.
PROXY = f"""
import os, signal, socket, sys
sys.path.insert(0, {str(ROOT)!r})
import udpgrm.client as grm
generation, where, dissector, port = int(sys.argv[1]), *sys.argv[2:4], int(sys.argv[4])
signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
upstream = ("127.0.0.1", port)
asked = grm.named_dissector("sip", flow_timeout={FLOW_S}) if dissector == "sip" else None
(sock,) = grm.bind(where, 1, flow_timeout=0 if asked else {FLOW_S}, dissector=asked)
grm.enroll([sock], generation, {PATIENCE_S})
channel = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
channel.sendto(b"READY=1", os.environ["NOTIFY_SOCKET"])
calls = {{}}
while True:
    data, peer = sock.recvfrom(4096)
    call = data.partition(b"Call-ID: ")[2].partition(b"\\r\\n")[0]
    if peer == upstream:
        if call in calls:
            sock.sendto(data, calls[call])
    elif data.startswith(b"OPTIONS"):
        sock.sendto(b"SIP/2.0 200 OK\\r\\n" + data.partition(b"\\r\\n")[2], peer)
    elif data.startswith(b"INVITE") or call in calls:
        calls[call] = peer
        sock.sendto(data, upstream)
    else:
        sock.sendto(b"SIP/2.0 481 No such call\\r\\n" + data.partition(b"\\r\\n")[2], peer)
"""


@pytest.fixture
def upstream() -> Iterator[int]:
    """Yield the port of a server that accepts every call after a while, from one address."""
    with plain_socket() as sock, ThreadPoolExecutor(64) as later:
        sock.bind(("127.0.0.1", 0))
        sock.settimeout(0.1)
        done = threading.Event()

        def accept(data: bytes, peer: tuple[str, int]) -> None:
            time.sleep(RINGS_S)
            sock.sendto(b"SIP/2.0 200 OK\r\n" + data.partition(b"\r\n")[2], peer)

        def serve() -> None:
            while not done.is_set():
                try:
                    data, peer = sock.recvfrom(4096)
                except TimeoutError:
                    continue
                later.submit(accept, data, peer)

        thread = threading.Thread(target=serve)
        thread.start()
        yield sock.getsockname()[1]
        done.set()
        thread.join()


def message(method: str, call: str, number: int) -> bytes:
    lines = (
        f"{method} sip:b@example.com SIP/2.0",
        f"Via: SIP/2.0/UDP 127.0.0.1;branch=z9hG4bK{call}{number}",
        "To: <sip:b@example.com>",
        "From: <sip:a@example.com>;tag=a",
        f"Call-ID: {call}",
        f"CSeq: {number} {method}",
    )
    return "\r\n".join((*lines, "", "")).encode()


def succeeds(call: str, lost_s: float) -> bool:
    """Call, and hang up; return whether both were accepted."""
    with client() as sock:
        sock.settimeout(lost_s)
        for number, method in enumerate(("INVITE", "BYE"), 1):
            sock.sendto(message(method, call, number), TO)
            try:
                if not sock.recv(4096).startswith(b"SIP/2.0 200"):
                    return False
            except TimeoutError:
                return False
            time.sleep(LASTS_S if method == "INVITE" else 0)
    return True


def proxying(edge: Edge, dissector: str, upstream: int, **drain: Any) -> None:
    edge.server.write_text(PROXY)
    edge.unit(dissector, str(upstream))
    edge.define(
        groups=[{"address": WHERE, "sockets": 1}],
        probes=[{"type": "sip", "timeout_s": 30, "retries": 0}],
        drain={**UNTIL_NO_FLOWS, **drain},
        budget={"misdirected": 1000000},
    )
    done = edge.restart("--json")
    assert done.returncode == 0, done.stdout + done.stderr


def calls_around_a_restart(edge: Edge, lost_s: float) -> tuple[list[bool], dict[str, Any]]:
    """Return whether each call succeeded, before, during and after a restart; and its journal."""
    begun, done = threading.Barrier(CALLERS + 1), threading.Event()

    def caller(number: int) -> list[bool]:
        found: list[bool] = []
        while not done.is_set():
            found.append(succeeds(f"{number}-{len(found)}", lost_s))
            if len(found) == CALLS_BEFORE:
                begun.wait(PATIENCE_S)
        return found

    with ThreadPoolExecutor(CALLERS) as callers:
        results = [callers.submit(caller, number) for number in range(CALLERS)]
        begun.wait(PATIENCE_S)
        restart = edge.restart("--json")
        done.set()
        calls = [call for result in results for call in result.result()]
    assert restart.returncode == 0, restart.stdout + restart.stderr
    return calls, json.loads(restart.stdout)


def test_no_call_fails(edge: Edge, upstream: int) -> None:
    proxying(edge, "sip", upstream)
    calls, journal = calls_around_a_restart(edge, PATIENCE_S)
    assert len(calls) > CALLERS * CALLS_BEFORE
    assert calls.count(False) == 0
    assert serving_only(edge, 2)
    drain = next(item for item in journal["steps"] if item["step"] == "drain")["evidence"]
    assert drain["conflicts"] == 0
    assert drain["drained"]
    # each call has made a flow
    assert edge.host.counters(WHERE)["tx_flow_create_ok"] >= CALLERS * CALLS_BEFORE


def test_calls_fail_if_the_upstream_is_one_flow(edge: Edge, upstream: int) -> None:
    """Lose calls with the flow dissector, which takes the upstream for one flow.

    The other test would lose as many if its dissector found no call.
    """
    proxying(edge, "flow", upstream, max_s=20, on_timeout="stop")
    calls, _ = calls_around_a_restart(edge, LOST_S)
    assert calls.count(False) > 0
