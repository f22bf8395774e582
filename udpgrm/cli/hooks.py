# SPDX-License-Identifier: Apache-2.0
"""udpgrm hooks."""

from __future__ import annotations

from pathlib import Path

from udpgrm.build import sources
from udpgrm.cli import common
from udpgrm.cli.errors import CommandError
from udpgrm.cli.options import Arguments
from udpgrm.kernel import cgroups
from udpgrm.loader import hooks
from udpgrm.state import connecting

_ACTIONS = ("list", "add", "remove")


def run(arguments: Arguments) -> int:
    """Show, attach or detach the hooks of cgroups."""
    common.want_operands(arguments, 1, 2)
    action, *paths = arguments.operands
    if action not in _ACTIONS:
        raise CommandError(f"hooks: {action!r} is none of {', '.join(_ACTIONS)}")
    directory = common.pin_dir(arguments)
    maps = common.open_state(arguments)
    hooked = hooks.hooked_cgroups(directory)
    if action == "list":
        common.want_operands(arguments, 1, 1)
        if arguments.flag("--json"):
            common.print_json({"cgroups": hooked})
        else:
            print(*hooked, sep="\n", end="\n" if hooked else "")
        return 0
    common.want_operands(arguments, 2, 2)
    cgroup = Path(paths[0])
    if not cgroups.is_directory(cgroup):
        raise CommandError(f"{cgroup} is not a cgroup2 directory")
    missing = hooks.missing(directory, cgroup)
    changed = bool(missing) if action == "add" else len(missing) < len(sources.HOOKS)
    if changed and not arguments.flag("--check"):
        if action == "add":
            hooks.install(directory, cgroup, with_sendmsg=True)
        else:
            hooks.uninstall(directory, cgroup)
            connecting.rejoin_all(maps, set(cgroups.processes(cgroup)))
    if arguments.flag("--json"):
        common.print_json({"cgroup": str(cgroup), "changed": changed})
    else:
        word = {"add": "hooked", "remove": "not hooked"}[action]
        print(f"{cgroup}: {word}{common.ending(arguments, changed)}")
    return 0
