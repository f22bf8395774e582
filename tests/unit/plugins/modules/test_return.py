# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors

"""Compare what modules return with their documentation: samples, and results of runs."""

from __future__ import annotations

import importlib
import typing as t

import pytest
import yaml

from testing import contract
from udpgrm import interface

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
#: Values that Ansible documents: of all modules, and of modules that return a path.
COMMON = {"changed", "diff", "invocation"}
OF_PATHS = {"size", "owner", "group", "mode", "uid", "gid", "state"}
#: Values from an action plugin.
OF_PLUGINS = {("udpgrm_drain", "elapsed")}

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
            else:
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


#: What is passed on of the host's answers: where it is in RETURN, the answer, where it is there.
HOSTS = [
    ("udpgrm_info", "", "list", ""),
    ("udpgrm_probe", "", "probe", ""),
    ("udpgrm_service_info", "", "status", ""),
    ("udpgrm_restart", "restart", "status", "/$defs/restart"),
    ("udpgrm_restart", "plan", "restart-check", ""),
    ("udpgrm_drain", "restart", "status", "/$defs/restart"),
    ("udpgrm_dissector", "after", "common", "/$defs/policy"),
    ("udpgrm_hooks", "cgroup", "hooks", "/properties/cgroup"),
    ("udpgrm_group", "before.dissector", "list", "/properties/groups/items/properties/dissector"),
]
#: Values that modules add to the host's answer.
ADDED = {
    "udpgrm_service_info": {
        *("services.serves", "services.rollout", "services.measured"),
    }
}
#: Values that modules leave out.
LEFT_OUT = {"udpgrm_probe": {"schema"}, "udpgrm_service_info": {"schema"}}


def properties(name: str, pointer: str) -> dict[str, str]:
    """Return the fields of an object in a schema, each with a pointer to its own schema."""
    part: t.Any = interface.load(name)
    for key in filter(None, pointer.split("/")):
        part = part[key]
    if "anyOf" in part:
        return properties(name, f"{pointer}/anyOf/0")
    if str(part.get("$ref", "")).startswith("#"):
        return properties(name, part["$ref"][1:])
    if "items" in part:
        return properties(name, f"{pointer}/items")
    return {key: f"{pointer}/properties/{key}" for key in part.get("properties", {})}


def differences(module: str, spec: Spec, path: str, name: str, pointer: str) -> t.Iterator[str]:
    """Say where the documentation of an object is not what the host's schema says."""
    fields, inner = properties(name, pointer), spec["contains"]
    prefix = f"{path}." if path else ""
    added = {key for key in inner if f"{prefix}{key}" in ADDED.get(module, ())}
    left_out = LEFT_OUT.get(module, set()) if not path else set()
    yield from (f"{prefix}{key} is documented in vain" for key in inner.keys() - fields - added)
    yield from (f"{prefix}{key} is not documented" for key in fields.keys() - inner - left_out)
    for key in inner.keys() & fields:
        if "contains" in inner[key] and properties(name, fields[key]):
            yield from differences(module, inner[key], f"{prefix}{key}", name, fields[key])
        if "sample" in inner[key]:
            value = inner[key]["sample"]
            yield from contract.misfits(name, value, fields[key], shortened=True)


@pytest.mark.parametrize("module, path, name, pointer", HOSTS)
def test_documents_of_the_host(module: str, path: str, name: str, pointer: str) -> None:
    spec: Spec = {"contains": documented(module)}
    for key in filter(None, path.split(".")):
        spec = spec["contains"][key]
    wrong: list[str] = []
    if "contains" in spec:
        wrong += differences(module, spec, "", name, pointer)
    if "sample" in spec:
        wrong += contract.misfits(name, spec["sample"], pointer, shortened=True)
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
