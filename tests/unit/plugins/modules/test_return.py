# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors

"""What modules return is what their documentation says: samples, and results of runs."""

from __future__ import annotations

import importlib
import typing as t

import pytest
import yaml

from ..playbook import MODULES
from .machine import Machine

PACKAGE = "ansible_collections.udpgrm.fleet.plugins.modules"
TYPES: dict[str, t.Any] = {
    "str": str,
    "int": int,
    "bool": bool,
    "float": (int, float),
    "dict": dict,
    "list": list,
}
EDGE = {"address": "0.0.0.0:4433"}
#: What Ansible documents: of all modules, and of those that return a path.
COMMON = {"changed", "diff", "invocation"}
OF_PATHS = {"size", "owner", "group", "mode", "uid", "gid", "state"}
#: What comes from an action plugin.
OF_PLUGINS = {("udpgrm_drain", "elapsed")}

#: A document of the host that is passed on: it may have keys that this collection does not know.
PASSED_ON = "restart"

Spec = dict[str, t.Any]


def documented(module: str) -> dict[str, Spec]:
    found: dict[str, Spec] = yaml.safe_load(importlib.import_module(f"{PACKAGE}.{module}").RETURN)
    return found


def misfits(spec: Spec, value: t.Any, where: str) -> t.Iterator[str]:
    """Say where a value is not what its documentation promises."""
    if value is None:
        if "V(null)" not in str(spec["description"]):
            yield f"{where} is null"
        return
    kind = spec["type"]
    if not isinstance(value, TYPES[kind]) or (kind != "bool" and value is True):
        yield f"{where} is no {kind}: {value!r}"
        return
    if kind == "list":
        inner = {**spec, "type": spec["elements"]}
        for position, item in enumerate(value):
            yield from misfits(inner, item, f"{where}[{position}]")
    elif kind == "dict" and "contains" in spec:
        for key, item in value.items():
            if key in spec["contains"]:
                yield from misfits(spec["contains"][key], item, f"{where}.{key}")
            elif where.rpartition(".")[2] != PASSED_ON:
                yield f"{where}.{key} is not documented"


def samples(spec: Spec, where: str) -> t.Iterator[str]:
    """Say which value has no sample, or a wrong one; those inside may do for what holds them."""
    if "sample" in spec:
        yield from misfits(spec, spec["sample"], where)
    elif "contains" in spec:
        for key, inner in spec["contains"].items():
            yield from samples(inner, f"{where}.{key}")
    else:
        yield f"{where} has no sample"


@pytest.mark.parametrize("module", MODULES)
def test_samples(module: str) -> None:
    wrong = [text for name, spec in documented(module).items() for text in samples(spec, name)]
    assert wrong == []


@pytest.mark.parametrize(
    "module, arguments",
    [
        ("udpgrm_dissector", {"name": "quic", **EDGE}),
        ("udpgrm_drain", {**EDGE, "generation": 2, "timeout": 1}),
        ("udpgrm_drain", {"service": "echo"}),
        ("udpgrm_group", {**EDGE, "working_gen": "newest"}),
        ("udpgrm_group", {**EDGE, "state": "absent"}),
        ("udpgrm_hooks", {"cgroup": "/sys/fs/cgroup/edge.slice"}),
        ("udpgrm_info", {}),
        ("udpgrm_probe", EDGE),
        ("udpgrm_restart", {"service": "echo", "release": "2"}),
        ("udpgrm_service", {"name": "edge", "definition": {"groups": [EDGE]}}),
        ("udpgrm_service_info", {}),
    ],
)
def test_results(machine: Machine, module: str, arguments: dict[str, t.Any]) -> None:
    if module in ("udpgrm_dissector", "udpgrm_hooks"):  # of which the fake host keeps nothing else
        (machine.path / "groups.json").write_text("[]")
    specs, result = documented(module), machine.run(module, arguments)
    assert not result.get("failed"), result
    known = specs.keys() | COMMON | (OF_PATHS if "path" in specs else set())
    wrong = [f"{name} is not documented" for name in result.keys() - known]
    for name, spec in specs.items():
        if name in result:
            wrong += misfits(spec, result[name], name)
        elif spec["returned"] in ("always", "success") and (module, name) not in OF_PLUGINS:
            wrong.append(f"{name} is missing")
    assert wrong == []
