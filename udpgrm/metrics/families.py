# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""The exported families: docs/metrics.md is the page for operators.

Names and labels follow prometheus.io/docs/practices/naming: within a family
with a reason or a path every packet counts at most once, so that sums mean
something. Counters are never subtracted from one another here: the difference of
two that are read a moment apart could decrease, which is a reset to
Prometheus.
"""

from __future__ import annotations

from collections import Counter
from typing import Optional

from udpgrm.metrics.exposition import Family
from udpgrm.metrics.process import ProcessHealth
from udpgrm.state.view import GenerationView, GroupView

#: Family without prefix -> help, and (name in abi.COUNTERS, further labels) of its series.
_GROUP_COUNTERS: dict[str, tuple[str, list[tuple[str, dict[str, str]]]]] = {
    "received_packets_total": (
        "Packets that reached the group's steering program.",
        [("rx_processed_total", {})],
    ),
    "dispatched_packets_total": (
        "Packets given to a socket: that of their flow (existing), or one of the working "
        "generation (new).",
        [
            ("rx_flow_ok", {"path": "existing"}),
            ("rx_new_flow_working_gen_dispatch_ok", {"path": "new"}),
        ],
    ),
    "dispatch_errors_total": (
        "Packets that udpgrm had no socket for, so the kernel spread them over all of the group.",
        [
            ("rx_packet_too_short_error", {"reason": "too_short"}),
            ("rx_cbpf_prog_error", {"reason": "filter"}),
            ("rx_internal_state_error", {"reason": "internal_state"}),
            ("rx_new_flow_working_gen_dispatch_error", {"reason": "no_working_socket"}),
        ],
    ),
    "flow_misses_total": (
        "Packets that became new flows, by what was found of their flow.",
        [
            ("rx_flow_new_unseen", {"reason": "unseen"}),
            ("rx_flow_other_error", {"reason": "socket_closed"}),
            ("rx_flow_rg_conflict", {"reason": "other_group"}),
        ],
    ),
    "expired_flow_packets_total": (
        "Of the unseen: packets whose flow was known once and had expired.",
        [("rx_flow_new_had_expired", {})],
    ),
    "bad_cookie_packets_total": (
        "Of the unseen: packets that carry a cookie with a wrong checksum.",
        [("rx_flow_new_bad_cookie", {})],
    ),
    "flow_sends_total": (
        "Sends in a group with a flow table; flows that were assured count as well.",
        [("tx_total", {})],
    ),
    "flows_created_total": (
        "Flow entries made by sends.",
        [("tx_flow_create_ok", {})],
    ),
    "flows_recreated_total": (
        "Of those created: they replaced an expired entry.",
        [("tx_flow_create_from_expired_ok", {})],
    ),
    "flow_refreshes_total": (
        "Sends that refreshed the flow entry of their socket.",
        [("tx_flow_update_ok", {})],
    ),
    "flow_errors_total": (
        "Sends whose flow was not noted: no entry could be made, or another socket has it.",
        [
            ("tx_flow_create_error", {"reason": "create"}),
            ("tx_flow_update_conflict", {"reason": "conflict"}),
        ],
    ),
    "management_errors_total": (
        "Programs that could not be loaded, and changes of the working generation not handed on.",
        [("socket_critical", {})],
    ),
}


def of_build(version: str) -> list[Family]:
    """Return the version of this command."""
    family = Family("udpgrm_build_info", "gauge", "Version of the udpgrm command that exports.")
    family.add({"version": version}, 1)
    return [family]


def of_daemon(running: bool, health: Optional[ProcessHealth]) -> list[Family]:
    """Return the daemon's health; without `health` only whether it runs."""
    up = Family("udpgrm_daemon_up", "gauge", "Whether the daemon runs; packets do not need it.")
    up.add({}, int(running))
    if health is None:
        return [up]
    families = [up]
    for name, kind, text, value in (
        ("start_time_seconds", "gauge", "Start of the daemon, since the epoch.", health.start_time),
        ("cpu_seconds_total", "counter", "CPU time of the daemon.", health.cpu_seconds),
        (
            "resident_memory_bytes",
            "gauge",
            "Resident memory of the daemon, maps not included.",
            health.resident_bytes,
        ),
        ("open_fds", "gauge", "Open descriptors of the daemon.", health.open_descriptors),
    ):
        family = Family(f"udpgrm_daemon_{name}", kind, text)
        family.add({}, value)
        families.append(family)
    return families


