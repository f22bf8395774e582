# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors

from __future__ import annotations

import typing as t

import pytest
from ansible_collections.udpgrm.fleet.plugins.plugin_utils import _page, _progress, _rollout, _table


def step(name: str, started: float, ended: float | None, **more: t.Any) -> dict[str, t.Any]:
    result = None if ended is None else "done"
    times = {"step": name, "started": started, "ended": ended}
    return {**times, "result": result, "reason": "", "evidence": {}, **more}


def journal(outcome: str | None, *steps: dict[str, t.Any]) -> dict[str, t.Any]:
    return {
        "outcome": outcome,
        "step": steps[-1]["step"],
        "state": outcome or steps[-1]["step"],
        "from_generation": 1,
        "to_generation": 2,
        "promotion_window_s": 0.03,
        "steps": list(steps),
    }


def measured(at: float, errors: int = 0, **more: t.Any) -> dict[str, t.Any]:
    flows = {"1": max(0, 10 - int(at)), "2": int(at)}
    base = {"at": at, "processed": int(1000 + 100 * at), "errors": errors, "moved": 0}
    return {**base, "dropped": 0, "flows": flows, **more}


PROMOTED = (step("start", 0.1, 0.5), step("promote", 0.5, 0.6), step("verify", 0.6, 0.7))
DRAINING = journal(None, *PROMOTED, step("drain", 0.7, None))
SWITCHED = {
    "changed": True,
    "restart": DRAINING,
    "after": {"generation": 2, "release": "r"},
    "measured": [measured(0.0), measured(1.0)],
}


def reading(counters: dict[str, t.Any]) -> dict[str, t.Any]:
    return {"restart": DRAINING, "measured": counters}


def inspection(counters: dict[str, t.Any]) -> dict[str, t.Any]:
    return {"services": [reading(counters)]}


def finished(**evidence: t.Any) -> dict[str, t.Any]:
    drain = step("drain", 0.7, 6.7, evidence={"drained": True, **evidence})
    return journal("finished", *PROMOTED, drain, step("stop", 6.7, 7.0))


def join(outcome: dict[str, t.Any], **more: t.Any) -> dict[str, t.Any]:
    return {"changed": False, "restart": outcome, "measured": [measured(7.0)], **more}


RUN = "control:1:2:a"


def registered(run: str = RUN, at: float = 1.0, **results: t.Any) -> dict[str, t.Any]:
    """Return what a task of a rollout returns, by the names of its steps."""
    steps = [
        {"step": name, "service": "echo", "result": result} for name, result in results.items()
    ]
    return {"run": {"id": run, "at": at}, "steps": steps}


def entry(**results: t.Any) -> dict[str, t.Any]:
    return _rollout.entry("fl1", "echo", list(results.values()), list(results))


@pytest.mark.parametrize(
    "results, status, drains",
    [
        ({}, "untouched", False),
        ({"switch": {"changed": False, "restart": None}}, "unchanged", False),
        # the restart of another day was undone, which is no matter of this run
        ({"switch": {"changed": False, "restart": finished()}}, "unchanged", False),
        ({"switch": {"changed": True, "restart": None, "plan": {"a": 1}}}, "planned", False),
        # neither is it a matter of check mode
        (
            {
                "switch": {
                    "changed": True,
                    "restart": journal("rolled_back", *PROMOTED),
                    "plan": {"a": 1},
                }
            },
            "planned",
            False,
        ),
        ({"switch": SWITCHED}, "updated", True),
        ({"switch": SWITCHED, "join": join(finished())}, "updated", False),
        ({"switch": {"unreachable": True, "msg": "no"}}, "unreachable", False),
        # the connection was lost during the bake
        (
            {"switch": {"unreachable": True, "msg": "no"}, "inspect": inspection(measured(2.0))},
            "unreachable",
            True,
        ),
        ({"switch": {"failed": True, "msg": "refused"}}, "failed", False),
        (
            {"switch": SWITCHED, "inspect": {"unreachable": True, "msg": "no"}},
            "unreachable",
            True,
        ),
        (
            {
                "switch": {
                    **SWITCHED,
                    "failed": True,
                    "restart": journal("failed", *PROMOTED),
                }
            },
            "failed",
            False,
        ),
        # the new instance is all that is left: it was not stopped
        (
            {
                "switch": {
                    **SWITCHED,
                    "failed": True,
                    "restart": journal(
                        "failed", *PROMOTED, step("stop_new", 3.0, 4.0, result="failed")
                    ),
                }
            },
            "failed",
            False,
        ),
        (
            {
                "switch": SWITCHED,
                "join": join(journal("rolled_back", *PROMOTED), failed=True, msg="undone"),
            },
            "rolled_back",
            False,
        ),
        (
            {
                "switch": SWITCHED,
                "back": {
                    "changed": True,
                    "restart": journal(None, *PROMOTED, step("drain_new", 3.0, None)),
                },
            },
            "rolled_back",
            True,
        ),
        (
            {
                "switch": SWITCHED,
                "back": {"failed": True, "msg": "nothing to go back to"},
                "join": join(finished()),
            },
            "updated",
            False,
        ),
        (
            {"switch": SWITCHED, "join": {"failed": True, "msg": "was cut"}},
            "failed",
            True,
        ),
    ],
)
def test_status(results: dict[str, t.Any], status: str, drains: bool) -> None:
    found = entry(**results)
    assert (found["status"], found["drains"]) == (status, drains)


