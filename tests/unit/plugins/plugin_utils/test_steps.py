# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors

"""Test the steps of a host of a rollout when the connection to it is lost."""

from __future__ import annotations

import types
import typing as t

import pytest
from ansible.errors import AnsibleConnectionFailure
from ansible_collections.udpgrm.fleet.plugins.plugin_utils import _steps

RUN = "control:1:2:a"


@pytest.mark.parametrize(
    ("rollout", "steps"),
    [
        ({"run": RUN, "by": "a"}, ["switch", "inspect"]),
        # another one's, or none: this run has not begun the restart that is seen
        ({"run": "control:1:2:b", "by": "b"}, ["switch"]),
        (None, ["switch"]),
    ],
)
def test_what_was_begun_as_the_connection_was_lost(
    rollout: dict[str, t.Any] | None, steps: list[str]
) -> None:
    def execute(module: str, _arguments: dict[str, t.Any]) -> dict[str, t.Any]:
        if module == "udpgrm_restart":
            raise AnsibleConnectionFailure("connection reset")
        return {"services": [{"name": "echo", "rollout": rollout}]}

    host = _steps.Host("fl1", RUN, ["echo", "dns"], execute, check=False)
    assert not host.switch(None, "refuse", bake=5)
    assert [(step["step"], step["service"]) for step in host.steps] == [
        (step, "echo") for step in steps
    ]
    assert host.result()["unreachable"]


def test_a_host_that_is_gone_is_unreachable_once() -> None:
    def execute(_module: str, _arguments: dict[str, t.Any]) -> dict[str, t.Any]:
        raise AnsibleConnectionFailure("no route")

    host = _steps.Host("fl1", RUN, ["echo"], execute, check=False)
    assert not host.switch(None, "refuse")
    assert [step["step"] for step in host.steps] == ["switch"]


class Raised:
    """An exception of a module as ansible-core 2.19 returns it, whose text says nothing."""

    event = types.SimpleNamespace(msg="'release'")

    def __str__(self) -> str:
        return "(traceback unavailable)"


@pytest.mark.parametrize(
    ("result", "why"),
    [
        ({"exception": Raised()}, "udpgrm_restart has raised an error: 'release'"),
        ({}, "udpgrm_restart has raised an error: without a message"),
        ({"msg": "MODULE FAILURE", "module_stderr": "KeyError"}, "MODULE FAILURE: KeyError"),
    ],
)
def test_a_module_that_raises_says_why(result: dict[str, t.Any], why: str) -> None:
    host = _steps.Host("fl1", RUN, ["echo"], lambda *_: {"failed": True, **result}, check=False)
    assert not host.switch(None, "refuse")
    assert host.result()["msg"] == why