def of_groups(groups: list[GroupView], limit: int, now: float) -> list[Family]:
    """Return groups and generations; `now`: when they were read, in seconds since the epoch."""
    count = Family("udpgrm_groups", "gauge", "Groups there are.")
    count.add({}, len(groups))
    most = Family("udpgrm_groups_limit", "gauge", "Groups there can be.")
    most.add({}, limit)
    named = _group_labels(groups)
    families = [count, most, *_about_groups(named)]
    for name, (text, series) in _GROUP_COUNTERS.items():
        family = Family(f"udpgrm_{name}", "counter", text)
        for labels, group in named:
            for metric, further in series:
                family.add({**labels, **further}, group.metrics[metric])
        families.append(family)
    return families + _about_generations(named, now)


def _group_labels(groups: list[GroupView]) -> list[tuple[dict[str, str], GroupView]]:
    """Return the labels of each group, with its id if the others are ambiguous.

    They are for groups of an IPv4 socket and of an IPv6 one at the mapped address.
    """
    named = [
        (
            {
                "address": group.address,
                "netns": str(group.netns),
                "ifindex": str(group.ifindex),
            },
            group,
        )
        for group in groups
    ]
    times = Counter(tuple(labels.values()) for labels, _ in named)
    for labels, group in named:
        if times[tuple(labels.values())] > 1:
            labels["group"] = str(group.group_id)
    return named


def _about_groups(named: list[tuple[dict[str, str], GroupView]]) -> list[Family]:
    info = Family("udpgrm_group_info", "gauge", "Dissector and label of the group.")
    failed = Family(
        "udpgrm_management_failed",
        "gauge",
        "Whether the last program load or change of the working generation failed.",
    )
    working = Family(
        "udpgrm_working_generation", "gauge", "Generation that new flows of the application go to."
    )
    unknown = Family(
        "udpgrm_unknown_connected_sockets",
        "gauge",
        "Connected sockets at the group's address that are of no known generation.",
    )
    for labels, group in named:
        if group.connected_unknown is not None:
            unknown.add(labels, group.connected_unknown)
        info.add({**labels, "dissector": group.name, "label": group.label}, 1)
        failed.add(labels, group.metrics["socket_critical_gauge"])
        for application, generation in enumerate(group.working):
            working.add({**labels, "application": str(application)}, generation)
    return [info, failed, working, unknown]


def _about_generations(named: list[tuple[dict[str, str], GroupView]], now: float) -> list[Family]:
    working = Family(
        "udpgrm_generation_working", "gauge", "Whether new flows go to this generation."
    )
    sockets = Family("udpgrm_generation_sockets", "gauge", "Living sockets of the generation.")
    flows = Family(
        "udpgrm_generation_flows",
        "gauge",
        "Live flows of the generation; no series where they are not counted.",
    )
    connected = Family(
        "udpgrm_generation_connected_sockets",
        "gauge",
        "Sockets of the generation that are connected to a peer, a flow each.",
    )
    received = Family(
        "udpgrm_generation_received_packets_total", "counter", "Packets given to the generation."
    )
    sent = Family(
        "udpgrm_generation_sent_packets_total", "counter", "Packets sent by the generation."
    )
    last_received = Family(
        "udpgrm_generation_last_received_timestamp_seconds",
        "gauge",
        "When the generation was given its last packet, since the epoch; 0: never.",
    )
    last_sent = Family(
        "udpgrm_generation_last_sent_timestamp_seconds",
        "gauge",
        "When the generation sent its last packet, since the epoch; 0: never.",
    )
    for group_labels, group in named:
        for item in group.generations:
            labels = {**group_labels, **_generation_labels(item)}
            working.add(labels, int(item.working))
            sockets.add(labels, item.alive)
            if item.flows is not None:
                flows.add(labels, item.flows)
            if item.connected is not None:
                connected.add(labels, item.connected)
            received.add(labels, item.packets_in)
            sent.add(labels, item.packets_out)
            last_received.add(labels, _timestamp(now, item.last_in_age))
            last_sent.add(labels, _timestamp(now, item.last_out_age))
    return [working, sockets, flows, connected, received, sent, last_received, last_sent]


def _generation_labels(item: GenerationView) -> dict[str, str]:
    return {"application": str(item.application), "generation": str(item.generation)}


def _timestamp(now: float, age: Optional[float]) -> float:
    """Round a time to 0.1 s: ages are exact to some milliseconds, and would flicker."""
    return 0 if age is None else round(now - age, 1)