def test_figures_of_a_drain_that_ended() -> None:
    watched = {"flows": 0, "flows_at_start": 2, "flows_most": 9}
    found = entry(switch=SWITCHED, join=join(finished(drain=watched)))
    assert (found["switch_s"], found["drain_s"]) == (0.03, 6.0)
    assert (found["flows_carried"], found["flows_lost"], found["moved"]) == (9, 0, 0)
    assert [sample["at"] for sample in found["samples"]] == [0.0, 1.0, 7.0]


def test_flows_that_were_cut_off_are_lost() -> None:
    ended = finished(drain={"flows": 4, "flows_at_start": 2, "flows_most": 9}, drained=False)
    found = entry(switch=SWITCHED, join=join(ended))
    assert (found["flows_carried"], found["flows_lost"]) == (5, 4)


@pytest.mark.parametrize("left", [4, None])
def test_flows_that_a_policy_leaves_are_lost(left: int | None) -> None:
    """Count the flows left after a drain as lost, or none if the drain counts only packets."""
    ended = finished(drain={"flows": left, "flows_at_start": 2, "flows_most": left and 9})
    found = entry(switch=SWITCHED, join=join(ended))
    assert (found["flows_carried"], found["flows_lost"]) == (left and 5, left)


def test_what_clients_of_an_unreachable_host_have_lost_is_unknown() -> None:
    """Report no count though the drain had ended, as the host may be without power since."""
    ended = join(finished(drain={"flows": 0, "flows_at_start": 2, "flows_most": 9}))
    found = entry(switch=SWITCHED, inspect=ended, join={"unreachable": True, "msg": "no"})
    assert (found["status"], found["flows_lost"]) == ("unreachable", None)


def test_flows_that_came_during_a_hold_are_lost() -> None:
    """Count flows of an instance that was active in its hold, and whose second drain timed out."""
    evidence = {"hold": {"begun": 3.0}, "drain": {"flows": 4, "flows_most": 9}, "drained": False}
    found = entry(switch=SWITCHED, join=join(finished(**evidence)))
    assert found["flows_lost"] == 4


def test_flows_that_are_still_there_are_neither_lost_nor_carried() -> None:
    kept = finished(drain={"flows": 4, "flows_at_start": 2, "flows_most": 9}, drained=False)
    kept["steps"][-2]["result"] = "kept"
    found = entry(switch=SWITCHED, join=join(kept))
    assert (found["flows_carried"], found["flows_lost"]) == (5, 0)


def test_a_group_that_is_made_again_counts_from_zero() -> None:
    begun = {**SWITCHED, "measured": [measured(0.0, moved=5), measured(1.0, moved=7)]}
    end = join(finished(), measured=[measured(7.0, moved=1)])
    assert entry(switch=begun, join=end)["moved"] == 2


def test_losses_of_a_drain_that_continues_are_unknown() -> None:
    assert entry(switch=SWITCHED)["flows_lost"] is None


def test_flows_of_a_new_instance_are_lost_when_it_is_rolled_back() -> None:
    left = {"drained": False, "drain": {"flows": 3}}
    undone = journal("rolled_back", *PROMOTED, step("drain_new", 0.7, 6.7, evidence=left))
    found = entry(switch=SWITCHED, join=join(undone, failed=True, msg=""))
    assert (found["status"], found["flows_lost"]) == ("rolled_back", 3)


