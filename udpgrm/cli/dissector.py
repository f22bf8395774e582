# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""udpgrm dissector: the library of named dissectors, and the policies of addresses."""

from __future__ import annotations

import contextlib
import json
from typing import Any, Optional

from udpgrm import abi
from udpgrm.build import sources
from udpgrm.cli import common
from udpgrm.cli.errors import CommandError
from udpgrm.cli.options import Arguments
from udpgrm.dissectors import kinds, library
from udpgrm.dissectors.parameters import DissectorError
from udpgrm.services import policy
from udpgrm.state import address, policies
from udpgrm.state import maps as state
from udpgrm.state.layout import Limits
from udpgrm.state.maps import Maps

_MAX_FLOWS = 1 << 24
_LOG_LINES = 20


def run(arguments: Arguments) -> int:
    """Run one of the actions."""
    actions = {
        "list": (_list, 1, 1),
        "show": (_show, 2, 2),
        "check": (_check, 2, abi.PARAMETERS_BYTES),
        "set": (_set, 3, abi.PARAMETERS_BYTES),
        "unset": (_unset, 2, 2),
        "apply": (_apply, 2, 2),
    }
    common.want_operands(arguments, 1, abi.PARAMETERS_BYTES)
    name = arguments.operands[0]
    if name not in actions:
        raise CommandError(f"dissector: {name!r} is none of {', '.join(actions)}")
    action, least, most = actions[name]
    common.want_operands(arguments, least, most)
    for option in ("--flows", "--check"):
        if arguments.flag(option) and (name, option) not in _OPTIONS:
            raise CommandError(f"{option} does not go with dissector {name}")
    try:
        return action(arguments)
    except DissectorError as error:
        raise CommandError(str(error)) from error


_OPTIONS = {("set", "--flows"), *((name, "--check") for name in ("set", "unset", "apply"))}


def _list(arguments: Arguments) -> int:
    entries: list[dict[str, Any]] = []
    for name in library.names():
        entry: dict[str, Any] = {"name": name, "about": "", "shipped": False, "problem": ""}
        try:
            found = library.find(name)
        except DissectorError as error:
            entry["problem"] = str(error)
        else:
            entry.update(about=found.schema.about, shipped=not found.digest)
        entries.append(entry)
    rules = _policies(arguments)
    if arguments.flag("--json"):
        common.print_json({"dissectors": entries, "policies": rules})
        return 0
    for entry in entries:
        print(f"{entry['name']:<16} {entry['about'] or 'UNUSABLE: ' + entry['problem']}")
    for rule in rules:
        print(f"{rule['address']}\t{policies.text(rule)}")
    return 0


def _policies(arguments: Arguments) -> list[dict[str, Any]]:
    maps = common.state_if_any(arguments)
    if maps is None:
        return []
    return [{"address": where, **policies.document(rule)} for where, rule in policies.each(maps)]


def _show(arguments: Arguments) -> int:
    name = arguments.operands[1]
    found = kinds.find(name).source()
    schema = found.schema
    if arguments.flag("--json"):
        common.print_json(
            {
                "name": name,
                "about": schema.about,
                "shipped": not found.digest,
                "path": str(found.folder),
                "parameters": [
                    {
                        "name": item.name,
                        "type": item.type,
                        "range": item.range,
                        "unit": item.unit,
                        "default": item.default,
                        "required": item.default is None,
                        "description": item.description,
                    }
                    for item in schema.parameters
                ],
            }
        )
        return 0
    print(f"{name}: {schema.about}\n{found.folder}")
    for item in schema.parameters:
        given = "required" if item.default is None else f"default {json.dumps(item.default)}"
        about = " ".join(filter(None, (item.range, item.unit)))
        print(f"  {item.name:<20} {about}; {given}\n  {'':<20} {item.description}")
    return 0


