# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors

"""Every example of a module's documentation is a task that the module would take."""

from __future__ import annotations

import importlib
import pathlib
import typing as t

import pytest
import yaml
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible_collections.udpgrm.fleet.plugins.plugin_utils import _table

PACKAGE = "ansible_collections.udpgrm.fleet.plugins.modules"
MODULES = pathlib.Path(__file__).resolve().parents[4] / "plugins" / "modules"
NAMES = sorted(path.stem for path in MODULES.glob("udpgrm_*.py"))
# implemented by an action plugin alone
VIRTUAL = "udpgrm_report"
EXPLAINED = {"name", "register", "until", "retries", "delay"}


class Specified(Exception):
    """What a module says of its arguments."""


def validator(name: str, monkeypatch: pytest.MonkeyPatch) -> ArgumentSpecValidator:
    """What judges the arguments of a module when it runs."""
    module = importlib.import_module(f"{PACKAGE}.{name}")

    def stop(argument_spec: dict[str, t.Any], **rules: t.Any) -> None:
        rules.pop("supports_check_mode")
        raise Specified(argument_spec, rules)

    monkeypatch.setattr(module, "AnsibleModule", stop)
    with pytest.raises(Specified) as found:
        module.main()
    spec, rules = found.value.args
    return ArgumentSpecValidator(spec, **rules)


@pytest.mark.parametrize("name", [name for name in NAMES if name != VIRTUAL])
def test_examples(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    module = importlib.import_module(f"{PACKAGE}.{name}")
    tasks = yaml.safe_load(module.EXAMPLES)
    judge = validator(name, monkeypatch)
    assert tasks
    for task in tasks:
        assert task["name"].strip()
        arguments = task.pop(f"udpgrm.fleet.{name}")
        assert set(task) <= EXPLAINED
        assert judge.validate(arguments or {}).error_messages == []


def test_example_of_the_report() -> None:
    module = importlib.import_module(f"{PACKAGE}.{VIRTUAL}")
    [task] = yaml.safe_load(module.EXAMPLES)
    arguments = task[f"udpgrm.fleet.{VIRTUAL}"]
    lines = _table.render(arguments["service"], arguments["hosts"], arguments.get("reason", ""))
    assert lines[-1] == "dns: 1 updated"


def test_return_values_have_samples_of_their_type() -> None:
    types = {"str": str, "int": int, "bool": bool, "float": float, "dict": dict, "list": list}
    for name in NAMES:
        values = yaml.safe_load(importlib.import_module(f"{PACKAGE}.{name}").RETURN)
        for key, value in values.items():
            if value.get("sample") is not None:
                assert isinstance(value["sample"], types[value["type"]]), (name, key)
