# SPDX-License-Identifier: Apache-2.0
"""udpgrm flows."""

from __future__ import annotations

from typing import Any

from udpgrm.cli import common
from udpgrm.cli.options import Arguments
from udpgrm.state.view import FlowView, GroupView, Viewer


def run(arguments: Arguments) -> int:
    """Print the flow entries of each socket."""
    only = common.optional_filter(arguments)
    groups = Viewer(common.open_state(arguments)).groups(only)
    if arguments.flag("--json"):
        common.print_json(
            {"groups": [{"address": group.address, "flows": _flows(group)} for group in groups]}
        )
        return 0
    for group in groups:
        print(text(group, arguments.flag("--verbose")), end="")
    return 0


def text(group: GroupView, verbose: bool) -> str:
    """Return the lines that the reference prints of a group's flows."""
    # entries of dissectors without a flow table name no owner
    by_entry = {
        socket.array_entry: socket.so_cookie
        for generation in group.generations
        for socket in generation.sockets
    }
    by_socket: dict[int, list[FlowView]] = {}
    for flow in group.flows:
        if not flow.expired or verbose:
            cookie = flow.so_cookie or by_entry.get(flow.array_entry, 0)
            by_socket.setdefault(cookie, []).append(flow)
    lines = [group.address]
    for cookie, flows in sorted(by_socket.items()):
        lines.append(f"\tso_cookie {cookie:#x}")
        for flow in sorted(flows, key=lambda item: item.age):
            stale = "(stale)" if flow.expired else ""
            lines.append(f"\t\t{flow.hash:08x}  age {flow.age:.1f}s {stale}")
    return "\n".join(lines) + "\n"


def _flows(group: GroupView) -> list[dict[str, Any]]:
    owners = {
        socket.so_cookie: (generation.generation, socket.index)
        for generation in group.generations
        for socket in generation.sockets
        if socket.alive
    }
    return [
        {
            "remote": flow.remote,
            "key": flow.key,
            "generation": owners.get(flow.so_cookie, (None, None))[0],
            "index": owners.get(flow.so_cookie, (None, None))[1],
            "socket_cookie": flow.so_cookie,
            "age": flow.age,
            "expired": flow.expired,
        }
        for flow in group.flows
    ]
