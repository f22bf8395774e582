# SPDX-License-Identifier: Apache-2.0
"""udpgrm list."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from udpgrm import abi
from udpgrm.cli import common
from udpgrm.cli.options import Arguments
from udpgrm.dissectors import kinds
from udpgrm.state import orphans
from udpgrm.state.maps import Maps
from udpgrm.state.view import GenerationView, GroupView, SocketView, Viewer
from udpgrm.version import __version__


def run(arguments: Arguments) -> int:
    """Print the groups."""
    wanted = common.filters(arguments)
    if arguments.flag("--json"):
        common.print_json(document(arguments, wanted))
        return 0
    common.want_operands(arguments, 0, 1)  # as the reference
    maps = common.open_state(arguments)
    verbose = arguments.flag("--verbose")
    for group in _groups(maps, wanted):
        print(text(group, verbose), end="")
    only = wanted[0] if wanted else None
    for group in orphans.groups(common.pin_dir(arguments), maps, only):
        print(text(group, verbose, is_orphan=True), end="")
    return 0


def _groups(maps: Maps, wanted: list[str]) -> list[GroupView]:
    """Return the groups at some addresses, each once, or all."""
    viewer = Viewer(maps)
    if not wanted:
        return viewer.groups()
    found = {group.group_id: group for where in wanted for group in viewer.groups(where)}
    return sorted(found.values(), key=lambda group: (group.address, group.netns, group.ifindex))


def document(arguments: Arguments, wanted: list[str]) -> dict[str, Any]:
    """Return the JSON answer; without any state it has no groups."""
    from udpgrm.loader import hooks  # with all that builds programs

    directory = common.pin_dir(arguments)
    head = {"version": __version__, "pin_dir": str(directory), "addresses": wanted}
    maps = common.state_if_any(arguments)
    if maps is None:
        daemon = {"running": False, "pid": None}
        return {**head, "daemon": daemon, "cgroups": [], "groups": []}
    pid = common.daemon_pid(arguments, maps)
    return {
        **head,
        "daemon": {"running": pid is not None, "pid": pid},
        "cgroups": hooks.hooked_cgroups(directory),
        "groups": [_group(group) for group in _groups(maps, wanted)],
    }


def _group(group: GroupView) -> dict[str, Any]:
    return {
        "address": group.address,
        "ip": group.ip,
        "port": group.port,
        "protocol": "tcp" if group.tcp else "udp",
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


def text(group: GroupView, verbose: bool, is_orphan: bool = False) -> str:
    """Return the lines that the reference prints of a group."""
    lines = [f"{group.address} (old)" if is_orphan else group.address]
    lines.append("\t" + "  ".join(_about(group)))
    if not is_orphan:
        lines.append("\tsocket generations:")
        lines += [f"\t\t{line}" for line in _generation_lines(group, verbose)]
    lines.append("\tmetrics:")
    lines += [f"\t\t{name} {value}" for name, value in group.metrics.items() if value or verbose]
    return "\n".join(lines) + "\n"


def _about(group: GroupView) -> Iterator[str]:
    yield f"netns {group.netns:#x}"
    yield f"dissector {group.name}" + (f" {group.parameters}" if group.parameters else "")
    if kinds.of_type(group.dissector, group.name.encode()).has_flow_table:
        yield f"flow_timeout_sec {group.flow_timeout}"
    if group.filter_len:
        yield f"apps {group.max_apps}"
        yield f"filter_len {group.filter_len}"
    if group.digest:
        yield f"digest {group.digest:#x}"
    if group.label:
        yield f"label {group.label}"
    if group.verbose:
        yield "verbose"
    if group.ifindex:
        yield f"ifindex {group.ifindex}"


def _generation_lines(group: GroupView, verbose: bool) -> Iterator[str]:
    """Yield a line for each slot that has sockets or gets new flows."""
    generations = {item.slot: item for item in group.generations if item.sockets}
    working: dict[int, list[str]] = {}
    for application, generation in enumerate(group.working):
        slot = abi.slot_of(group.max_apps, application, generation)
        working.setdefault(slot, []).append(f"app {application}  gen {generation}")
    for slot in sorted(generations.keys() | working.keys()):
        item = generations.get(slot)
        parts = [f"gen {slot:2d}"]
        if item is not None:
            parts.append(" ".join(_socket(socket, verbose) for socket in item.sockets))
        if slot in working:
            parts += ["<=", *working[slot]]
        yield "  ".join(parts)


def _socket(socket: SocketView, verbose: bool) -> str:
    word = f"{socket.so_cookie:#x}" if socket.alive else "dead"
    return f"{socket.index}:{word}" if verbose else word
