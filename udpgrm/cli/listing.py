# SPDX-License-Identifier: Apache-2.0
"""udpgrm list."""

from __future__ import annotations

from typing import Any, Optional

from udpgrm.cli import common
from udpgrm.cli.options import Arguments
from udpgrm.daemon import hooks
from udpgrm.state import old
from udpgrm.state.view import GenerationView, GroupView, Viewer
from udpgrm.version import __version__


def run(arguments: Arguments) -> int:
    """Print the groups."""
    only = common.optional_filter(arguments)
    if arguments.flag("--json"):
        common.print_json(document(arguments, only))
        return 0
    maps = common.open_state(arguments)
    verbose = arguments.flag("--verbose")
    for group in Viewer(maps).groups(only):
        print(text(group, verbose), end="")
    for group in old.groups(common.pin_dir(arguments), maps, only):
        print(text(group, verbose, " (old)"), end="")
    return 0


def document(arguments: Arguments, only: Optional[str]) -> dict[str, Any]:
    """The JSON view; without any state it has no groups."""
    directory = common.pin_dir(arguments)
    head = {"version": __version__, "pin_dir": str(directory)}
    maps = common.state_if_any(arguments)
    if maps is None:
        daemon = {"running": False, "pid": None}
        return {**head, "daemon": daemon, "cgroups": [], "groups": []}
    pid = common.daemon_pid(arguments, maps)
    return {
        **head,
        "daemon": {"running": pid is not None, "pid": pid},
        "cgroups": hooks.hooked_cgroups(directory),
        "groups": [_group(group) for group in Viewer(maps).groups(only)],
    }


def _group(group: GroupView) -> dict[str, Any]:
    return {
        "address": group.address,
        "ip": group.ip,
        "port": group.port,
        "netns_cookie": group.netns,
        "ifindex": group.ifindex,
        "dissector": {
            "type": group.dissector.name.lower(),
            "name": group.name,
            "flow_timeout": group.flow_timeout,
            "max_apps": group.max_apps,
            "verbose": group.verbose,
            "label": group.label,
        },
        "applications": [
            {"application": number, "working_generation": generation}
            for number, generation in enumerate(group.working)
        ],
        "generations": [_generation(item) for item in group.generations],
        "connected_unknown": group.connected_unknown,
        "metrics": group.metrics,
    }


def _generation(item: GenerationView) -> dict[str, Any]:
    return {
        "application": item.application,
        "generation": item.generation,
        "slot": item.slot,
        "working": item.working,
        "sockets": [
            {
                "index": socket.index,
                "cookie": f"0x{socket.cookie:04x}",
                "socket_cookie": socket.so_cookie,
                "alive": socket.alive,
            }
            for socket in item.sockets
        ],
        "sockets_alive": item.alive,
        "flows": item.flows,
        "connected": item.connected,
        "packets_in": item.packets_in,
        "packets_out": item.packets_out,
        "last_in_age": item.last_in_age,
        "last_out_age": item.last_out_age,
    }


def text(group: GroupView, verbose: bool, mark: str = "") -> str:
    """The reference's view."""
    lines = [group.address + mark]
    about = f"\tnetns {group.netns:#x}  dissector {group.name}"
    if group.parameters:
        about += f" {group.parameters}"
    if group.flow_timeout:
        about += f"  flow timeout {group.flow_timeout} s"
    if group.ifindex:
        about += f"  ifindex {group.ifindex}"
    lines.append(about)
    lines.append("\tsocket generations:")
    shown = {item.application for item in group.generations if item.working}
    for item in group.generations:
        lines.append("\t\t" + _sockets(item, verbose) + (_working(item) if item.working else ""))
    for application, generation in enumerate(group.working):
        if application not in shown:
            lines.append(f"\t\tgen {generation}   <=  app {application}  gen {generation}")
    lines.append("\tmetrics:")
    lines += [f"\t\t{name} {value}" for name, value in group.metrics.items() if value or verbose]
    return "\n".join(lines) + "\n"


def _sockets(item: GenerationView, verbose: bool) -> str:
    words = []
    for socket in item.sockets:
        if not socket.alive:
            words.append("dead")
        elif verbose:
            words.append(f"{socket.index}:0x{socket.cookie:04x}")
        else:
            words.append(f"0x{socket.cookie:04x}")
    return f"gen {item.generation}  {' '.join(words)}"


def _working(item: GenerationView) -> str:
    return f"  <=  app {item.application}  gen {item.generation}"