def _check(arguments: Arguments) -> int:
    """Compile and load a dissector with maps of its own, without attaching or pinning it."""
    from udpgrm.build import cache
    from udpgrm.kernel import clock, libbpf
    from udpgrm.loader.pool import Pool
    from udpgrm.loader.programs import Linker

    name = arguments.operands[1]
    kind = kinds.find(name)
    value = bytes(kind.encode(kind.schema().of_arguments(arguments.operands[2:])))
    reason, log = "", ""
    try:
        cache.compile_missing(sources.parts(sources.steering_of(kind)))
        limits = Limits(groups=1, flows=64, prepared_groups=1, prepared_tables=1)
        with contextlib.closing(clock.Jiffies()) as jiffies:
            maps = state.make(limits, jiffies.rate())
        Pool(maps, limits).refill()
        libbpf.map_update(maps["dissectors"], state.index(0), value)
        Linker(maps, limits).steering(0)
    except cache.BuildError as error:
        reason = str(error)
    except libbpf.VerifierError as error:
        reason = str(error)
        log = "\n".join(error.log.splitlines()[-_LOG_LINES:])
    if arguments.flag("--json"):
        common.print_json({"name": name, "ok": not reason, "reason": reason, "log": log})
    else:
        print(f"FAILED  {name}: {reason}" if reason else f"ok      {name}")
        if log:
            print(log)
    return 1 if reason else 0


def _wanted(arguments: Arguments) -> abi.Policy:
    _, _, name, *parameters = arguments.operands
    flows = arguments.number("--flows", 0, 1, _MAX_FLOWS)
    kind = kinds.find(name)
    if flows and not kind.has_flow_table:
        raise CommandError(f"--flows goes with flow: {name} has no flow table of its own size")
    return abi.Policy(dissector=kind.encode(kind.schema().of_arguments(parameters)), flows=flows)


def _set(arguments: Arguments) -> int:
    where = common.operand_address(arguments, 1)
    if address.read(where).tcp:
        raise CommandError(f"{where}: of TCP only new connections are steered, without a dissector")
    after = _wanted(arguments)
    return _report(arguments, _put(arguments, common.open_state(arguments), where, after))


def _put(arguments: Arguments, maps: Maps, where: str, after: abi.Policy) -> dict[str, Any]:
    """Set the policy of an address, unless --check is given; return the change."""
    conflict = policies.conflict(maps, where, after)
    if conflict is not None:
        raise CommandError(conflict)
    before = policies.get(maps, where)
    if not arguments.flag("--check"):
        policies.put(maps, where, after)
    return _change(where, before, after)


def _apply(arguments: Arguments) -> int:
    """Set the policies of a service's definition, as the first step of a restart does."""
    from udpgrm.restart import sharing
    from udpgrm.restart.plan import Refused
    from udpgrm.services import loader, validate

    name = arguments.operands[1]
    try:
        service = loader.load(name, common.services_dir())
    except (loader.DefinitionError, validate.MissingLibrary) as error:
        raise CommandError(str(error)) from error
    maps = common.open_state(arguments)
    wanted = [(group.address, policy.of_group(service, group)) for group in service.groups]
    changes = [_put(arguments, maps, where, after) for where, after in wanted if after]
    if not arguments.flag("--check"):
        try:
            sharing.apply(maps, service)
        except Refused as error:
            raise CommandError(str(error)) from error
    if arguments.flag("--json"):
        common.print_json({"service": name, "addresses": changes})
    else:
        for change in changes:
            print(_sentence(arguments, change))
    return 0


def _unset(arguments: Arguments) -> int:
    where = common.operand_address(arguments, 1)
    maps = common.open_state(arguments)
    before = policies.get(maps, where)
    if not arguments.flag("--check"):
        policies.remove(maps, where)
    return _report(arguments, _change(where, before, None))


def _change(
    where: str, before: Optional[abi.Policy], after: Optional[abi.Policy]
) -> dict[str, Any]:
    documents = [policies.document(rule) if rule else None for rule in (before, after)]
    return {
        "address": where,
        "changed": documents[0] != documents[1],
        "before": documents[0],
        "after": documents[1],
    }


def _sentence(arguments: Arguments, change: dict[str, Any]) -> str:
    now = policies.text(change["after"]) if change["after"] else "as its applications ask"
    return f"{change['address']} {now}{common.ending(arguments, change['changed'])}"


def _report(arguments: Arguments, change: dict[str, Any]) -> int:
    if arguments.flag("--json"):
        common.print_json(change)
    else:
        print(_sentence(arguments, change))
    return 0
