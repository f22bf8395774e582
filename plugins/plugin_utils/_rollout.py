# Copyright the udpgrm authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this plugin util is **PRIVATE** to the collection. It can have breaking changes at any time.

"""The evaluation of a rollout: the state of each host, from its tasks' results, and the reasons to stop."""

from __future__ import annotations

import typing as t

from ansible_collections.udpgrm.fleet.plugins.module_utils._service import UNDO
from ansible_collections.udpgrm.fleet.plugins.plugin_utils import _figures
from ansible_collections.udpgrm.fleet.plugins.plugin_utils._figures import JsonObject

# The variables that the playbook registers.
BEGIN = "rollout_begin"
BATCH_HOOK = "rollout_batch_hook"
PLAN = "rollout_plan"
SWITCH = "rollout_switch"
INSPECT = "rollout_inspect"
CANARIES = "rollout_canaries"
DRAIN = "rollout_drain"
PROBE = "rollout_probe"
HOOK = "rollout_hook"
AFTER_BATCH_HOOK = "rollout_after_batch_hook"
FINISH = "rollout_finish"
_IN_TIME = (BEGIN, BATCH_HOOK, PLAN, SWITCH, INSPECT, HOOK, AFTER_BATCH_HOOK, FINISH)

# The kind of a rolling reboot. In results and reports it stands where a service does otherwise.
REBOOT = "reboot"

STATUSES = (
    "updated",
    "rebooted",
    "unchanged",
    "planned",
    "rolled_back",
    "failed",
    "unreachable",
    "untouched",
)
BAD = ("rolled_back", "failed", "unreachable")


def newest_run(hostvars: JsonObject, names: t.Sequence[str]) -> str:
    """Return the name of the run that began last; empty: there was none.

    Results of an earlier run of the same ansible-playbook are still there.
    """
    runs = [
        result["run"] for result in _results(hostvars, names, BEGIN, SWITCH) if result.get("run")
    ]
    return str(max(runs, key=lambda run: float(run["at"]))["id"]) if runs else ""


def _results(hostvars: JsonObject, names: t.Sequence[str], *keys: str) -> list[JsonObject]:
    """Return what tasks have registered. Ansible gathers a host's variables each time it is asked for them: once."""
    return [
        variables.get(key) or {} for variables in (hostvars[name] for name in names) for key in keys
    ]


def collect(
    hostvars: JsonObject,
    names: t.Sequence[str],
    services: t.Sequence[str],
    run: str,
    removed: t.Collection[str] = (),
) -> list[dict[str, t.Any]]:
    """Return an entry for each host and service, in their order, from the results of one run.

    C(removed): hosts that Ansible has taken out of the play, as it does where a task of a hook reaches no host.
    """
    steps: dict[str, list[JsonObject]] = {name: [] for name in names}
    for name in names:
        variables = hostvars[name]
        for variable in _IN_TIME:
            steps[name] += steps_of(variables.get(variable), run, services)
        begun, finish = is_of(variables.get(BEGIN), run), variables.get(FINISH) or {}
        if name in removed and begun and not is_of(finish, run) and is_well(finish):
            steps[name] += hook_steps(_LOST, services)
        for result in (variables.get(CANARIES) or {}).get("results", []):
            if result.get("item") in steps:
                steps[result["item"]] += steps_of(result, run, services)
    return [
        entry(name, service, [step["result"] for step in mine], [step["step"] for step in mine])
        for name in names
        for service in services
        for mine in [[step for step in steps[name] if step["service"] == service]]
    ]


def decisions(hostvars: JsonObject, names: t.Sequence[str], run: str) -> tuple[str, list[str]]:
    """Return why a run was stopped by something else than its hosts, empty if it was not, and the notes for its report."""
    found = [
        result["decision"]
        for result in _results(hostvars, names, BEGIN, SWITCH, INSPECT)
        if is_of(result, run) and "decision" in result
    ]
    notes = dict.fromkeys(note for decision in found for note in decision["notes"])
    stops = dict.fromkeys(decision["stop"] for decision in found if decision["stop"])
    return "; ".join(stops), list(notes)


def has_stopped(hostvars: JsonObject, names: t.Sequence[str], run: str) -> bool:
    """Return whether an earlier batch of a run was not begun."""
    return any(
        is_of(result, run) and result.get("decision", {}).get("reason")
        for result in _results(hostvars, names, BEGIN, SWITCH)
    )


_LOST = {"unreachable": True, "msg": "a task did not reach its host"}


