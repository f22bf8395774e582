#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""Check that each role's argument_specs and defaults agree.

Every option with a default is in defaults/main.yml with that value, and every variable
there is an option. Exit status 1 and a line for each difference otherwise.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[1]


def differences(options: dict[str, Any], defaults: dict[str, Any]) -> Iterator[str]:
    """Say what differs between a spec's options and the defaults, a line each."""
    documented = {name: spec["default"] for name, spec in options.items() if "default" in spec}
    for name in sorted(documented.keys() | defaults.keys()):
        if name not in documented:
            yield f"{name} has a default, but its option has none"
        elif name not in defaults:
            yield f"{name} is an option with a default that defaults/main.yml lacks"
        elif documented[name] != defaults[name]:
            yield f"{name} is {defaults[name]!r}, but {documented[name]!r} in its option"


def main(roles: Path = ROOT / "roles") -> int:
    """Check all roles."""
    wrong = 0
    for role in sorted(roles.iterdir()):
        specs = yaml.safe_load((role / "meta/argument_specs.yml").read_text())["argument_specs"]
        defaults = yaml.safe_load((role / "defaults/main.yml").read_text()) or {}
        for line in differences(specs["main"]["options"], defaults):
            print(f"{role.name}: {line}", file=sys.stderr)
            wrong += 1
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
