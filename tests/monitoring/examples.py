# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""Examples of the documentation, run by Ansible against real servers."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any


def run_tasks(directory: Path, block: str, **variables: Any) -> tuple[int, str]:
    """Run tasks on a host named fl1, which is this machine; the exit status and the output."""
    tasks, playbook = directory / "tasks.yml", directory / "play.yml"
    tasks.write_text(block)
    play = {
        "hosts": "fl1",
        "gather_facts": False,
        "tasks": [{"ansible.builtin.import_tasks": str(tasks)}],
    }
    playbook.write_text(json.dumps([play]))
    here = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}
    hosts = {name: {**here, "ansible_become": False} for name in ("fl1", "balancer")}
    inventory = directory / "inventory.yml"
    inventory.write_text(json.dumps({"all": {"hosts": hosts}}))
    command = [str(Path(sys.executable).with_name("ansible-playbook")), f"--inventory={inventory}"]
    done = subprocess.run(
        [*command, "--extra-vars", json.dumps(variables), str(playbook)],
        cwd=directory,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr
