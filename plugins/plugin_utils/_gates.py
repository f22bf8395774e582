# Copyright the udpgrm authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this plugin util is **PRIVATE** to the collection. It can have breaking changes at any time.

"""Gates of a rollout: a query of Prometheus with a condition, a URL, or a command of the control node."""

from __future__ import annotations

import dataclasses
import json
import math
import operator
import re
import subprocess
import threading
import time
import typing as t
import urllib.error
import urllib.parse

from ansible_collections.udpgrm.fleet.plugins.plugin_utils import _http, _once
from ansible_collections.udpgrm.fleet.plugins.plugin_utils._conditions import GO, Answer

TIMEOUT_S = 10
INTERVAL_S = 5.0
_KEYS = {
    "prometheus": {"name", "prometheus", "query", "condition", "headers"},
    "url": {"name", "url", "headers"},
    "command": {"name", "command"},
}
_COMPARE = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "==": operator.eq,
    "!=": operator.ne,
}
_CONDITION = re.compile(r"(<=|>=|==|!=|<|>) *(-?[0-9]*[.]?[0-9]+(?:e-?[0-9]+)?)")


@dataclasses.dataclass(frozen=True)
class Gate:
    """A gate as it is given. C(target): the server, the URL, or the command."""

    kind: str
    name: str
    target: t.Any
    query: str = ""
    condition: str = ""
    headers: t.Mapping[str, str] = dataclasses.field(default_factory=dict)


def parse(value: t.Any) -> list[Gate]:
    """Return gates as they are given. Raises ValueError."""
    if not isinstance(value or [], list):
        raise ValueError("it is a list of gates, each with prometheus, url or command")
    found = [_gate(item) for item in value or []]
    names = [gate.name for gate in found]
    if len(set(names)) < len(names):
        raise ValueError("two gates have the same name")
    return found


def _gate(item: t.Any) -> Gate:
    if not isinstance(item, dict) or len(kinds := _KEYS.keys() & item.keys()) != 1:
        raise ValueError("each gate is a mapping with one of prometheus, url or command")
    kind = kinds.pop()
    unknown = sorted(item.keys() - _KEYS[kind])
    if unknown:
        raise ValueError(f"a gate with {kind} has no {unknown[0]}")
    target, headers = item[kind], item.get("headers") or {}
    if not isinstance(headers, dict):
        raise ValueError("headers of a gate are a mapping")
    if kind == "command":
        if not isinstance(target, list) or not target:
            raise ValueError("a gate's command is a list of words")
        target = [str(word) for word in target]
    elif not _http.is_url(str(target)):
        raise ValueError(f"a gate's {kind} is an http or https URL")
    query, condition = str(item.get("query") or ""), str(item.get("condition") or "")
    if kind == "prometheus" and not (query and _CONDITION.fullmatch(condition.strip())):
        raise ValueError("a gate with prometheus has a query and a condition such as '< 0.01'")
    name = str(item.get("name") or "") or _default_name(kind, target, query)
    return Gate(kind, name, target, query, condition.strip(), headers)


def _default_name(kind: str, target: t.Any, query: str) -> str:
    """Return a name without what may be secret: a URL has no user and no query."""
    if kind == "command":
        return str(target[0])
    parts = urllib.parse.urlsplit(str(target))
    return query or f"{parts.hostname}{parts.path}"


def problem(gate: Gate) -> str:
    """Return why a gate does not let the rollout pass; empty if it does. No answer is a reason."""
    try:
        if gate.kind == "command":
            return _run(gate.target)
        if gate.kind == "url":
            _fetch(gate, str(gate.target))
            return ""
        query = urllib.parse.urlencode({"query": gate.query})
        text = _fetch(gate, f"{str(gate.target).rstrip('/')}/api/v1/query?{query}")
        return compare(json.loads(text), gate.condition)
    except urllib.error.HTTPError as error:
        return f"status {error.code}{_prometheus_error(error)}"
    except ValueError:
        return "the answer is no JSON"
    except (*_http.NO_ANSWER, subprocess.SubprocessError) as error:
        return f"no answer: {_http.reason(error)}"


def _fetch(gate: Gate, url: str) -> str:
    return _http.request(url, TIMEOUT_S, gate.headers)


