# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""The notice that a drain begins, on a real daemon: sessions that never end by themselves."""

from __future__ import annotations

import json
import signal
import threading

import pytest

from testing.host import client
from testing.waiting import PATIENCE_S
from tests.kernel.restart.test_alone import await_halt
from tests.kernel.restarts import (
    TO,
    UNTIL_NO_FLOWS,
    WHERE,
    Edge,
    Traffic,
    serving_only,
    until,
)

pytest_plugins = ("tests.kernel.restart_fixtures",)
pytestmark = pytest.mark.daemon("shared")

#: From when it got SIGUSR1 on, every answer says goodbye: the client has to begin a new session.
GOODBYE = """signal.signal(signal.SIGUSR1, lambda *_: leaving.append(1))
leaving = []
"""
ANSWER = 'sock.sendto(b"%d" % generation if'


def teach(edge: Edge) -> None:
    """Let the server know the notice."""
    text = edge.server.read_text()
    assert ANSWER in text and "signal.pause()" in text
    text = text.replace(ANSWER, 'sock.sendto(b"%d%s" % (generation, b" bye" * len(leaving)) if')
    text = text.replace("def noop(", f"{GOODBYE}def noop(")
    edge.server.write_text(text.replace("signal.pause()", "while True:\n    signal.pause()"))


class Sessions:
    """Clients that stay until the server says goodbye, and then begin a new session."""

    def __init__(self) -> None:
        self.ended: list[int] = []
        self.generation = 0
        self.lost = 0
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        sock = client()
        while not self._done.is_set():
            sock.settimeout(PATIENCE_S)
            sock.sendto(b"?", TO)
            try:
                generation, *bye = sock.recv(100).split()
            except OSError:
                self.lost += 1
                continue
            self.generation = int(generation)
            if bye:
                self.ended.append(self.generation)
                sock.close()
                sock = client()
            self._done.wait(0.02)
        sock.close()

    def __enter__(self) -> Sessions:
        self._thread.start()
        until(lambda: self.generation, "a session")
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()


def test_sessions_end_by_the_notice(edge: Edge) -> None:
    teach(edge)
    edge.define(drain={**UNTIL_NO_FLOWS, "begin": {"signal": "SIGUSR1"}})
    assert edge.restart().returncode == 0
    with Sessions() as sessions:
        done = edge.restart("--json")  # the drain's time is longer than the command may take
        assert done.returncode == 0, done.stdout + done.stderr
        assert serving_only(edge, 2)
        until(lambda: sessions.generation == 2, "a session with the new instance")
    assert set(sessions.ended) == {1}
    assert sessions.lost == 0
    drain = next(step for step in json.loads(done.stdout)["steps"] if step["step"] == "drain")
    assert drain["evidence"]["drained"] is True
    assert drain["evidence"]["notice"] == {
        "instance": "edge@1.service",
        "signal": "SIGUSR1",
        "command": None,
        "given": drain["evidence"]["notice"]["given"],
        "error": None,
    }
    assert drain["started"] <= drain["evidence"]["notice"]["given"] <= drain["ended"]


@pytest.mark.parametrize(
    ("begin", "why"),
    [
        ({"signal": "SIGUSR2"}, "neither catches nor ignores SIGUSR2, which would end it"),
        ({"command": ["/bin/sh", "-c", "echo no generation %i >&2; false"]}, "no generation 1"),
    ],
)
def test_a_notice_that_fails_ends_no_session(
    serving: Edge, begin: dict[str, object], why: str
) -> None:
    serving.define(drain={**UNTIL_NO_FLOWS, "begin": begin})
    with Traffic(2) as traffic:
        command = serving.start("restart", "edge", "--json")
        serving.await_step("drain")
        before = traffic.asked
        until(lambda: traffic.asked > before + 100, "questions while it drains")
        assert serving.alive() == [1, 2]
    printed, errors = command.communicate(timeout=PATIENCE_S)
    assert command.returncode == 0, errors
    assert (traffic.lost, traffic.moved) == (0, 0)
    drain = next(step for step in json.loads(printed)["steps"] if step["step"] == "drain")
    assert why in drain["reason"]
    assert why in drain["evidence"]["notice"]["error"]


def test_more_instances_than_may_live(serving: Edge) -> None:
    kept = {**UNTIL_NO_FLOWS, "max_s": 0, "on_timeout": "keep", "max_instances": 2}
    serving.define(drain=kept)
    with Traffic(1):
        assert serving.restart().returncode == 0
        before = serving.journal()
        for arguments in ((), ("--check",)):
            done = serving.restart(*arguments)
            assert done.returncode == 255
            assert "edge@1.service, edge@2.service run, and drain.max_instances is 2" in done.stderr
        assert (serving.alive(), serving.journal()) == ([1, 2], before)


def test_no_notice_while_the_old_one_is_active(edge: Edge) -> None:
    """Give no notice until an operator, who made the old instance active, makes the new one so."""
    teach(edge)
    edge.define(drain={**UNTIL_NO_FLOWS, "begin": {"signal": "SIGUSR1"}})
    assert edge.restart().returncode == 0

    def sampled() -> bool:
        [service] = json.loads(edge.host.run("status", "edge", "--json").stdout)["services"]
        return bool(service["restart"]["progress"])

    with Sessions() as sessions:
        command = edge.start("restart", "edge", "--json", halt="verify")
        await_halt(command)
        assert edge.host.run("working-gen", WHERE, "1").returncode == 0
        command.send_signal(signal.SIGCONT)
        until(sampled, "the first sample of the drain")
        assert "notices" not in edge.journal()["plan"]
        assert edge.host.run("working-gen", WHERE, "2").returncode == 0
        printed, errors = command.communicate(timeout=PATIENCE_S)
    assert command.returncode == 0, printed + errors
    assert (set(sessions.ended), sessions.lost) == ({1}, 0)
    assert serving_only(edge, 2)
