# Copyright the udpgrm authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this plugin util is **PRIVATE** to the collection. It can have breaking changes at any time.

"""What became of the hosts of a rollout, from what their tasks have returned; and when to stop it."""

from __future__ import annotations

import typing as t

JsonObject = t.Mapping[str, t.Any]

# The variables that the playbook registers, in the order of time.
SWITCH = "udpgrm_rollout_switch"
LOOK = "udpgrm_rollout_look"
CANARIES = "udpgrm_rollout_canaries"
BACK = "udpgrm_rollout_back"
JOIN = "udpgrm_rollout_join"

STATUSES = (
    "updated",
    "unchanged",
    "planned",
    "rolled_back",
    "failed",
    "unreachable",
    "untouched",
)
_BAD = ("rolled_back", "failed", "unreachable")
_UNDO = ("demote", "drain_new", "stop_new")


def collect(hostvars: JsonObject, names: t.Sequence[str]) -> list[dict[str, t.Any]]:
    """Return an entry for each host, in their order."""
    again: dict[str, list[JsonObject]] = {}
    for name in names:
        for result in (hostvars[name].get(CANARIES) or {}).get("results", []):
            again.setdefault(result["item"], []).append(result)
    return [_entry(name, hostvars[name], again.get(name, [])) for name in names]


def _entry(name: str, variables: JsonObject, looked_again: list[JsonObject]) -> dict[str, t.Any]:
    switch = _done(variables.get(SWITCH))
    looks = [result for result in (_done(variables.get(LOOK)), *map(_done, looked_again)) if result]
    back, join = _done(variables.get(BACK)), _done(variables.get(JOIN))
    results = [result for result in (switch, *looks, back, join) if result]
    journal = next((found for result in reversed(results) if (found := _journal(result))), None)
    measured = _measured(results)
    # one that cannot go back any more is well all the same
    stays = back if back and back.get("failed") and not back.get("unreachable") else None
    status, problem = _status(switch, [item for item in results if item is not stays], journal)
    if stays and status == "updated":
        problem = f"stays: {_words(stays['msg'])}"
    is_well = not any(item.get("failed") or item.get("unreachable") for item in results)
    went_back = back is not None and is_well and status == "rolled_back"
    if went_back:
        problem = "went back as the run was stopped"
    entry = {
        "host": name,
        "status": status,
        "problem": problem,
        "went_back": went_back,
        "from_generation": None if journal is None else journal["from_generation"],
        "to_generation": None if journal is None else journal["to_generation"],
        "drains": status in ("updated", *_BAD) and _goes_on(journal),
        "samples": [{"at": item["at"], "flows": item["flows"]} for item in measured],
        "shares": _shares(measured, _measured(looks)),
        **_figures(journal, measured),
    }
    if status in ("unchanged", "planned", "untouched"):
        # what there is of a journal belongs to an earlier restart
        entry.update(_figures(None, []), steps=[], samples=[])
        states = [(switch or {}).get(key) or {} for key in ("before", "after")]
        entry["from_generation"], entry["to_generation"] = (s.get("generation") for s in states)
    return entry


def _done(result: JsonObject | None) -> JsonObject | None:
    """A task's result, unless it was skipped."""
    return None if not result or result.get("skipped") else result


def _journal(result: JsonObject) -> JsonObject | None:
    services = result.get("services")
    return services[0]["restart"] if services else result.get("restart")


def _measured(results: list[JsonObject]) -> list[JsonObject]:
    found = {}
    for result in results:
        services = result.get("services")
        for item in [services[0]["measured"]] if services else result.get("measured", []):
            found[item["at"]] = item
    return [found[at] for at in sorted(found)]


def _status(
    switch: JsonObject | None, results: list[JsonObject], journal: JsonObject | None
) -> tuple[str, str]:
    if switch is None:
        return "untouched", ""
    lost = next((result for result in results if result.get("unreachable")), None)
    if lost is not None:
        when = "" if lost is switch else "after the switch: "
        return "unreachable", when + _words(lost.get("msg", "unreachable"))
    failed = next((result for result in results if result.get("failed")), None)
    if switch.get("plan"):
        # the journal, if there is one, is of an earlier restart
        return "planned", ""
    # begun, or waited for
    restarted = bool(switch.get("measured"))
    if journal is not None and (failed or restarted):
        if journal["outcome"] == "rolled_back" or journal["step"] in _UNDO:
            return "rolled_back", _reason(journal)
        if journal["outcome"] == "failed":
            return "failed", _reason(journal)
    if failed is not None:
        return "failed", _words(failed.get("msg", "failed"))
    return ("updated" if restarted else "unchanged"), ""


def _reason(journal: JsonObject) -> str:
    for step in journal["steps"]:
        if step["reason"]:
            return f"{step['step']}: {_words(step['reason'])}"
    return str(journal["state"])