def is_of(result: JsonObject | None, run: str) -> bool:
    """Return whether a task's result is of a run."""
    return bool(result) and (result or {}).get("run", {}).get("id") == run


def hook_steps(result: JsonObject, services: t.Sequence[str]) -> list[dict[str, t.Any]]:
    """Return the steps of a hook that has failed: it counts for each service of its host."""
    return [{"step": "hook", "service": service, "result": result} for service in services]


def is_well(result: JsonObject) -> bool:
    """Return whether a task has succeeded."""
    return not result.get("failed") and not result.get("unreachable")


def steps_of(
    result: JsonObject | None, run: str, services: t.Sequence[str]
) -> t.Sequence[JsonObject]:
    """Return the steps that a task's result has, if it is of the run."""
    if not result or result.get("skipped"):
        return []
    if "run" in result:
        return result["steps"] if result["run"]["id"] == run else []
    if not is_well(result):
        # the module failed before the task could return its run
        return [{"service": services[0], "step": "switch", "result": result}]
    return []


def entry(
    name: str, service: str, results: t.Sequence[JsonObject], steps: t.Sequence[str]
) -> dict[str, t.Any]:
    """Return the entry of a service on a host, from the results of its steps in the order of time."""
    switch = next((result for result, step in zip(results, steps) if step == "switch"), None)
    back = next((result for result, step in zip(results, steps) if step == "back"), None)
    inspections = [result for result, step in zip(results, steps) if step == "inspect"]
    # a host that cannot roll back any longer has not failed
    stays = back if back and back.get("failed") and not back.get("unreachable") else None
    considered = [result for result in results if result is not stays]
    journal = next((found for result in reversed(results) if (found := _journal(result))), None)
    measured = _figures.measured(results)
    status, problem = _status(switch, considered, journal)
    taken_over = ""
    if status == "updated":
        taken_over = _taken_over(switch or {}, considered)
        if taken_over:
            status, problem = "failed", taken_over
        elif stays:
            problem = f"not rolled back: {one_line(stays['msg'])}"
    all_well = all(map(is_well, considered))
    went_back = back is not None and stays is None and all_well and status == "rolled_back"
    if went_back:
        problem = "went back as the run was stopped"
    found = {
        "host": name,
        "service": service,
        "status": status,
        "problem": problem,
        "went_back": went_back,
        "from_generation": None if journal is None else journal["from_generation"],
        "to_generation": None if journal is None else journal["to_generation"],
        "drains": status in ("updated", *BAD) and _is_running(journal) and not taken_over,
        "samples": [{"at": item["at"], "flows": item["flows"]} for item in measured],
        "shares": _figures.shares(measured, _figures.measured(inspections)),
        **_figures.figures(journal, measured),
        **(switch or {}).get("figures", {}),
    }
    if taken_over or status == "unreachable":
        # the losses of its clients are unknown: it may be without power
        found["flows_lost"] = None
    if status in ("unchanged", "planned", "untouched"):
        # a journal belongs to an earlier restart
        found.update(_figures.figures(None, []), steps=[], samples=[])
        states = [(switch or {}).get(key) or {} for key in ("before", "after")]
        found["from_generation"], found["to_generation"] = (s.get("generation") for s in states)
    return found


def _journal(result: JsonObject) -> JsonObject | None:
    services = result.get("services")
    return services[0]["restart"] if services else result.get("restart")


def continues(result: JsonObject) -> bool:
    """Return whether a module has seen a restart that continues."""
    return _is_running(_journal(result))


def _serves(result: JsonObject) -> JsonObject | None:
    services = result.get("services")
    return services[0].get("serves") if services else result.get("serves")


def _status(
    switch: JsonObject | None, results: list[JsonObject], journal: JsonObject | None
) -> tuple[str, str]:
    if switch is None and not results:
        return "untouched", ""
    lost = next((result for result in results if result.get("unreachable")), None)
    if lost is not None:
        was_begun = switch is not None and (lost is not switch or journal is not None)
        when = "after the switch: " if was_begun else ""
        return "unreachable", when + cause(lost)
    failed = next((result for result in results if result.get("failed")), None)
    if switch is None:
        return "failed", cause(failed or {})
    if switch.get("plan"):
        # the journal, if there is one, is of an earlier restart
        return "planned", ""
    # begun, or waited for
    restarted = bool(switch.get("measured"))
    if journal is not None and (failed or restarted):
        if journal["outcome"] == "failed":  # also in a rollback: only the new instance may be left
            return "failed", _reason(journal)
        if journal["outcome"] == "rolled_back" or journal["step"] in UNDO:
            return "rolled_back", _reason(journal)
    if failed is not None:
        return "failed", cause(failed)
    if switch.get("rebooted"):
        return "rebooted", ""
    return ("updated" if restarted else "unchanged"), ""


