# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""udpgrm service unit, render: the template unit of a service, and the files of an instance."""

from __future__ import annotations

import sys

from udpgrm import atomic_write
from udpgrm.cli import common
from udpgrm.cli.errors import CommandError
from udpgrm.cli.options import Arguments
from udpgrm.restart import systemd
from udpgrm.restart.systemd import SystemdError
from udpgrm.services import instance_files, loader, unit_from
from udpgrm.services.definition import Service


def unit(arguments: Arguments, name: str) -> int:
    """Print the template unit of a service, or write it."""
    made = unit_from.make(_service(name))
    changed = not made.path.is_file() or made.path.read_bytes() != made.text.encode()
    if changed and arguments.flag("--write") and not arguments.flag("--check"):
        _replace(made)
    if arguments.flag("--json"):
        common.print_json(
            {
                "service": name,
                "path": str(made.path),
                "changed": changed,
                "text": made.text,
                "changes": [vars(change) for change in made.changes],
            }
        )
    elif arguments.flag("--write"):
        print(f"{made.path}: {'written' if changed else 'is as it would be written'}")
        for change in made.changes:
            print(f"  {change}")
    else:
        sys.stdout.write(made.text)
    return 0


def write(name: str) -> None:
    """Write the template unit of a service that has one made."""
    _replace(unit_from.make(_service(name)))


def _replace(made: unit_from.Unit) -> None:
    """Replace the file of a unit, and let systemd read it."""
    atomic_write.replace(made.path, made.text.encode())
    if systemd.runs():
        try:
            systemd.reload()
        except SystemdError as error:
            raise CommandError(str(error)) from error


def render(arguments: Arguments, name: str) -> int:
    """Write the files of an instance, as its unit does before it starts the server."""
    generation = common.generation(arguments.operands[2])
    service = _service(name)
    files = instance_files.render(service, generation)
    directory = instance_files.directory_of(service, generation)
    if not arguments.flag("--check"):
        instance_files.write(directory, files)
    if arguments.flag("--json"):
        common.print_json({"service": name, "directory": str(directory), "files": files})
    elif arguments.flag("--check"):
        for path, text in files.items():
            print(f"==> {path} <==\n{text}")
    return 0


def _service(name: str) -> Service:
    service = loader.load(name, common.services_dir())
    if not service.has_made_unit:
        raise CommandError(f"{name}: its definition has neither unit_from nor unit_settings")
    return service
