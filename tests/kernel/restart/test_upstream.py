# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""A server that asks a fixed upstream from the service's own socket, under FLOW."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator

import pytest

from testing.host import client, plain_socket
from tests.kernel.restart_fixtures import edge, serving
from tests.kernel.restarts import SERVER, TO, UNTIL_NO_FLOWS, Edge, serving_only

__all__ = ["edge", "serving"]

UPSTREAM = ("127.0.0.1", 6000)
#: Every question is handed on to the upstream, too.
FORWARDER = SERVER.replace(
    "        data, peer = sock.recvfrom(2048)\n",
    "        data, peer = sock.recvfrom(2048)\n"
    f"        if peer != {UPSTREAM}:\n"
    f"            sock.sendto(data, {UPSTREAM})\n",
)


@pytest.fixture
def callers() -> Iterator[None]:
    """Clients that begin a call every few milliseconds; there is no upstream that answers."""
    done = threading.Event()

    def call() -> None:
        while not done.wait(0.005):
            with client() as sock:
                sock.sendto(b"call", TO)

    with plain_socket() as upstream:
        upstream.bind(UPSTREAM)
        thread = threading.Thread(target=call)
        thread.start()
        yield
        done.set()
        thread.join()


@pytest.fixture
def forwarding(edge: Edge) -> Edge:
    assert FORWARDER != SERVER
    edge.server.write_text(FORWARDER)
    assert edge.restart().returncode == 0
    return edge


def test_it_is_rolled_back(forwarding: Edge, callers: None) -> None:
    """Roll back without any budget: calls would fail for as long as the old instance drains."""
    # longer than the moments after a promotion, in which a few are chance
    forwarding.define(drain={"until": {"flows": 0, "quiet_s": 4}, "max_s": 20})
    done = forwarding.restart("--json")
    assert done.returncode == 1, done.stdout
    journal = json.loads(done.stdout)
    drain = next(item for item in journal["steps"] if item["step"] == "drain")
    assert "sent on flows of the other instance" in drain["reason"]
    assert drain["evidence"]["conflicts"] > 10
    assert serving_only(forwarding, 1)


def test_a_budget_allows_it_and_the_drain_says_so(forwarding: Edge, callers: None) -> None:
    drain = {**UNTIL_NO_FLOWS, "max_s": 4, "on_timeout": "stop"}
    forwarding.define(drain=drain, budget={"misdirected": 1000000})
    done = forwarding.restart("--json")
    assert done.returncode == 0, done.stdout
    step = next(item for item in json.loads(done.stdout)["steps"] if item["step"] == "drain")
    assert step["evidence"]["conflicts"] > 10
    [group] = forwarding.host.json("status", "edge")["services"][0]["groups"]
    assert step["evidence"]["conflicts"] <= group["crossed"]
    assert group["crossed"] <= group["metrics"]["tx_flow_update_conflict"]
    assert serving_only(forwarding, 2)
