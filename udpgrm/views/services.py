# SPDX-License-Identifier: Apache-2.0
"""The document of a service with its instances: definition, kernel state, last restart."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from enum import Enum
from typing import Any, Optional

from udpgrm.restart import former, release
from udpgrm.restart.journal import Journal
from udpgrm.restart.machine import Step
from udpgrm.restart.strays import Stray
from udpgrm.services.definition import Drain, Group, Service
from udpgrm.state import address
from udpgrm.state.view import GenerationView, GroupView
from udpgrm.views.history import state_of

Document = dict[str, Any]


class State(str, Enum):
    """The state of a service while no step of a restart runs."""

    SETTLED = "settled"
    INTERRUPTED = "interrupted"
    FAILED = "failed"


#: Keys of a journal that a view has; the rest is for a resume.
_RESTART = (
    "started",
    "state",
    "step",
    "outcome",
    "from_generation",
    "to_generation",
    "from_release",
    "release",
    "promotion_window_s",
    "progress",
    "steps",
)
#: Keys of a superseded restart's journal, whose drain continues or has failed.
_DRAINING = ("started", "step", "outcome", "from_generation", "to_generation", "progress")


def service(
    definition: Service,
    journal: Optional[Journal],
    running: bool,
    views: Sequence[GroupView],
    earlier: Sequence[Journal] = (),
    strays: Sequence[Stray] = (),
) -> Document:
    """Return one service. running: a process restarts it now. earlier: superseded restarts.

    strays: sockets at its addresses that are in no generation.
    """
    restart = None
    if journal is not None:
        whole = journal.to_json()
        restart = {**{key: whole[key] for key in _RESTART}, "running": running}
    groups = [
        {**_group(definition, item, journal, view), "unsteered": _unsteered(item, strays)}
        for item in definition.groups
        for view in _at(item, views)
    ]
    restarts = [item.to_json() for item in (journal, *earlier) if item and not item.stale]
    working = {group["working_generation"] for group in groups}
    return {
        "name": definition.name,
        "state": _state(restart),
        "release": release.serving(restarts, working),
        "adopted": former.predecessor(definition.name),
        "drain": _drain(definition.drain),
        "restart": restart,
        "draining": [
            {key: whole[key] for key in _DRAINING}
            for whole in (item.to_json() for item in earlier)
            if release.is_unfinished(whole)
        ],
        "groups": groups,
    }


def _drain(policy: Drain) -> Document:
    """Return the part of a policy that holds for any drain."""
    return {
        "until": {"flows": policy.until.flows, "quiet_s": policy.until.quiet_s},
        "max_s": policy.max_s,
        "on_timeout": policy.on_timeout,
    }


def _state(restart: Optional[Document]) -> str:
    if restart is None or restart["outcome"] in ("finished", "rolled_back"):
        return State.SETTLED.value
    if restart["outcome"] is None and restart["running"]:
        return str(restart["step"])
    state = State.FAILED if restart["outcome"] else State.INTERRUPTED
    return state.value


def _at(group: Group, views: Iterable[GroupView]) -> list[Optional[GroupView]]:
    where = address.read(group.address)
    return [view for view in views if where.selects(view.address, view.ifindex)] or [None]


def _group(
    definition: Service, group: Group, journal: Optional[Journal], view: Optional[GroupView]
) -> Document:
    head = {"address": group.address, "application": group.application}
    if view is None or group.application >= len(view.working):
        return {
            **head,
            "dissector": None,
            "working_generation": None,
            "connected_unknown": None,
            "metrics": None,
            "crossed": None,
            "generations": [],
        }
    return {
        **head,
        "dissector": view.name,
        "working_generation": view.working[group.application],
        "connected_unknown": view.connected_unknown,
        "metrics": view.metrics,
        "crossed": view.crossed,
        "generations": [
            {
                **generation(view, item),
                "instance": former.unit_of(definition, item.generation),
                "expected_sockets": group.sockets,
                "working_for_s": _working_for(journal, item),
            }
            for item in view.generations
            if item.application == group.application
        ],
    }


def _unsteered(group: Group, strays: Iterable[Stray]) -> list[Document]:
    return [
        {"pid": stray.pid, "unit": stray.unit or None, "socket_cookie": stray.socket_cookie}
        for stray in strays
        if stray.address == group.address
    ]


def generation(view: GroupView, item: GenerationView) -> Document:
    """Return one generation of a group."""
    return {
        "generation": item.generation,
        "state": state_of(view, item).value,
        "sockets": item.alive,
        "flows": item.flows,
        "connected": item.connected,
        "packets_in": item.packets_in,
        "packets_out": item.packets_out,
        "quiet_s": item.quiet_s,
    }


def _working_for(journal: Optional[Journal], item: GenerationView) -> Optional[float]:
    """Return the seconds since the last restart promoted a generation, if it did."""
    if journal is None or not item.working or journal.to_generation != item.generation:
        return None
    promotion = journal.last(Step.PROMOTE)
    if promotion is None or promotion.ended is None:
        return None
    return max(0.0, time.time() - promotion.ended)


def text(document: Document) -> str:
    """Return a service for people."""
    is_named = document["release"] and not document["release"].startswith(release.FINGERPRINT)
    serves = f", release {document['release']}" if is_named else ""
    lines = [f"{document['name']}  {_restart_text(document)}{serves}"]
    for group in document["groups"]:
        kind = group["dissector"] or "no group yet"
        application = f" app {group['application']}" if group["application"] else ""
        lines.append(f"  {group['address']}{application}  {kind}")
        lines += [f"    {_generation_text(item)}" for item in group["generations"]]
        if group["connected_unknown"]:
            lines.append(
                f"    {group['connected_unknown']} connected sockets of no known generation: "
                "no drain waits for them (udpgrm doctor)"
            )
        lines += [
            f"    unsteered: pid {item['pid']} of {item['unit'] or 'no unit'}"
            for item in group["unsteered"]
        ]
    return "\n".join(lines) + "\n"


def way_text(restart: Document) -> str:
    """Return from which generation a restart goes to which; of a first deployment, from none."""
    old = restart["from_generation"]
    return f"{'none' if old is None else old} -> {restart['to_generation']}"


def _restart_text(document: Document) -> str:
    restart = document["restart"]
    if restart is None:
        return "never restarted"
    way = way_text(restart)
    if document["state"] == State.SETTLED:
        window = restart["promotion_window_s"]
        switched = "" if window is None else f", switched in {window * 1000:.0f} ms"
        return f"{restart['outcome'].replace('_', ' ')} {way}{switched}"
    if restart["running"]:
        return f"{restart['step']} {way}"
    return f"{document['state']} in {restart['step']} {way}"


def _flow_text(item: Document) -> str:
    """Return the count of flows, and how many of them are connected sockets."""
    flows = "flows not counted" if item["flows"] is None else f"{item['flows']} flows"
    return f"{flows} ({item['connected']} connected)" if item["connected"] else flows


def _generation_text(item: Document) -> str:
    parts = [
        f"gen {item['generation']}",
        item["state"],
        item["instance"],
        f"{item['sockets']}/{item['expected_sockets']} sockets",
        _flow_text(item),
        f"in {item['packets_in']}",
        f"out {item['packets_out']}",
    ]
    if item["quiet_s"] is not None:
        parts.append(f"quiet {item['quiet_s']:.1f} s")
    if item["working_for_s"] is not None:
        parts.append(f"for {item['working_for_s']:.0f} s")
    return "  ".join(parts)
