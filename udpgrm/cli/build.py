# SPDX-License-Identifier: Apache-2.0
"""udpgrm build."""

from __future__ import annotations

from udpgrm.build import cache, sources
from udpgrm.cli import common
from udpgrm.cli.errors import CommandError
from udpgrm.cli.options import Arguments


def run(arguments: Arguments) -> int:
    """Compile every template that is not in the cache."""
    common.want_operands(arguments, 0, 0)
    programs = [*sources.all_programs(), *sources.shipped_named()]
    try:
        compiled = [item.name for item in cache.compile_missing(programs)]
    except cache.BuildError as error:
        raise CommandError(str(error)) from error
    cached = [item.name for item in programs if item.name not in compiled]
    if arguments.flag("--json"):
        common.print_json({"changed": bool(compiled), "compiled": compiled, "cached": cached})
    else:
        for name in compiled:
            print(f"compiled {name}")
    return 0