@pytest.mark.parametrize(
    "results, worse",
    [
        ({"switch": SWITCHED}, False),
        ({"inspect": inspection(measured(2.0))}, False),
        ({"inspect": inspection(measured(2.0, errors=50))}, True),
        ({"inspect": inspection(measured(2.0, dropped=50))}, True),
        # no packet at all, and one answer from the wrong socket
        ({"inspect": inspection(measured(2.0, processed=1100, moved=1))}, True),
        # a group that was made again counts from zero
        ({"inspect": inspection(measured(2.0, processed=3))}, False),
    ],
)
def test_worse_than_before(results: dict[str, t.Any], worse: bool) -> None:
    found = entry(**{"switch": SWITCHED, **results})
    assert _rollout.is_worse(found, 0.001) is worse
    assert bool(_rollout.reason_to_stop([found], 0, 0.001)) is worse
    assert bool(_rollout.verdicts([found], 0.001)) is worse


def test_what_has_stopped_a_rollout_stays_true() -> None:
    results = {"switch": SWITCHED, "inspect": inspection(measured(2.0, errors=5))}
    # diluted by the time that the old instance has drained
    results["join"] = join(finished(), measured=[measured(7.0, errors=5, processed=10**6)])
    assert list(_rollout.verdicts([entry(**results)], 0.001)) == ["fl1"]


def test_canaries_are_found_in_the_results_of_others() -> None:
    again = {
        "results": [{"item": "fl1", **registered(inspect=inspection(measured(9.0, errors=50)))}]
    }
    hostvars = {
        "fl1": {_rollout.SWITCH: registered(switch=SWITCHED)},
        "fl2": {_rollout.CANARIES: again, _rollout.SWITCH: {"skipped": True}},
    }
    first, second = _rollout.collect(hostvars, ["fl1", "fl2"], ["echo"], RUN)
    assert _rollout.is_worse(first, 0.001)
    assert list(_rollout.verdicts([first, second], 0.001)) == ["fl1"]
    assert second["status"] == "untouched"


def test_results_of_an_earlier_run_are_ignored() -> None:
    hostvars = {
        "fl1": {_rollout.SWITCH: registered(switch=SWITCHED)},
        "fl2": {_rollout.SWITCH: registered("control:1:2:b", 2.0, switch={"changed": False})},
    }
    names = list(hostvars)
    run = _rollout.newest_run(hostvars, names)
    found = _rollout.collect(hostvars, names, ["echo"], run)
    assert [item["status"] for item in found] == ["untouched", "unchanged"]
    assert _rollout.newest_run({"fl1": {}}, ["fl1"]) == ""


def test_a_task_that_could_not_say_which_run_it_belongs_to_has_failed() -> None:
    broken = {"fl1": {_rollout.SWITCH: {"failed": True, "msg": "no such connection plugin"}}}
    [found] = _rollout.collect(broken, ["fl1"], ["echo"], RUN)
    assert (found["status"], found["problem"]) == ("failed", "no such connection plugin")


def test_services_are_told_apart() -> None:
    result = registered(switch=SWITCHED)
    result["steps"].append(
        {"step": "switch", "service": "dns", "result": {"failed": True, "msg": "no"}}
    )
    found = _rollout.collect({"fl1": {_rollout.SWITCH: result}}, ["fl1"], ["echo", "dns"], RUN)
    assert [item["status"] for item in found] == ["updated", "failed"]
    assert _rollout.reason_to_stop(found, 0, 0.001) == (
        "1 failed, at most 0 may (udpgrm_max_failures): fl1 dns failed (no)"
    )
    assert _rollout.verdicts(found, 0.001) == {"fl1": "dns: failed: no"}
    lines = _table.render(found, "", [], "repair it")
    assert lines[0].split()[:2] == ["host", "service"]
    assert lines[-3:] == ["echo: 1 updated", "dns: 1 failed", "repair it"]


SERVES = {"generations": [2], "release": "r", "boot_id": "a"}


@pytest.mark.parametrize(
    "seen, problem",
    [
        (SERVES, ""),
        ({**SERVES, "generations": [1]}, "generation 1 is active, not 2, which the restart has"),
        ({**SERVES, "generations": [1, 2]}, "generation 1 and 2 are active, not 2"),
        ({**SERVES, "generations": []}, "no instance is active, not 2"),
        ({**SERVES, "release": None}, "after the switch another restart was begun"),
        (
            {**SERVES, "boot_id": "b"},
            "the host was booted after the switch, and generation 2 is active",
        ),
    ],
)
@pytest.mark.parametrize("step", ["inspect", "join"])
def test_what_serves_after_the_switch(step: str, seen: dict[str, t.Any], problem: str) -> None:
    later: dict[str, t.Any] = (
        join(finished()) if step == "join" else {"services": [{**reading(measured(2.0))}]}
    )
    (later["services"][0] if step == "inspect" else later).update(serves=seen)
    found = entry(**{"switch": {**SWITCHED, "serves": SERVES}, step: later})
    assert found["status"] == ("failed" if problem else "updated")
    assert problem in found["problem"]
    if problem:
        assert found["flows_lost"] is None
        assert "fl1" in _rollout.verdicts([found], 0.001)