def _words(text: t.Any) -> str:
    return " ".join(str(text).split())


def _goes_on(journal: JsonObject | None) -> bool:
    return journal is not None and journal["outcome"] is None


def _figures(journal: JsonObject | None, measured: list[JsonObject]) -> dict[str, t.Any]:
    """What the table shows. Flows are lost when their instance was stopped while it had them."""
    steps = [] if journal is None else journal["steps"]
    drain: JsonObject = next((item for item in reversed(steps) if item["step"] == "drain"), {})
    # after a rollback it is the new instance that was stopped
    last: JsonObject = next((i for i in reversed(steps) if i["step"] in ("drain", "drain_new")), {})
    lost = _lost(last)
    carried = drain.get("evidence", {}).get("drain", {}).get("flows_most")
    return {
        "steps": [
            {key: step[key] for key in ("step", "started", "ended", "result", "reason")}
            for step in steps
        ],
        "switch_s": None if journal is None else journal["promotion_window_s"],
        "drain_s": drain["ended"] - drain["started"] if drain.get("ended") else None,
        "flows_carried": None if carried is None else max(0, carried - (_left(drain) or 0)),
        "flows_lost": lost,
        "moved": _moved(measured) if measured else None,
        "dropped": measured[-1]["dropped"] if measured else None,
    }


def _moved(measured: list[JsonObject]) -> int:
    """Answers on flows of others since the first look; a group that is made anew counts from zero."""
    return sum(
        max(0, later["moved"] - earlier["moved"]) for earlier, later in zip(measured, measured[1:])
    )


def _lost(drain: JsonObject) -> int | None:
    """Flows that were cut off by the end of a drain; None: nobody knows, or not yet."""
    if not drain.get("result"):
        return None
    return _left(drain) if drain["result"] == "done" else 0


def _left(drain: JsonObject) -> int | None:
    """Flows that were left when a drain's time was over; None: nobody knows."""
    evidence = drain["evidence"]
    if evidence.get("drained", True):
        return 0
    flows: int | None = evidence.get("drain", {}).get("flows")
    return flows


def _shares(measured: list[JsonObject], looks: list[JsonObject]) -> dict[str, float] | None:
    """Share of packets that went wrong, before the restart and since the end of its first task.

    After it, the worst that a look or the end has shown: what has stopped a rollout stays true.
    """
    if len(measured) < 3:
        return None
    first, base = measured[:2]
    return {
        "before": (first["errors"] + first["moved"]) / max(1, first["processed"]),
        "after": max(_wrong(base, later) for later in (*looks, measured[-1])),
    }


def _wrong(base: JsonObject, later: JsonObject) -> float:
    """Share of packets that went wrong between two moments."""
    wrong: int = sum(max(0, later[name] - base[name]) for name in ("errors", "moved", "dropped"))
    processed: int = later["processed"] - base["processed"]
    return wrong / max(1, wrong, processed)


def is_worse(entry: JsonObject, tolerance: float) -> bool:
    """Whether a switched host loses or misdirects more than before, by more than the tolerance."""
    shares = entry["shares"]
    return shares is not None and shares["after"] > shares["before"] + tolerance


def reason_to_stop(entries: t.Sequence[JsonObject], max_failures: int, tolerance: float) -> str:
    """Say why no further batch may begin; empty when one may."""
    bad = [entry for entry in entries if entry["status"] in _BAD and not entry["went_back"]]
    if len(bad) > max_failures:
        words = "; ".join(
            f"{entry['host']} {entry['status'].replace('_', ' ')} ({entry['problem']})"
            for entry in bad
        )
        return f"{len(bad)} failed, at most {max_failures} may (udpgrm_max_failures): {words}"
    worse = [entry for entry in entries if is_worse(entry, tolerance)]
    return "; ".join(
        f"{entry['host']}: {entry['shares']['after']:.2%} of packets are dropped or misdirected, "
        f"{entry['shares']['before']:.2%} were before"
        for entry in worse
    )


def verdicts(entries: t.Sequence[JsonObject], tolerance: float) -> dict[str, str]:
    """Return the hosts that make the run a failed one, and why they do."""
    words = {entry["host"]: _verdict(entry, tolerance) for entry in entries}
    return {host: why for host, why in words.items() if why}


def _verdict(entry: JsonObject, tolerance: float) -> str:
    if entry["status"] in _BAD:
        return f"{entry['status'].replace('_', ' ')}: {entry['problem']}"
    return reason_to_stop([entry], 0, tolerance)


def counts(entries: t.Sequence[JsonObject]) -> dict[str, int]:
    """Number of hosts by status, all of them."""
    return {status: sum(entry["status"] == status for entry in entries) for status in STATUSES}
