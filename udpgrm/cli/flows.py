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
    verbose = arguments.flag("--verbose")
    for group in groups:
        print(group.address)
        by_socket: dict[int, list[FlowView]] = {}
        for flow in group.flows:
            if not flow.expired or verbose:
                by_socket.setdefault(flow.so_cookie, []).append(flow)
        for cookie, flows in sorted(by_socket.items()):
            print(f"\tso_cookie {cookie:#x}")
            for flow in sorted(flows, key=lambda item: item.age):
                remote = f"  {flow.remote}" if verbose else ""
                print(f"\t\t0x{flow.hash:08x}  age {flow.age:.1f}s{remote}")
    return 0


def _flows(group: GroupView) -> list[dict[str, Any]]:
    places = {
        socket.so_cookie: (generation.generation, socket.index)
        for generation in group.generations
        for socket in generation.sockets
        if socket.alive
    }
    return [
        {
            "remote": flow.remote,
            "generation": places.get(flow.so_cookie, (None, None))[0],
            "index": places.get(flow.so_cookie, (None, None))[1],
            "socket_cookie": flow.so_cookie,
            "age": flow.age,
            "expired": flow.expired,
        }
        for flow in group.flows
    ]
