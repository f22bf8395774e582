# SPDX-License-Identifier: Apache-2.0
"""udpgrm probe."""

from __future__ import annotations

import contextlib
import select
import socket
import time

from udpgrm.cli import common
from udpgrm.cli.errors import CommandError
from udpgrm.cli.options import Arguments
from udpgrm.kernel import limits, netns
from udpgrm.probes import reach
from udpgrm.state import address, counters
from udpgrm.state.view import GroupView, Viewer

_PAYLOAD = b"udpgrm probe"


def run(arguments: Arguments) -> int:
    """Send packets of new flows, and check that the working generation gets them.

    With --type, send a probe of that kind instead, which needs no daemon here.
    """
    if arguments.flag("--type"):
        return _ask(arguments)
    for option in ("--from", "--at"):
        if arguments.flag(option):
            raise CommandError(f"{option} goes with --type")
    common.want_operands(arguments, 1, 1)
    where = common.operand_address(arguments)
    count = arguments.number("--count", 8, 1, 1000)
    timeout = arguments.number("--timeout", 1, 0, 60)
    maps = common.open_state(arguments)
    view = common.one_group(Viewer(maps), where)
    if view.netns != netns.own_cookie():
        raise CommandError(f"{where} is in another network namespace: probe from inside it")
    working = next((item for item in view.generations if item.working), None)
    if working is None:
        raise CommandError(f"generation {view.working[0]} of {where} has no registered socket")

    before = counters.read(maps, view.group_id)
    answered = (_connect if view.tcp else _exchange)(view, count, timeout)
    after = counters.read(maps, view.group_id)
    received = after.packets_in[working.slot] - before.packets_in[working.slot]
    errors = _delta(before, after, "rx_new_flow_working_gen_dispatch_error")
    dispatched = _delta(before, after, "rx_new_flow_working_gen_dispatch_ok")
    passed = received >= count and dispatched >= count and errors == 0
    if arguments.flag("--json"):
        common.print_json(
            {
                "address": where,
                "passed": passed,
                "generation": working.generation,
                "sent": count,
                "answered": answered,
                "received": received,
                "dispatch_errors": errors,
            }
        )
    else:
        print(
            f"{where} gen {working.generation}: {'passed' if passed else 'NOT passed'}, "
            f"sent {count}, received {received}, answered {answered}, dispatch errors {errors}"
        )
    return 0 if passed else 1


def _ask(arguments: Arguments) -> int:
    """Send one probe of a service definition, from this host or another."""
    # definitions are YAML, which the plain probe does without
    from udpgrm.probes import remote
    from udpgrm.services import loader, validate

    common.want_operands(arguments, 1, 100)
    for option in ("--count", "--timeout"):
        if arguments.flag(option):
            raise CommandError(f"{option} and --type do not combine")
    where = _where(arguments)
    try:
        result = remote.run(loader.parse_probe(_keys(arguments), where), where)
    except (ValueError, remote.ProberError, validate.MissingLibrary) as error:
        raise CommandError(f"probe: {error}") from error
    if arguments.flag("--json"):
        common.print_json(vars(result))
    else:
        print(result)
    return 0 if result.passed else 1


def _where(arguments: Arguments) -> str:
    if not arguments.flag("--at"):
        return common.operand_address(arguments)
    try:
        return reach.of_host(arguments.operands[0], arguments.given["--at"])
    except OSError as error:
        at = arguments.given["--at"]
        raise CommandError(f"probe: --at={at}: {limits.explain(error)}") from error
    except ValueError as error:
        raise CommandError(f"probe: {error}") from error


def _keys(arguments: Arguments) -> dict[str, object]:
    """Return a probe's keys as in a definition; strings need no quotes here."""
    from udpgrm.probes import specs
    from udpgrm.services import document

    probe: dict[str, object] = {"type": arguments.given["--type"]}
    if arguments.flag("--from"):
        probe["from"] = arguments.given["--from"]
    strings = specs.strings_of(arguments.given["--type"])
    for word in arguments.operands[1:]:
        key, equals, value = word.partition("=")
        if not equals:
            raise CommandError(f"probe: {word!r} is not KEY=VALUE")
        if key in probe:
            raise CommandError(f"probe: {key} is given twice")
        try:
            content = value.encode("utf-8", "surrogateescape")  # as sys.argv has it
            if key in strings and not value.startswith(("'", '"')):
                probe[key] = content.decode("utf-8")
            else:
                probe[key] = document.read(content)
        except document.DocumentError as error:
            raise CommandError(f"probe: {key}: {error}") from error
        except UnicodeDecodeError as error:
            raise CommandError(f"probe: {key}: not UTF-8 at byte {error.start}") from error
    return probe


def _delta(before: counters.GroupCounters, after: counters.GroupCounters, name: str) -> int:
    return after.metrics[name] - before.metrics[name]


def _connect(view: GroupView, count: int, timeout: int) -> int:
    """Make `count` connections, each of a fresh port; return how many were established."""
    where = address.form(view.ip, view.port, address.device_name(view.ifindex), tcp=True)
    established = 0
    for _ in range(count):
        sock, target = reach.open_socket(where, None)
        with sock, contextlib.suppress(OSError):
            sock.settimeout(timeout or None)
            sock.connect(target)
            established += 1
    return established


def _exchange(view: GroupView, count: int, timeout: int) -> int:
    """Send one packet from each of `count` fresh ports; return how many were answered."""
    where = address.form(view.ip, view.port, address.device_name(view.ifindex))
    sockets: list[socket.socket] = []
    waiting = select.poll()  # select(2) knows no descriptor beyond 1,023
    try:
        for _ in range(count):
            sock, target = reach.open_socket(where, None)
            sockets.append(sock)
            sock.sendto(_PAYLOAD, target)
            waiting.register(sock, select.POLLIN)
        deadline = time.monotonic() + timeout
        answered = 0
        while answered < count and (remaining := deadline - time.monotonic()) > 0:
            for descriptor, _ in waiting.poll(1000 * remaining):
                waiting.unregister(descriptor)
                answered += 1
        return answered
    finally:
        for sock in sockets:
            sock.close()
