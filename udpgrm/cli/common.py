# SPDX-License-Identifier: Apache-2.0
"""Functions that commands share: the pinned state, addresses, JSON."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Optional

from udpgrm import abi
from udpgrm.cli.errors import CommandError
from udpgrm.cli.options import Arguments
from udpgrm.kernel import bpffs, netns
from udpgrm.numbers import whole_number
from udpgrm.state import address, finding
from udpgrm.state import maps as state
from udpgrm.state.maps import Maps
from udpgrm.state.view import GroupView, Viewer

SCHEMA = 1
DEFAULT_PIN_DIR = "/sys/fs/bpf/udpgrm"
DEFAULT_SERVICES_DIR = "/etc/udpgrm/services.d"


def pin_dir(arguments: Arguments) -> Path:
    """Return the directory of the pinned state."""
    return Path(arguments.given.get("--pin-dir", DEFAULT_PIN_DIR))


def services_dir() -> Path:
    """Return the directory of definitions: /etc/udpgrm/services.d, or UDPGRM_SERVICES_DIR."""
    return Path(os.environ.get("UDPGRM_SERVICES_DIR", DEFAULT_SERVICES_DIR))


def open_state(arguments: Arguments) -> Maps:
    """Open the pinned maps. Raises CommandError if there are none."""
    maps = state_if_any(arguments)
    if maps is None:
        directory = pin_dir(arguments)
        why = bpffs.unmounted(directory)
        raise CommandError(
            f"no state in {directory}: {why + ', then ' if why else ''}start udpgrm --daemon"
        )
    return maps


def state_if_any(arguments: Arguments) -> Optional[Maps]:
    """Open the pinned maps; None: there are none. Raises CommandError if they cannot be used."""
    try:
        return state.open_pinned(pin_dir(arguments))
    except FileNotFoundError:
        return None
    except state.StateError as error:
        raise CommandError(str(error)) from error


def daemon_pid(arguments: Arguments, maps: Maps) -> Optional[int]:
    """Return the pid of the daemon that holds the lock; None: none runs, or it starts or ends."""
    held = state.lock(pin_dir(arguments), shared=True)
    if held is None:
        return int(maps.config.pid) or None
    os.close(held)
    return None


def operand_address(arguments: Arguments, position: int = 0) -> str:
    """Return an ADDRESS:PORT operand in its usual spelling."""
    try:
        where = address.read(arguments.operands[position])
        where.ifindex()
    except ValueError as error:
        raise CommandError(str(error)) from error
    return str(where)


def generation(text: str, word: str = "") -> int:
    """Return a generation; `word` may be given instead of it. Raises CommandError."""
    number = whole_number(text, 0, abi.GENERATION_NONE - 1)
    if number is None:
        wanted = f"0..{abi.GENERATION_NONE - 1}" + (f", or {word}" if word else "")
        raise CommandError(f"not a generation: {text!r} ({wanted})")
    return number


def want_operands(arguments: Arguments, least: int, most: int) -> None:
    """Raise CommandError for too few, too many or empty operands, as of an unset variable."""
    count = len(arguments.operands)
    if count < least:
        raise CommandError(
            f"{arguments.command}: an operand is missing (see udpgrm {arguments.command} --help)"
        )
    if count > most:
        raise CommandError(f"{arguments.command}: unexpected {arguments.operands[most]!r}")
    if "" in arguments.operands:
        raise CommandError(f"{arguments.command}: an operand is empty")


def optional_filter(arguments: Arguments) -> Optional[str]:
    """Return the ADDRESS:PORT that a listing is limited to; None: it is not."""
    want_operands(arguments, 0, 1)
    return operand_address(arguments) if arguments.operands else None


def filters(arguments: Arguments) -> list[str]:
    """Return the ADDRESS:PORT operands, each once, in their usual spelling."""
    if "" in arguments.operands:
        raise CommandError(f"{arguments.command}: an operand is empty")
    every = range(len(arguments.operands))
    return list(dict.fromkeys(operand_address(arguments, position) for position in every))


def groups_at(viewer: Viewer, where: str) -> list[GroupView]:
    """Return an address's groups in this network namespace, else root's only one elsewhere.

    In a namespace of its own, an unprivileged user may have any address. There may be several
    groups here, bound to different devices.
    """
    found = finding.find_groups(viewer, where, netns.own_cookie())
    if found:
        return found
    everywhere = viewer.groups(where, with_flows=False)
    return everywhere if len(everywhere) == 1 and everywhere[0].uid == 0 else []


def groups_here(viewer: Viewer, where: str) -> list[GroupView]:
    """Return the groups that an address selects. Raises CommandError if there is none."""
    found = groups_at(viewer, where)
    if found:
        return found
    if viewer.groups(where, with_flows=False):
        raise CommandError(
            f"no group at {where} in this network namespace: run this in that of the one meant"
        )
    raise CommandError(f"no group at {where} (udpgrm list shows all groups)")


def one_group(viewer: Viewer, where: str) -> GroupView:
    """Return the group of an address; of several, the one in this network namespace.

    Raises CommandError if there is none, or if the address is ambiguous.
    """
    try:
        found = finding.find_group(viewer, where, netns.own_cookie())
    except finding.SeveralGroups as error:
        raise CommandError(str(error)) from error
    return found or groups_here(viewer, where)[0]


def want_application(view: GroupView, where: str, application: int) -> None:
    """Raise CommandError for an application that a group has not."""
    if application >= len(view.working):
        raise CommandError(f"{where} has no application {application}, only {len(view.working)}")


def ending(arguments: Arguments, changed: bool) -> str:
    """Return the end of a line on a change: there is none, or with --check it is not made."""
    if not changed:
        return " already"
    return " (not done: --check)" if arguments.flag("--check") else ""


@contextlib.contextmanager
def ignore_epipe() -> Iterator[None]:
    """Ignore EPIPE: the command's effect matters, not its output."""
    try:
        yield
        sys.stdout.flush()
    except OSError:
        # keep the interpreter from flushing again
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def print_json(content: dict[str, Any]) -> None:
    """Print one JSON object."""
    import json  # the text forms do without

    print(json.dumps({"schema": SCHEMA, **content}))
