# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""The role's page has the variables, keys and defaults of its argument specification."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

ROLE = Path(__file__).resolve().parents[3] / "roles" / "udpgrm"
SPECS = yaml.safe_load((ROLE / "meta" / "argument_specs.yml").read_text())
OPTIONS: dict[str, Any] = SPECS["argument_specs"]["main"]["options"]
VARIABLES, KEYS = (ROLE / "README.md").read_text().split("## Variables")[1].split("An entry of")


def rows(text: str) -> dict[str, str]:
    """Return the second cell of each row of a table by the names in its first one."""
    found = {}
    for names, cell in re.findall(r"^\| (`[^|]*) \|([^|]*)\|", text, re.M):
        found.update(dict.fromkeys(re.findall(r"`(\w+)`", names), cell.strip().strip("`")))
    return found


def test_variables() -> None:
    found = rows(VARIABLES)
    assert found.keys() == OPTIONS.keys()
    for name, option in OPTIONS.items():
        default = option["default"]
        if name == "udpgrm_service_hardening":
            continue
        shown = {"": '""', False: "false"}.get(default, str(default)) if default != [] else "[]"
        assert found[name] == shown, name


def test_keys_of_an_entry() -> None:
    assert rows(KEYS).keys() == OPTIONS["udpgrm_services"]["options"].keys()