def test_messages_keep_their_cause() -> None:
    result = {"failed": True, "msg": "MODULE FAILURE", "module_stderr": "x\nNo space left\n\n"}
    assert _rollout.cause(result) == "MODULE FAILURE: No space left"
    assert _rollout.cause({"unreachable": True, "msg": "ssh: no\nroute"}) == "ssh: no route"
    assert _rollout.cause({"failed": True}) == "failed"


def test_budget() -> None:
    bad = entry(switch={"unreachable": True, "msg": "no\nroute"})
    good = entry(switch=SWITCHED)
    assert _rollout.reason_to_stop([bad, good], 1, 0.001) == ""
    another = {**bad, "host": "fl3"}
    assert _rollout.reason_to_stop([bad, good, another], 1, 0.001) == (
        "2 failed, at most 1 may (udpgrm_max_failures): "
        "fl1 unreachable (no route); fl3 unreachable (no route)"
    )
    # a host with two services that failed is one
    assert _rollout.reason_to_stop([bad, good, bad], 1, 0.001) == ""
    assert _rollout.verdicts([bad], 0.001) == {"fl1": "unreachable: no route"}


def test_table() -> None:
    entries = [entry(switch=SWITCHED, join=join(finished())), entry()]
    lines = _table.render(entries, "enough", [], "repair it")
    assert " ".join(lines[1].split()) == "fl1 updated 1 -> 2 0.030 s 6.0 s - 0 0 0"
    assert lines[2].split() == ["fl1", "untouched", "-", "-", "-", "-", "-", "-", "-"]
    assert lines[3:] == ["stopped: enough", "echo: 1 updated, 1 untouched; repair it"]


def test_page_places_all_within_the_picture() -> None:
    page = _page.layout([entry(switch=SWITCHED, join=join(finished())), entry()])
    host, untouched = page["hosts"]
    assert page["span"] == 7.0
    assert (untouched["bars"], untouched["lines"]) == ([], [])
    for rectangle in host["bars"]:
        assert (
            page["left"]
            <= rectangle["x"]
            <= rectangle["x"] + rectangle["width"]
            <= page["right"] + 1
        )
    old, new = host["lines"]
    assert (old["new"], new["new"], host["highest"]) == (False, True, 10)
    assert old["points"].split()[0] == "130.0,0.0"
    assert new["last"] == (page["right"], page["graph"] * 0.3)
    assert [tick["label"] for tick in page["ticks"]] == [f"{n} s" for n in range(8)]


def test_page_of_nothing() -> None:
    assert _page.layout([])["hosts"] == []
    assert _page.layout([entry()])["begin"] == ""


def test_progress() -> None:
    progress = _progress.Progress("fl1", {"service": "echo"})
    answer = {"drained": False, "generation": 1, "flows": 40, "restart": DRAINING}
    assert progress.line(answer, 5.0, None) == "fl1: echo generation 1, 40 flows left, 5 s"
    assert progress.line({**answer, "flows": 20}, 10.0, 60.0) == (
        "fl1: echo generation 1, 20 flows left, about 5 s more, 10 s of at most 60 s"
    )
    assert "flows not counted" in progress.line({**answer, "flows": None}, 15.0, None)
    assert progress.problem(answer, 60.0) == ("generation 1 has not drained in 60 s: 40 flows left")
    ended = {**answer, "drained": True}
    assert progress.problem({**ended, "restart": finished()}, 7.0) == ""
    undone = journal("rolled_back", step("verify", 0.0, 1.0, reason="nobody answers"))
    assert progress.problem({**ended, "restart": undone}, 7.0) == (
        "echo: the restart was rolled back: nobody answers"
    )


def test_a_held_instance_has_drained() -> None:
    held = {"begun": 6.7, "hold_s": 600}
    drain = step("drain", 0.7, None, evidence={"drained": True, "hold": held})
    found = entry(switch=SWITCHED, join=join(journal(None, *PROMOTED, drain)))
    assert (found["status"], found["drain_s"], found["flows_lost"]) == ("updated", 6.0, 0)
    # for udpgrm.fleet.rollback
    assert found["drains"]
    answer = {"drained": True, "restart": journal(None, *PROMOTED, drain)}
    assert _progress.Progress("fl1", {"service": "echo"}).problem(answer, 1.0) == ""