def _prometheus_error(error: urllib.error.HTTPError) -> str:
    """Return what Prometheus says of a wrong query."""
    try:
        return f": {json.loads(error.read())['error']}"
    except (ValueError, KeyError, TypeError, OSError):
        return ""


def _run(command: t.Sequence[str]) -> str:
    done = subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=TIMEOUT_S,
        check=False,
    )
    lines = [line for line in (done.stderr or done.stdout).splitlines() if line.strip()]
    message = f": {lines[-1].strip()}" if lines else ""
    return f"exit status {done.returncode}{message}" if done.returncode else ""


def compare(document: t.Any, condition: str) -> str:
    """Return why an answer of Prometheus does not meet a condition. Each series has to; none, or NaN, is no success."""
    try:
        data = document["data"]
        kind, result = data["resultType"], data["result"]
        if kind not in ("vector", "scalar"):
            return f"the query returns a {kind}: a vector or scalar is needed"
        samples = (
            [({}, result)] if kind == "scalar" else [(s["metric"], s["value"]) for s in result]
        )
        values = [(metric, float(sample[1])) for metric, sample in samples]
    except (KeyError, TypeError, IndexError, ValueError):
        return "the answer is not that of Prometheus"
    if not values:
        return "no data"
    found = _CONDITION.fullmatch(condition)
    if found is None:  # checked as it was given
        raise AssertionError(condition)
    holds, limit = _COMPARE[found[1]], float(found[2])
    for metric, value in values:
        if math.isnan(value) or not holds(value, limit):
            labels = ", ".join(f"{key}={word}" for key, word in sorted(metric.items()))
            shown = f"{value:g} is not {condition}"
            return f"{shown} ({labels})" if labels else shown
    return ""


class Watch:
    """Evaluates gates again and again. One may be shut for C(patience) seconds before the run stops."""

    def __init__(
        self,
        gates: t.Sequence[Gate],
        patience: float,
        clock: t.Callable[[], float] = time.monotonic,
        evaluate: t.Callable[[Gate], str] = problem,
    ) -> None:
        self._gates = gates
        self._patience = patience
        self._clock = clock
        self._evaluate = evaluate
        self._shut_since: dict[str, float] = {}

    def ask(self) -> Answer:
        """Return whether all gates are open; the first that is shut for too long stops the run."""
        answer = GO
        for gate in self._gates:
            why = self._evaluate(gate)
            if not why:
                self._shut_since.pop(gate.name, None)
                continue
            message = f"gate {gate.name}: {why}"
            now = self._clock()
            since = self._shut_since.setdefault(gate.name, now)
            if now - since >= self._patience:
                return Answer(stop=message)
            answer = answer if answer.wait else Answer(wait=message)
        return answer

    def during(self, seconds: float, sleep: t.Callable[[float], None] = time.sleep) -> str:
        """Watch for a time, and for longer while a gate is shut; return why the run stops, empty if it does not."""
        end = self._clock() + seconds
        while True:
            answer = self.ask()
            if answer.stop:
                return answer.stop
            remaining = end - self._clock()
            if remaining <= 0 and answer == GO:
                return ""
            sleep(min(INTERVAL_S, remaining) if remaining > 0 else INTERVAL_S)


class Background:
    """A watch in a thread while its worker waits for a host. One worker of a batch at a time asks the gates."""

    def __init__(self, watch: Watch | None, key: str) -> None:
        self._watch = watch
        self._turn = _once.Turn(key)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._ask_on, daemon=True)
        self._stop = ""

    def __enter__(self) -> Background:
        if self._watch is not None:
            self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._join()
        self._turn.close()

    def _join(self) -> None:
        self._over.set()
        if self._thread.ident is not None:
            self._thread.join()

    def _ask_on(self) -> None:
        while self._watch is not None and not self._stop and not self._over.is_set():
            if self._turn.is_ours():
                self._stop = self._watch.ask().stop
            self._over.wait(INTERVAL_S)

    def end(self) -> str:
        """End the watch, later if a gate is shut; return why the run stops, empty if it does not."""
        self._join()
        if self._watch is not None and not self._stop and self._turn.is_ours():
            self._stop = self._watch.during(0)
        return self._stop
