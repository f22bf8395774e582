# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors

"""Failed hooks count as failures of their hosts."""

from __future__ import annotations

import multiprocessing
import pathlib
import typing as t

import pytest
from ansible_collections.udpgrm.fleet.plugins.plugin_utils import _once, _rollout

from .test_rollout import RUN, SWITCHED, registered

FAILED = {"failed": True, "msg": "udpgrm_before_host: no"}


def collect(variables: dict[str, t.Any], *removed: str) -> list[tuple[str, str, bool]]:
    entries = _rollout.collect({"fl1": variables}, ["fl1"], ["echo", "dns"], RUN, removed)
    return [(entry["status"], entry["problem"], entry["drains"]) for entry in entries]


def hook(message: str, run: str = RUN) -> dict[str, t.Any]:
    failure = {"failed": True, "msg": message}
    return {
        "run": {"id": run, "at": 1.0},
        "steps": _rollout.hook_steps(failure, ["echo", "dns"]),
    }


def test_before_the_switch_nothing_was_done() -> None:
    begun = {"rollout_begin": registered()}
    assert collect(begun) == [("untouched", "", False)] * 2
    failed = {**begun, "rollout_hook": hook("no")}
    assert collect(failed) == [("failed", "no", False)] * 2
    assert collect({**begun, "rollout_hook": hook("no", "control:1:2:b")}) == collect(begun)


def test_after_the_switch_the_new_instance_stays() -> None:
    switched = {"rollout_begin": registered(), "rollout_switch": registered(switch=SWITCHED)}
    assert collect(switched) == [("updated", "", True), ("untouched", "", False)]
    failed = {**switched, "rollout_hook": hook("no")}
    assert collect(failed) == [("failed", "no", True), ("failed", "no", False)]


def test_a_host_that_a_hook_has_lost() -> None:
    begun = {"rollout_begin": registered()}
    lost = "a task did not reach its host"
    assert collect(begun, "fl1") == [("unreachable", lost, False)] * 2
    switched = {**begun, "rollout_switch": registered(switch=SWITCHED)}
    assert collect(switched, "fl1")[0] == ("unreachable", f"after the switch: {lost}", True)
    # one that has failed at the end is not in the play any longer, either
    finished = {**switched, "rollout_finish": registered(at=2.0)}
    assert collect(finished, "fl1") == collect(switched)
    # nor one that has failed in an earlier run
    assert collect({}, "fl1") == [("untouched", "", False)] * 2


def _worker(calls: t.Any) -> None:
    def compute() -> dict[str, t.Any]:
        with calls.get_lock():
            calls.value += 1
        return {"number": calls.value}

    assert _once.once("key", compute) == {"number": 1}


def test_once_whichever_worker_comes_first(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ansible.constants.DEFAULT_LOCAL_TMP", str(tmp_path))
    context = multiprocessing.get_context("fork")
    calls = context.Value("i", 0)
    workers = [context.Process(target=_worker, args=(calls,)) for _number in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert ([worker.exitcode for worker in workers], calls.value) == ([0] * 4, 1)
