# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""Evaluates a restart under traffic from the flows, the playbook's times and the old units.

When did a host switch? The step that sets the working generation began at one
moment and had ended at another; the switch lies between. A first answer of the
new instance in between proves that it has happened by then, which narrows it. So
of the flows of a host, by the moment of their first packet:

old     before the step began: theirs is the old instance, for good
during  in between: theirs is whichever answered first, for good
new     after: theirs is the new instance
"""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Iterable, Sequence

from testing.flows import LONG, Flow, Instance

# two packets of a long-lived flow are seldom further apart (seconds), five times their interval
LONGEST_PAUSE = 0.5


@dataclasses.dataclass(frozen=True)
class Switch:
    """The begin and end of the step that sets the working generation."""

    called: float
    returned: float


@dataclasses.dataclass(frozen=True)
class StoppedUnit:
    """The old instance's unit after the restart.

    Attributes:
        stopped: when systemd saw it end well; None when it did not.
        state: ActiveState, and Result where that is not success.
    """

    name: str
    stopped: float | None
    state: str


@dataclasses.dataclass
class Split:
    """Flows that the right instance alone answered, and those another one answered as well."""

    right: int = 0
    another: int = 0

    def add(self, right: bool) -> None:
        """Count a flow."""
        if right:
            self.right += 1
        else:
            self.another += 1


@dataclasses.dataclass
class HostReport:
    """The effect of one host's restart on its traffic; `problems` is empty when all is well.

    Attributes:
        during: flows begun while the switch happened; `another` counts those that moved.
        carried: long-lived flows of the old instance, answered before and after the switch.
        seconds: from the begin of the step to the first answer of the new instance.
        answered_after_stop: answers after the old instance had ended.
        notes: what makes the traffic a weaker test than intended.
    """

    host: str
    sent: int = 0
    answered: int = 0
    lost: int = 0
    old: Split = dataclasses.field(default_factory=Split)
    during: Split = dataclasses.field(default_factory=Split)
    new: Split = dataclasses.field(default_factory=Split)
    carried: int = 0
    longest_pause: float = 0.0
    seconds: float | None = None
    answered_after_stop: int = 0
    problems: list[str] = dataclasses.field(default_factory=list)
    notes: list[str] = dataclasses.field(default_factory=list)


def commonest_instance(flows: Iterable[Flow]) -> Instance | None:
    """Return the instance that gave most flows their first answer; None: there was no answer."""
    counts = collections.Counter(flow.runs[0].instance for flow in flows if flow.runs)
    return counts.most_common(1)[0][0] if counts else None


def old_instance(flows: Sequence[Flow], switch: Switch) -> Instance | None:
    """Return the instance that had a host's flows before its switch."""
    return commonest_instance(flow for flow in flows if flow.first_sent < switch.called)


def stayed(flow: Flow, instance: Instance | None) -> bool:
    """Return whether the instance answered the flow, and no other did."""
    return [run.instance for run in flow.runs] == [instance]


def switched_by(switch: Switch, first_new_answer: float | None) -> float:
    """Return the earliest moment by which the switch has surely happened."""
    if first_new_answer is not None and switch.called <= first_new_answer <= switch.returned:
        return first_new_answer
    return switch.returned


def evaluate(
    host: str, flows: Sequence[Flow], switch: Switch | None, unit: StoppedUnit | None
) -> HostReport:
    """Report on one host from its flows.

    Args:
        host: its name.
        flows: every flow to it.
        switch: None when the playbook set no working generation there.
        unit: the old instance's; None when no old instance was seen.
    """
    report = HostReport(host)
    for flow in flows:
        report.sent += flow.sent
        report.answered += flow.answered
        report.lost += flow.lost
        if flow.kind == LONG:
            report.longest_pause = max(report.longest_pause, flow.longest_pause)
    _evaluate_packets(report, flows)
    if switch is None:
        report.problems.append("the playbook set no working generation")
        return report
    _evaluate_flows(report, flows, switch)
    _evaluate_stop(report, flows, unit)
    return report


def _evaluate_packets(report: HostReport, flows: Sequence[Flow]) -> None:
    if report.lost:
        report.problems.append(f"{report.lost} packets lost")
    if report.answered + report.lost != report.sent:
        report.problems.append("answered and lost do not add up to sent")
    repeated = sum(flow.repeated for flow in flows)
    if repeated:
        report.problems.append(f"{repeated} answers twice or too late")
    strange = sum(flow.strange for flow in flows)
    if strange:
        report.problems.append(f"{strange} answers of another host or of no sense")
    if report.longest_pause > LONGEST_PAUSE:
        # how busy the machine is decides that, not the restart
        report.notes.append(
            f"a long-lived flow sent nothing for {report.longest_pause:.2f} s: "
            "the machine was too busy for its packets"
        )


def _evaluate_flows(report: HostReport, flows: Sequence[Flow], switch: Switch) -> None:
    before = [flow for flow in flows if flow.first_sent < switch.called]
    old = old_instance(flows, switch)
    first_new = min(
        (run.first for flow in flows for run in flow.runs if run.instance != old), default=None
    )
    end = switched_by(switch, first_new)
    after = [flow for flow in flows if flow.first_sent >= end]
    new = commonest_instance(after)
    if old is None or old == new:
        # Without two instances nothing can be told right from wrong.
        report.problems.append("no answers before the switch" if old is None else "no new instance")
        return
    for flow in before:
        report.old.add(stayed(flow, old))
        if flow.kind == LONG and flow.runs and flow.runs[-1].last > end:
            report.carried += 1
    for flow in after:
        report.new.add(stayed(flow, new))
    for flow in flows:
        if switch.called <= flow.first_sent < end:
            report.during.add(stayed(flow, old) or stayed(flow, new))
    if first_new is not None:
        report.seconds = first_new - switch.called
    for count, what in (
        (report.old.another, "old flows moved"),
        (report.during.another, "flows begun during the switch moved"),
        (report.new.another, "new flows misdirected"),
    ):
        if count:
            report.problems.append(f"{count} {what}")
    for count, what in (
        (report.carried, "no long-lived flow was there before and after the switch"),
        (report.new.right, "no new flow after the switch"),
    ):
        if not count:
            report.problems.append(what)


def _evaluate_stop(report: HostReport, flows: Sequence[Flow], unit: StoppedUnit | None) -> None:
    if unit is None:
        return  # reported already: no answers before the switch
    if unit.stopped is None:
        report.problems.append(f"{unit.name} was not stopped well: {unit.state}")
        return
    # Flows that began after the stop: every answer to them came after it.
    report.answered_after_stop = sum(
        flow.answered for flow in flows if flow.first_sent > unit.stopped
    )
    if not report.answered_after_stop:
        report.problems.append(f"no traffic after {unit.name} was stopped")
