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


def finished(**evidence: t.Any) -> dict[str, t.Any]:
    drain = step("drain", 0.7, 6.7, evidence={"drained": True, **evidence})
    return journal("finished", *PROMOTED, drain, step("stop", 6.7, 7.0))


def join(outcome: dict[str, t.Any], **more: t.Any) -> dict[str, t.Any]:
    return {"changed": False, "restart": outcome, "measured": [measured(7.0)], **more}


def entry(**results: t.Any) -> dict[str, t.Any]:
    [found] = _rollout.collect({"fl1": results}, ["fl1"])
    return found


@pytest.mark.parametrize(
    "results, status, drains",
    [
        ({}, "untouched", False),
        ({_rollout.SWITCH: {"skipped": True}}, "untouched", False),
        ({_rollout.SWITCH: {"changed": False, "restart": None}}, "unchanged", False),
        # the restart of another day was undone, which is no matter of this run
        ({_rollout.SWITCH: {"changed": False, "restart": finished()}}, "unchanged", False),
        ({_rollout.SWITCH: {"changed": True, "restart": None, "plan": {"a": 1}}}, "planned", False),
        # neither is it a matter of check mode
        (
            {
                _rollout.SWITCH: {
                    "changed": True,
                    "restart": journal("rolled_back", *PROMOTED),
                    "plan": {"a": 1},
                }
            },
            "planned",
            False,
        ),
        ({_rollout.SWITCH: SWITCHED}, "updated", True),
        ({_rollout.SWITCH: SWITCHED, _rollout.JOIN: join(finished())}, "updated", False),
        ({_rollout.SWITCH: {"unreachable": True, "msg": "no"}}, "unreachable", False),
        ({_rollout.SWITCH: {"failed": True, "msg": "refused"}}, "failed", False),
        (
            {_rollout.SWITCH: SWITCHED, _rollout.LOOK: {"unreachable": True, "msg": "no"}},
            "unreachable",
            True,
        ),
        (
            {
                _rollout.SWITCH: {
                    **SWITCHED,
                    "failed": True,
                    "restart": journal("failed", *PROMOTED),
                }
            },
            "failed",
            False,
        ),
        (
            {
                _rollout.SWITCH: SWITCHED,
                _rollout.JOIN: join(journal("rolled_back", *PROMOTED), failed=True, msg="undone"),
            },
            "rolled_back",
            False,
        ),
        (
            {
                _rollout.SWITCH: SWITCHED,
                _rollout.BACK: {
                    "changed": True,
                    "restart": journal(None, *PROMOTED, step("drain_new", 3.0, None)),
                },
            },
            "rolled_back",
            True,
        ),
        (
            {
                _rollout.SWITCH: SWITCHED,
                _rollout.BACK: {"failed": True, "msg": "nothing to go back to"},
                _rollout.JOIN: join(finished()),
            },
            "updated",
            False,
        ),
        (
            {_rollout.SWITCH: SWITCHED, _rollout.JOIN: {"failed": True, "msg": "was cut"}},
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
    found = entry(**{_rollout.SWITCH: SWITCHED, _rollout.JOIN: join(finished(drain=watched))})
    assert (found["switch_s"], found["drain_s"]) == (0.03, 6.0)
    assert (found["flows_carried"], found["flows_lost"], found["moved"]) == (9, 0, 0)
    assert [sample["at"] for sample in found["samples"]] == [0.0, 1.0, 7.0]


def test_flows_that_were_cut_off_are_lost() -> None:
    ended = finished(drain={"flows": 4, "flows_at_start": 2, "flows_most": 9}, drained=False)
    found = entry(**{_rollout.SWITCH: SWITCHED, _rollout.JOIN: join(ended)})
    assert (found["flows_carried"], found["flows_lost"]) == (5, 4)


def test_flows_that_are_still_there_are_neither_lost_nor_carried() -> None:
    kept = finished(drain={"flows": 4, "flows_at_start": 2, "flows_most": 9}, drained=False)
    kept["steps"][-2]["result"] = "kept"
    found = entry(**{_rollout.SWITCH: SWITCHED, _rollout.JOIN: join(kept)})
    assert (found["flows_carried"], found["flows_lost"]) == (5, 0)


def test_a_group_that_is_made_anew_takes_nothing_back() -> None:
    begun = {**SWITCHED, "measured": [measured(0.0, moved=5), measured(1.0, moved=7)]}
    end = join(finished(), measured=[measured(7.0, moved=1)])
    assert entry(**{_rollout.SWITCH: begun, _rollout.JOIN: end})["moved"] == 2


def test_nobody_knows_what_a_drain_that_goes_on_will_lose() -> None:
    assert entry(**{_rollout.SWITCH: SWITCHED})["flows_lost"] is None


def test_flows_of_a_new_instance_are_lost_when_it_is_rolled_back() -> None:
    left = {"drained": False, "drain": {"flows": 3}}
    undone = journal("rolled_back", *PROMOTED, step("drain_new", 0.7, 6.7, evidence=left))
    found = entry(**{_rollout.SWITCH: SWITCHED, _rollout.JOIN: join(undone, failed=True, msg="")})
    assert (found["status"], found["flows_lost"]) == ("rolled_back", 3)


def look(*counters: dict[str, t.Any]) -> dict[str, t.Any]:
    return {"services": [{"restart": DRAINING, "measured": item} for item in counters]}


@pytest.mark.parametrize(
    "results, worse",
    [
        ({_rollout.SWITCH: SWITCHED}, False),
        ({_rollout.LOOK: look(measured(2.0))}, False),
        ({_rollout.LOOK: look(measured(2.0, errors=50))}, True),
        ({_rollout.LOOK: look(measured(2.0, dropped=50))}, True),
        # no packet at all, and one answer from the wrong socket
        ({_rollout.LOOK: look(measured(2.0, processed=1100, moved=1))}, True),
        # a group that was made anew counts from zero
        ({_rollout.LOOK: look(measured(2.0, processed=3))}, False),
    ],
)
def test_worse_than_before(results: dict[str, t.Any], worse: bool) -> None:
    found = entry(**{_rollout.SWITCH: SWITCHED, **results})
    assert _rollout.is_worse(found, 0.001) is worse
    assert bool(_rollout.reason_to_stop([found], 0, 0.001)) is worse
    assert bool(_rollout.verdicts([found], 0.001)) is worse


def test_what_has_stopped_a_rollout_stays_true() -> None:
    results = {_rollout.SWITCH: SWITCHED, _rollout.LOOK: look(measured(2.0, errors=5))}
    # diluted by the time that the old instance has drained
    results[_rollout.JOIN] = join(finished(), measured=[measured(7.0, errors=5, processed=10**6)])
    assert list(_rollout.verdicts([entry(**results)], 0.001)) == ["fl1"]


def test_canaries_are_found_in_the_results_of_others() -> None:
    again = {"results": [{"item": "fl1", **look(measured(9.0, errors=50))}]}
    hostvars = {"fl1": {_rollout.SWITCH: SWITCHED}, "fl2": {_rollout.CANARIES: again}}
    first, second = _rollout.collect(hostvars, ["fl1", "fl2"])
    assert _rollout.is_worse(first, 0.001)
    assert list(_rollout.verdicts([first, second], 0.001)) == ["fl1"]
    assert second["status"] == "untouched"


def test_budget() -> None:
    bad = entry(**{_rollout.SWITCH: {"unreachable": True, "msg": "no\nroute"}})
    good = entry(**{_rollout.SWITCH: SWITCHED})
    assert _rollout.reason_to_stop([bad, good], 1, 0.001) == ""
    assert _rollout.reason_to_stop([bad, good, bad], 1, 0.001) == (
        "2 failed, at most 1 may (udpgrm_max_failures): "
        "fl1 unreachable (no route); fl1 unreachable (no route)"
    )
    assert _rollout.verdicts([bad], 0.001) == {"fl1": "unreachable: no route"}


def test_table() -> None:
    entries = [entry(**{_rollout.SWITCH: SWITCHED, _rollout.JOIN: join(finished())}), entry()]
    lines = _table.render("echo", entries, "enough")
    assert " ".join(lines[1].split()) == "fl1 updated 1 -> 2 0.030 s 6.0 s - 0 0 0"
    assert lines[2].split() == ["fl1", "untouched", "-", "-", "-", "-", "-", "-", "-"]
    assert lines[3:] == ["stopped: enough", "echo: 1 updated, 1 untouched"]


def test_page_places_all_within_the_picture() -> None:
    page = _page.layout(
        [entry(**{_rollout.SWITCH: SWITCHED, _rollout.JOIN: join(finished())}), entry()]
    )
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
