# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors

"""Modules as Ansible runs them: a process of their own, with a udpgrm command in PATH."""

from __future__ import annotations

import json
import subprocess
import sys
import typing as t

from ..fake_command import FakeCommand
from ..playbook import LIMIT_S


class Machine(FakeCommand):
    """Runs modules beside the fake command."""

    def run(self, name: str, arguments: dict[str, t.Any], check: bool = False) -> dict[str, t.Any]:
        """Return what the module prints, as an object."""
        module = f"ansible_collections.udpgrm.fleet.plugins.modules.{name}"
        done = subprocess.run(
            [sys.executable, "-m", module],
            input=json.dumps({"ANSIBLE_MODULE_ARGS": {**arguments, "_ansible_check_mode": check}}),
            env=self.environment,
            text=True,
            capture_output=True,
            timeout=LIMIT_S,
            check=False,
        )
        assert done.stderr == ""
        result = json.loads(done.stdout)
        assert isinstance(result, dict)
        assert done.returncode == (1 if result.get("failed") else 0)
        return result