def _taken_over(switch: JsonObject, results: list[JsonObject]) -> str:
    """Return what later readings found active instead of the restart's new instance; empty: that is active."""
    first = _serves(switch)
    expected = (switch.get("restart") or {}).get("to_generation")
    for result in results:
        seen = _serves(result)
        if seen is None or first is None or result is switch:
            continue
        if seen["boot_id"] != first["boot_id"]:
            return f"the host was booted after the switch, and {_working(seen)}"
        if seen["generations"] != [expected]:
            return f"{_working(seen)}, not {expected}, which the restart has switched to"
        if seen["release"] is None:
            return (
                "after the switch another restart was begun, or the record of the release is gone"
            )
    return ""


def _working(seen: JsonObject) -> str:
    found = [str(generation) for generation in seen["generations"]]
    return (
        f"generation {' and '.join(found)} {'is' if len(found) == 1 else 'are'} active"
        if found
        else "no instance is active"
    )


def _reason(journal: JsonObject) -> str:
    for step in journal["steps"]:
        if step["reason"]:
            return f"{step['step']}: {one_line(step['reason'])}"
    return str(journal["state"])


def cause(result: JsonObject) -> str:
    """Return why a task failed, with the last line of its module's output if that gave no answer."""
    default = "unreachable" if result.get("unreachable") else "failed"
    found = one_line(result.get("msg") or default)
    for stream in ("module_stderr", "module_stdout"):
        lines = [line for line in str(result.get(stream) or "").splitlines() if line.strip()]
        if lines and one_line(lines[-1]) not in found:
            return f"{found}: {one_line(lines[-1])}"
    return found


def one_line(text: t.Any) -> str:
    """Return a text on one line."""
    return " ".join(str(text).split())


def _is_running(journal: JsonObject | None) -> bool:
    return journal is not None and journal["outcome"] is None


def is_worse(entry: JsonObject, tolerance: float) -> bool:
    """Return whether a switched host loses or misdirects more than before, by more than the tolerance."""
    shares = entry["shares"]
    return shares is not None and shares["after"] > shares["before"] + tolerance


def reason_to_stop(entries: t.Sequence[JsonObject], max_failures: int, tolerance: float) -> str:
    """Return why no further batch may begin; empty if one may."""
    bad = [entry for entry in entries if entry["status"] in BAD and not entry["went_back"]]
    hosts = {entry["host"] for entry in bad}
    if len(hosts) > max_failures:
        shown = "; ".join(
            f"{label(entry, entries)} {entry['status'].replace('_', ' ')} ({entry['problem']})"
            for entry in bad
        )
        return f"{len(hosts)} failed, at most {max_failures} may (udpgrm_max_failures): {shown}"
    worse = [entry for entry in entries if is_worse(entry, tolerance)]
    return "; ".join(
        f"{label(entry, entries)}: {entry['shares']['after']:.2%} of packets are dropped or "
        f"misdirected, {entry['shares']['before']:.2%} were before"
        for entry in worse
    )


def label(entry: JsonObject, entries: t.Sequence[JsonObject]) -> str:
    """Return the label of an entry: its host, and if there are several, its service."""
    name = str(entry["host"])
    return f"{name} {entry['service']}" if len({e["service"] for e in entries}) > 1 else name


def verdicts(entries: t.Sequence[JsonObject], tolerance: float) -> dict[str, str]:
    """Return the hosts that make the run fail, and why."""
    found: dict[str, list[str]] = {}
    for item in entries:
        why = _verdict(item, tolerance)
        if why:
            named = len({e["service"] for e in entries}) > 1
            found.setdefault(item["host"], []).append(f"{item['service']}: {why}" if named else why)
    return {host: "; ".join(why) for host, why in found.items()}


def _verdict(entry: JsonObject, tolerance: float) -> str:
    if entry["status"] in BAD:
        return f"{entry['status'].replace('_', ' ')}: {entry['problem']}"
    return reason_to_stop([entry], 0, tolerance)


def counts(entries: t.Sequence[JsonObject]) -> dict[str, int]:
    """Return the number of entries by status, for all statuses."""
    return {status: sum(entry["status"] == status for entry in entries) for status in STATUSES}
