# SPDX-License-Identifier: Apache-2.0
"""udpgrm check."""

from __future__ import annotations

from pathlib import Path

from udpgrm.cli import common
from udpgrm.cli.errors import CommandError
from udpgrm.cli.options import Arguments
from udpgrm.services import instance_files, loader
from udpgrm.services.document import Problem
from udpgrm.services.validate import MissingLibrary


def run(arguments: Arguments) -> int:
    """Print every problem of a service's file, or of a directory of them."""
    common.want_operands(arguments, 0, 1)
    path = Path(*arguments.operands) if arguments.operands else common.services_dir()
    try:
        found = loader.read_directory(path) if path.is_dir() else loader.read_file(path)
    except OSError as error:
        # also without permission: the file's name helps more than the missing right
        raise CommandError(f"{error.filename or path}: {error.strerror}") from error
    except MissingLibrary as error:
        raise CommandError(str(error)) from error
    for file, service in list(found.services):
        broken = [Problem(file, *item) for item in instance_files.problems(service)]
        found.problems += broken
        if broken:
            found.services.remove((file, service))
    if arguments.flag("--json"):
        common.print_json(
            {
                "ok": not found.problems,
                "problems": [vars(problem) for problem in found.problems],
                "services": [
                    {
                        "name": service.name,
                        "file": file,
                        "groups": [group.address for group in service.groups],
                        "reuseport_set": service.shared_addresses(),
                    }
                    for file, service in found.services
                ],
            }
        )
    else:
        for problem in found.problems:
            print(problem)
    return 1 if found.problems else 0
