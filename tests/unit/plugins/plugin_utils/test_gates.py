# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors

"""Gates: what they are given as, and when they are open."""

from __future__ import annotations

import http.server
import pathlib
import threading
import time
import typing as t

import pytest
from ansible_collections.udpgrm.fleet.plugins.plugin_utils import _approval, _gates
from ansible_collections.udpgrm.fleet.plugins.plugin_utils._conditions import GO, Answer

PROMETHEUS = {"prometheus": "http://p:9090", "query": "up", "condition": "== 1"}


@pytest.mark.parametrize(
    "given, name",
    [
        (PROMETHEUS, "up"),
        ({**PROMETHEUS, "name": "all up", "headers": {"X": "y"}}, "all up"),
        ({"url": "https://user:secret@h/ready?token=secret"}, "h/ready"),
        ({"command": ["/usr/bin/true", 1]}, "/usr/bin/true"),
    ],
)
def test_gates_as_they_are_given(given: t.Any, name: str) -> None:
    (gate,) = _gates.parse([given])
    assert gate.name == name


@pytest.mark.parametrize(
    "given, wrong",
    [
        ("errors", "it is a list of gates"),
        ([{}], "each gate is a mapping with one of prometheus, url or command"),
        ([{"url": "http://h", "command": ["true"]}], "with one of prometheus, url or command"),
        ([{"url": "http://h", "query": "up"}], "a gate with url has no query"),
        ([{"url": "file:///etc/passwd"}], "a gate's url is an http or https URL"),
        ([{"command": "true"}], "a gate's command is a list of words"),
        ([{**PROMETHEUS, "condition": "below 1"}], "a condition such as '< 0.01'"),
        ([{**PROMETHEUS, "headers": "X"}], "headers of a gate are a mapping"),
        ([PROMETHEUS, PROMETHEUS], "two gates have the same name"),
    ],
)
def test_wrong_gates(given: t.Any, wrong: str) -> None:
    with pytest.raises(ValueError, match=wrong):
        _gates.parse(given)


def vector(*values: str) -> dict[str, t.Any]:
    result = [
        {"metric": {"instance": f"fl{number}"}, "value": [0, value]}
        for number, value in enumerate(values, start=1)
    ]
    return {"status": "success", "data": {"resultType": "vector", "result": result}}


@pytest.mark.parametrize(
    "answer, condition, why",
    [
        (vector("0.5"), "< 1", ""),
        (vector("0.5", "2"), "<1", "2 is not <1 (instance=fl2)"),
        (vector("NaN"), "!= 1", "nan is not != 1 (instance=fl1)"),
        (vector("+Inf"), "> 1e-3", ""),
        (vector("-1"), ">= -1", ""),
        (vector(), "< 1", "no data"),
        ({"data": {"resultType": "scalar", "result": [0, "3"]}}, "== 3", ""),
        ({"data": {"resultType": "scalar", "result": [0, "3"]}}, "<= 2", "3 is not <= 2"),
        (
            {"data": {"resultType": "matrix", "result": []}},
            "< 1",
            "the query returns a matrix: a vector or scalar is needed",
        ),
        ({"status": "error"}, "< 1", "the answer is not that of Prometheus"),
        ([], "< 1", "the answer is not that of Prometheus"),
    ],
)
def test_conditions_of_answers(answer: t.Any, condition: str, why: str) -> None:
    assert _gates.compare(answer, condition) == why


def test_commands() -> None:
    def problem(*command: str) -> str:
        (gate,) = _gates.parse([{"command": list(command)}])
        return _gates.problem(gate)

    assert problem("true") == ""
    assert problem("sh", "-c", "echo too hot >&2; exit 3") == "exit status 3: too hot"
    assert problem("/nonexistent").startswith("no answer: [Errno 2]")


class Server(http.server.BaseHTTPRequestHandler):
    """Answers by the path."""

    def do_GET(self) -> None:
        if self.path == "/garbage":
            self.wfile.write(b"no HTTP at all\n")
            return
        status = {"/moved": 302, "/well": 204}.get(self.path, 503)
        self.send_response(status)
        self.send_header("Location", "/well")
        self.end_headers()

    def log_message(self, *_arguments: t.Any) -> None:
        """Log nothing."""


