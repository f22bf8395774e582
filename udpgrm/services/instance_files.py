# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""Configuration files of one instance, rendered before it starts from `instance_files`."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from udpgrm.services import document, unit_from
from udpgrm.services.definition import Service
from udpgrm.services.unit_files import UnitError
from udpgrm.state import address

if TYPE_CHECKING:
    import jinja2


def render(service: Service, generation: int) -> dict[str, str]:
    """Return the files of an instance by the path that it reads. Raises UnitError, OSError."""
    try:
        import jinja2
    except ImportError as error:
        raise UnitError("the Python module jinja2 is missing: install python3-jinja2") from error
    environment = _environment()
    variables = _variables(service, generation)
    found = {}
    for path, template in service.instance_files:
        try:
            original = Path(path).read_text(encoding="utf-8")
            found[path] = environment.from_string(template).render(variables, original=original)
        except FileNotFoundError as error:
            raise UnitError(
                f"instance_files: there is no {path} that an instance's own could be mounted on"
            ) from error
        except UnicodeDecodeError as error:
            raise UnitError(f"instance_files: {path} is no text in UTF-8") from error
        except jinja2.TemplateSyntaxError as error:
            raise UnitError(f"instance_files: {path}, line {error.lineno}: {error}") from error
        except (jinja2.TemplateError, TypeError, ValueError, ArithmeticError) as error:
            raise UnitError(f"instance_files: {path}: {error}") from error
    return found


def problems(service: Service) -> Iterator[tuple[str, str]]:
    """Yield (key, reason) of the templates that jinja2 cannot read; none if it is missing."""
    if not service.instance_files:
        return
    try:
        import jinja2  # takes longer than all other checks
    except ImportError:  # the instance's start says so
        return
    for path, template in service.instance_files:
        key = document.dotted(("instance_files", path))
        try:
            _environment().parse(template)
        except jinja2.TemplateSyntaxError as error:
            yield key, f"line {error.lineno}: {error.message}"
        except (RecursionError, ValueError) as error:  # nested too deep, a number of 5,000 digits
            yield key, str(error)


def _environment() -> jinja2.Environment:
    import jinja2

    return jinja2.Environment(
        undefined=jinja2.StrictUndefined,
        keep_trailing_newline=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _variables(service: Service, generation: int) -> dict[str, Any]:
    groups = []
    places = set()
    for group in service.groups:
        where = address.read(group.address)
        if (where.ip, where.port) in places:
            continue  # TCP beside UDP: servers listen to both at an address
        places.add((where.ip, where.port))
        groups.append(
            {
                "address": group.address,
                "ip": str(where.ip),
                "port": where.port,
                "sockets": group.sockets,
            }
        )
    return {"service": service.name, "generation": generation, "groups": groups, **groups[0]}


def directory_of(service: Service, generation: int) -> Path:
    """Return where the files of an instance are: a directory that only root writes to."""
    stem = service.instances.unit.partition("@")[0]
    return unit_from.FILES / f"{stem}-{generation}"


def write(directory: Path, files: dict[str, str]) -> None:
    """Write the files of an instance. Raises OSError.

    Each has the owner and mode of the file that it is mounted on, which may hold secrets.
    """
    directory.parent.mkdir(parents=True, exist_ok=True)
    if directory.exists():
        import shutil

        shutil.rmtree(directory)
    for path, content in files.items():
        target = directory / path.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        like = os.stat(path)
        handle = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with open(handle, "w", encoding="utf-8") as file:
            file.write(content)
            os.fchown(handle, like.st_uid, like.st_gid)
            os.fchmod(handle, like.st_mode & 0o777)
    for made in (directory.parent, *(Path(made) for made, _, _ in os.walk(directory))):
        made.chmod(0o755)  # the umask may cut the mode, and the server is another user
