# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors

"""Ansible as its users run it, on hosts that are directories of this machine."""

from __future__ import annotations

import itertools
import json
import os
import pathlib
import shlex
import subprocess
import sys
import typing as t

import pytest

from .fake_command import FakeCommand

ROOT = pathlib.Path(__file__).resolve().parents[3]
PLAYBOOKS = ROOT / "playbooks"
MODULES = sorted(path.stem for path in (ROOT / "plugins" / "modules").glob("udpgrm_*.py"))
# The newest ansible-core is that of the tests themselves.
INTERPRETERS = {
    "newest": pathlib.Path(sys.executable),
    "oldest": ROOT / "build" / "venvs" / "oldest" / "bin" / "python3",
}
# For tests of what differs between their versions: templates, variables, errors, plugins.
both_versions = pytest.mark.parametrize("ansible", sorted(INTERPRETERS), indirect=True)


def versions_in_turn(names: str, cases: t.Sequence[t.Any]) -> pytest.MarkDecorator:
    """Parametrize a test whose cases differ in nothing of a version: each has one of the two."""
    versions = itertools.cycle(sorted(INTERPRETERS))
    values = [case if isinstance(case, tuple) else (case,) for case in cases]
    return pytest.mark.parametrize(
        f"ansible, {names}",
        [(version, *value) for version, value in zip(versions, values)],
        indirect=["ansible"],
    )


# For what hangs (testing/waiting.py is not beside these where ansible-test has them).
LIMIT_S = 300
GONE = {"ansible_connection": "ssh", "ansible_host": "127.0.0.1", "ansible_port": 1}


class Ansible:
    """An ansible-playbook command, and a directory for what it needs."""

    def __init__(self, interpreter: pathlib.Path, directory: pathlib.Path) -> None:
        self._command = interpreter.with_name("ansible-playbook")
        assert self._command.exists(), f"{self._command} is missing: run make unit-ansible"
        self.directory = directory

    def run(
        self,
        playbook: pathlib.Path,
        hosts: t.Mapping[str, FakeCommand],
        *options: str,
        gone: t.Collection[str] = (),
        **variables: t.Any,
    ) -> tuple[int, str]:
        """Run a playbook; its exit status and output. Hosts in C(gone) cannot be reached."""
        run = self.start(playbook, hosts, *options, gone=gone, **variables)
        try:
            output, _none = run.communicate(timeout=LIMIT_S)
        finally:
            run.kill()
        return run.returncode, output

    def start(
        self,
        playbook: pathlib.Path,
        hosts: t.Mapping[str, FakeCommand],
        *options: str,
        gone: t.Collection[str] = (),
        terminal: bool = False,
        **variables: t.Any,
    ) -> subprocess.Popen[str]:
        """Begin to run a playbook; C(terminal): in one, into which stdin is typed."""
        inventory = self.directory / "inventory.yml"
        inventory.write_text(json.dumps({"all": {"hosts": self._variables(hosts, gone)}}))
        given = ["--inventory", str(inventory), "--extra-vars", json.dumps(variables)]
        # where conftest.py has put the collection
        places = [path for path in sys.path if pathlib.Path(path, "ansible_collections").exists()]
        command = [str(self._command), *given, *options, str(playbook)]
        if terminal:
            command = [
                "script",
                "--quiet",
                "--return",
                "--command",
                shlex.join(command),
                "/dev/null",
            ]
        return subprocess.Popen(
            command,
            cwd=self.directory,
            env={
                **os.environ,
                "ANSIBLE_COLLECTIONS_PATH": places[0],
                "ANSIBLE_LOCALHOST_WARNING": "false",
                "ANSIBLE_NOCOLOR": "true",
                "ANSIBLE_SSH_ARGS": "-o BatchMode=yes -o StrictHostKeyChecking=no",
            },
            text=True,
            stdin=subprocess.PIPE if terminal else None,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )

    @staticmethod
    def _variables(
        hosts: t.Mapping[str, FakeCommand], gone: t.Collection[str]
    ) -> dict[str, dict[str, t.Any]]:
        return {
            name: {
                "ansible_connection": "local",
                "ansible_become": False,
                "ansible_python_interpreter": str(host.path / "python"),
                **({**GONE, "ansible_host": f"127.0.0.{number}"} if name in gone else {}),
            }
            for number, (name, host) in enumerate(hosts.items(), start=1)
        }
