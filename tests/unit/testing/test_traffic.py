# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""The traffic generator against an echo service on the loopback that switches by itself."""

from __future__ import annotations

import select
import selectors
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from testing import flows, traffic
from testing.traffic import HOLD, LONG_FLOWS, LOST_AFTER, SHORT_FLOWS_PER_SECOND, SHORT_PACKETS
from testing.waiting import PATIENCE_S
from udpgrm.kernel import sockopt

ROOT = Path(__file__).resolve().parents[3]


class Service:
    """Answers like two instances: a flow keeps its generation, new ones get the present one.

    Attributes:
        generation: of flows not seen before.
        silent: answer nothing to those.
        ignored: those that got no answer.
    """

    def __init__(self) -> None:
        self.generation = 1
        self.silent = False
        self.ignored: set[object] = set()
        self._generations: dict[object, int] = {}
        self._packets: Counter[object] = Counter()
        self._sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        # holds what comes while this process has no processor for seconds
        self._sock.setsockopt(socket.SOL_SOCKET, sockopt.SO_RCVBUFFORCE, 1 << 24)
        self._sock.bind(("127.0.0.1", 0))
        self._sock.setblocking(False)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._sock, selectors.EVENT_READ)

    @property
    def target(self) -> str:
        """The generator's argument."""
        return f"--target=host=127.0.0.1:{self._sock.getsockname()[1]}"

    def serve_until(self, condition: Callable[[], bool]) -> None:
        """Answer until the condition is true, which is asked after each packet and now and then."""
        deadline = time.monotonic() + PATIENCE_S
        while not condition():
            assert time.monotonic() < deadline
            if self._selector.select(0.1):
                self._answer()

    def long_flows(self) -> int:
        """Return how many flows of the present generation have more packets than short ones."""
        return sum(
            self._packets[peer] > SHORT_PACKETS
            for peer, generation in self._generations.items()
            if generation == self.generation
        )

    def _answer(self) -> None:
        payload, peer = self._sock.recvfrom(2048)
        if self.silent and peer not in self._generations:
            self.ignored.add(peer)
            return
        generation = self._generations.setdefault(peer, self.generation)
        self._packets[peer] += 1
        self._sock.sendto(b"host %d %d " % (generation, generation) + payload, peer)

    def close(self) -> None:
        """Close the socket."""
        self._selector.close()
        self._sock.close()


@pytest.fixture
def service() -> Iterator[Service]:
    made = Service()
    yield made
    made.close()


@pytest.fixture
def generator(service: Service, tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    command = [
        sys.executable,
        "-m",
        "testing.traffic",
        f"--out={tmp_path / 'flows'}",
        service.target,
    ]
    with subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        yield process
        process.kill()


def finish(service: Service, generator: subprocess.Popen[str], path: Path) -> list[flows.Flow]:
    """End the generator, answering its last packets, and read what it wrote."""
    assert generator.stdin
    generator.stdin.close()
    service.serve_until(lambda: generator.poll() is not None)
    assert generator.returncode == 0
    return list(flows.read(path / "flows"))


def test_switch_replaces_the_long_flows_after_the_hold(
    service: Service, generator: subprocess.Popen[str], tmp_path: Path
) -> None:
    service.serve_until(lambda: service.long_flows() == LONG_FLOWS)
    service.generation = 2
    service.serve_until(lambda: service.long_flows() == LONG_FLOWS)
    seen = finish(service, generator, tmp_path)

    assert generator.stdout and generator.stdout.read() == "ready\n"
    assert sum(flow.lost + flow.repeated + flow.strange for flow in seen) == 0
    assert all(flow.sent == flow.answered for flow in seen)
    assert all(len(flow.runs) == 1 for flow in seen)
    long_flows = [flow for flow in seen if flow.kind == flows.LONG]
    by_generation = [
        sum(flow.runs[0].instance.generation == number for flow in long_flows) for number in (1, 2)
    ]
    assert by_generation == [LONG_FLOWS, LONG_FLOWS]
    first_new = min(flow.runs[0].first for flow in seen if flow.runs[0].instance.generation == 2)
    assert all(
        flow.runs[0].last > first_new + HOLD - 0.5 - flow.longest_pause
        for flow in long_flows
        if flow.runs[0].instance.generation == 1
    )
    begun = sorted(flow.first_sent for flow in seen if flow.kind == flows.SHORT)
    assert len(begun) > SHORT_FLOWS_PER_SECOND
    assert all(later - earlier > 0.9 / SHORT_FLOWS_PER_SECOND for earlier, later in pairwise(begun))


def test_unanswered_packets_are_lost(
    service: Service, generator: subprocess.Popen[str], tmp_path: Path
) -> None:
    service.serve_until(lambda: service.long_flows() == LONG_FLOWS)
    service.silent = True
    service.serve_until(lambda: len(service.ignored) >= 10)
    seen = finish(service, generator, tmp_path)

    unanswered = [flow for flow in seen if not flow.answered]
    assert len(unanswered) == len(service.ignored)
    assert all((flow.sent, flow.lost) == (1, 1) for flow in unanswered)
    assert sum(flow.lost for flow in seen) == len(unanswered)


@pytest.mark.parametrize("is_answered", [True, False])
def test_answers_that_came_while_the_generator_was_stalled_are_not_lost(is_answered: bool) -> None:
    server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    server.bind(("127.0.0.1", 0))
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
    sock.connect(server.getsockname())
    with server, sock:
        flow = traffic.ActiveFlow(flows.Flow("host", flows.LONG, 100), sock, lambda *_: None)
        assert flow.tick(100)
        payload, peer = server.recvfrom(2048)
        if is_answered:
            server.sendto(b"host 1 1 " + payload, peer)
            assert select.select([sock], [], [], PATIENCE_S)[0]
        assert flow.tick(100 + LOST_AFTER + 1)
    assert (flow.record.answered, flow.record.lost) == (is_answered, not is_answered)
    assert (flow.record.longest_pause > LOST_AFTER) == is_answered


def test_traffic_that_ends_before_its_caller_is_a_failure(service: Service, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "testing.traffic", "--limit=1"]
    command += [f"--out={tmp_path / 'flows'}", service.target]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as it:
        service.serve_until(lambda: it.poll() is not None)
        assert it.returncode == 1


def test_a_port_is_used_once_for_each_host(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(traffic, "PORTS", range(20000, 20006))
    targets = [traffic.Target(name, ("127.0.0.1", 9)) for name in ("fl1", "fl2")]
    traffic.Traffic(targets)

    assert [list(target.ports) for target in targets] == [
        [20000, 20001, 20002, 20003, 20004, 20005],
        [20003, 20004, 20005, 20000, 20001, 20002],
    ]
