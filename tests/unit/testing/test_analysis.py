# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""The demo's verdict: every kind of fault must be seen, and a clean run must pass."""

from __future__ import annotations

import dataclasses

import pytest

from demo import table
from testing.analysis import HostReport, StoppedUnit, Switch, evaluate, old_instance
from testing.flows import LONG, SHORT, Flow, Instance, Run

OLD = Instance(1, 100)
NEW = Instance(2, 200)
OTHER = Instance(2, 201)
SWITCH = Switch(called=10.0, returned=11.0)
FIRST_NEW_ANSWER = 10.501
STOPPED = StoppedUnit("echo@1.service", 20.0, "inactive")


def flow(start: float, *answers: tuple[Instance, float], kind: str = SHORT) -> Flow:
    """Make a flow with a packet per answer, all answered."""
    made = Flow("fl1", kind, start, sent=len(answers), answered=len(answers), longest_pause=0.1)
    for instance, when in answers:
        made.note_answer(instance, when)
    return made


def clean_flows() -> list[Flow]:
    """Return the traffic of a host on which nothing went wrong."""
    return [
        flow(1.0, (OLD, 1.0), (OLD, 9.0), (OLD, 12.0), kind=LONG),
        flow(9.9, (OLD, 9.9), (OLD, 10.1)),
        flow(10.4, (OLD, 10.401), (OLD, 10.6)),
        flow(10.5, (NEW, FIRST_NEW_ANSWER)),
        flow(10.6, (NEW, 10.6), (NEW, 10.7)),
        flow(14.0, (NEW, 14.0), (NEW, 25.0), kind=LONG),
        flow(21.0, (NEW, 21.0)),
    ]


def report(flows: list[Flow], unit: StoppedUnit | None = STOPPED) -> HostReport:
    """Evaluate flows of a host that switched."""
    return evaluate("fl1", flows, SWITCH, unit)


def test_clean_run_has_no_problem_and_counts_every_flow() -> None:
    result = report(clean_flows())

    assert result.problems == []
    assert (result.sent, result.answered, result.lost) == (13, 13, 0)
    assert dataclasses.astuple(result.old) == (2, 0)
    assert dataclasses.astuple(result.during) == (2, 0)
    assert dataclasses.astuple(result.new) == (3, 0)
    assert result.carried == 1
    assert result.seconds == pytest.approx(0.501)
    assert result.answered_after_stop == 1


def test_lost_packet() -> None:
    flows = clean_flows()
    flows[1].sent += 1
    flows[1].lost += 1
    assert report(flows).problems == ["1 packets lost"]


def test_packet_without_account() -> None:
    flows = clean_flows()
    flows[1].sent += 1
    assert report(flows).problems == ["answered and lost do not add up to sent"]


def test_old_flow_that_the_new_instance_answers_once() -> None:
    flows = clean_flows()
    flows[1] = flow(9.9, (OLD, 9.9), (NEW, 10.6), (OLD, 10.7))
    assert report(flows).problems == ["1 old flows moved"]


def test_flow_begun_before_the_call_that_the_new_instance_answers() -> None:
    flows = [*clean_flows(), flow(9.95, (NEW, 10.7))]
    assert report(flows).problems == ["1 old flows moved"]


def test_flow_begun_during_the_switch_that_moves() -> None:
    flows = [*clean_flows(), flow(10.3, (OLD, 10.3), (NEW, 10.6))]
    assert report(flows).problems == ["1 flows begun during the switch moved"]


def test_new_flow_that_the_old_instance_answers() -> None:
    flows = [*clean_flows(), flow(11.5, (OLD, 11.5))]
    assert report(flows).problems == ["1 new flows misdirected"]


def test_new_flow_to_the_old_instance_right_after_the_first_new_answer() -> None:
    """End the window with the first new answer, long before the task has returned."""
    flows = [*clean_flows(), flow(10.55, (OLD, 10.56))]
    assert report(flows).problems == ["1 new flows misdirected"]


def test_new_flow_that_a_third_process_answers() -> None:
    """Count a flow to a crashed and restarted instance: the same generation, another process."""
    flows = [*clean_flows(), flow(15.0, (OTHER, 15.0))]
    assert report(flows).problems == ["1 new flows misdirected"]


def test_new_flows_before_the_switch_was_even_called() -> None:
    flows = [*clean_flows(), flow(8.0, (NEW, 8.0))]
    assert "1 old flows moved" in report(flows).problems


def test_flow_without_answers() -> None:
    flows = clean_flows()
    flows.append(Flow("fl1", SHORT, 15.0, sent=1, lost=1))
    assert report(flows).problems == ["1 packets lost", "1 new flows misdirected"]


def test_no_switch_in_the_playbook() -> None:
    assert evaluate("fl1", clean_flows(), None, None).problems == [
        "the playbook set no working generation"
    ]


def test_no_traffic_at_all() -> None:
    assert report([], unit=None).problems == ["no answers before the switch"]


def test_one_instance_all_the_time() -> None:
    flows = [flow(1.0, (OLD, 1.0)), flow(12.0, (OLD, 12.0)), flow(21.0, (OLD, 21.0))]
    assert report(flows).problems == ["no new instance"]


def test_no_long_lived_flow_across_the_switch() -> None:
    flows = clean_flows()
    del flows[0]
    assert report(flows).problems == ["no long-lived flow was there before and after the switch"]


def test_old_instance_still_runs() -> None:
    unit = StoppedUnit("echo@1.service", None, "active")
    assert report(clean_flows(), unit).problems == ["echo@1.service was not stopped well: active"]


def test_no_traffic_after_the_stop() -> None:
    flows = clean_flows()
    del flows[-1]
    assert report(flows).problems == ["no traffic after echo@1.service was stopped"]


def test_pause_of_a_long_lived_flow() -> None:
    flows = clean_flows()
    flows[0].longest_pause = 0.61
    made = report(flows)
    assert not made.problems
    assert "sent nothing for 0.61 s" in made.notes[0]


def test_repeated_and_strange_answers() -> None:
    flows = clean_flows()
    flows[0].repeated = 2
    flows[1].strange = 3
    assert report(flows).problems == [
        "2 answers twice or too late",
        "3 answers of another host or of no sense",
    ]


def test_old_instance_is_the_one_before_the_call() -> None:
    assert old_instance(clean_flows(), SWITCH) == OLD
    assert old_instance([], SWITCH) is None


def test_runs_join_answers_of_one_instance() -> None:
    assert flow(1.0, (OLD, 1.0), (OLD, 2.0), (NEW, 3.0)).runs == [
        Run(OLD, 1.0, 2.0, 2),
        Run(NEW, 3.0, 3.0, 1),
    ]


def test_table_of_a_clean_run_ends_with_ok() -> None:
    lines = table.render([report(clean_flows())]).splitlines()
    assert lines[-1] == "OK: 0 lost, 0 moved, 0 misdirected"
    assert lines[1].split() == ["packets", "sent", "13"]


def test_table_names_the_host_of_a_problem_and_fails() -> None:
    flows = [*clean_flows(), flow(11.5, (OLD, 11.5))]
    lines = table.render([report(clean_flows()), report(flows)]).splitlines()
    assert lines[-2:] == ["fl1: 1 new flows misdirected", "FAILED: 0 lost, 0 moved, 1 misdirected"]


def test_table_without_hosts_fails() -> None:
    assert table.render([]).splitlines()[-1].startswith("FAILED")