@pytest.mark.parametrize(
    "path, why",
    [("well", ""), ("moved", ""), ("busy", "status 503"), ("garbage", "no answer: ")],
)
def test_urls(path: str, why: str) -> None:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Server)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}/{path}"
    try:
        (gate,) = _gates.parse([{"url": url}])
        found = _gates.problem(gate)
        waiting = _approval.Approval(url, "Go?", "fl1", 60, lambda _text, _seconds: "")
        assert waiting.ask().wait
    finally:
        server.shutdown()
        server.server_close()
    assert found.startswith(why) if why else found == ""


class Clock:
    """A clock that only sleep moves."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def watch(patience: float, answers: dict[float, str], clock: Clock) -> _gates.Watch:
    """Return a watch of one gate; C(answers): why it is shut, from each moment on."""
    gates = _gates.parse([{"command": ["true"], "name": "g"}])

    def evaluate(_gate: _gates.Gate) -> str:
        return answers[max(moment for moment in answers if moment <= clock.now)]

    return _gates.Watch(gates, patience, clock, evaluate)


def test_a_gate_may_be_shut_for_a_while() -> None:
    clock = Clock()
    watched = watch(30, {0: "x", 20: "", 40: "x"}, clock)
    assert watched.ask() == Answer(wait="gate g: x")
    clock.now = 20
    assert watched.ask() == GO
    # the time counts from when it was shut again
    clock.now = 40
    assert watched.ask() == Answer(wait="gate g: x")
    clock.now = 70
    assert watched.ask() == Answer(stop="gate g: x")


def test_a_bake_is_watched() -> None:
    clock = Clock()
    assert watch(0, {0: ""}, clock).during(12, clock.sleep) == ""
    assert clock.now == 12
    clock = Clock()
    assert watch(0, {0: "", 7: "x"}, clock).during(60, clock.sleep) == "gate g: x"
    assert clock.now == 10
    # it does not end while a gate is shut
    clock = Clock()
    assert watch(60, {0: "", 5: "x", 31: ""}, clock).during(10, clock.sleep) == ""
    assert clock.now == 35


def test_no_bake_is_watched_once() -> None:
    clock = Clock()
    assert watch(0, {0: "x"}, clock).during(0, clock.sleep) == "gate g: x"


class Asked:
    """A watch that counts; C(answers): what its gate says, one after the other, then the last."""

    def __init__(self, *answers: str) -> None:
        self._answers = list(answers)
        self.times = 0
        gates = _gates.parse([{"command": ["true"], "name": "g"}])
        self.watch = _gates.Watch(gates, 0, evaluate=self._evaluate)

    def _evaluate(self, _gate: _gates.Gate) -> str:
        self.times += 1
        return self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]

    def wait(self, times: int) -> None:
        deadline = time.monotonic() + 60
        while self.times < times:
            assert time.monotonic() < deadline
            time.sleep(0.01)


@pytest.fixture
def often(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ansible.constants.DEFAULT_LOCAL_TMP", str(tmp_path))
    monkeypatch.setattr(_gates, "INTERVAL_S", 0.01)


@pytest.mark.usefixtures("often")
def test_a_thread_watches_meanwhile() -> None:
    asked = Asked("", "", "x", "")
    with _gates.Background(asked.watch, "batch") as background:
        asked.wait(3)
        assert background.end() == "gate g: x"
    # asked at the end at least, however short the wait was
    asked = Asked("x")
    with _gates.Background(asked.watch, "batch") as background:
        assert background.end() == "gate g: x"
    with _gates.Background(None, "batch") as background:
        assert background.end() == ""


@pytest.mark.usefixtures("often")
def test_one_host_of_a_batch_watches_at_a_time() -> None:
    first, second = Asked(""), Asked("")
    with _gates.Background(second.watch, "batch") as other:
        second.wait(1)
        with _gates.Background(first.watch, "batch") as background:
            assert background.end() == ""
        assert first.times == 0
        with _gates.Background(first.watch, "another batch"):
            first.wait(1)
        assert other.end() == ""
    with _gates.Background(first.watch, "batch"):
        first.wait(2)
