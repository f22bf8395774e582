# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors

"""Hosts with a service, and rolling restarts of them."""

from __future__ import annotations

import json
import pathlib
import typing as t

from ..fake_command import FakeCommand
from ..fake_services import service
from ..playbook import GONE, PLAYBOOKS, Ansible

BOOT_ID = pathlib.Path("/proc/sys/kernel/random/boot_id")


class Claim:
    """A claim on a host by a rollout of another control node."""

    def __init__(self, host: FakeCommand, run: str = "other:1:2:x") -> None:
        self.path = host.path / "state" / "echo.rollout"
        self.path.parent.mkdir()
        boot_id = BOOT_ID.read_text().strip()
        value = {"run": run, "by": "ann@other", "since": 1.8e9, "boot_id": boot_id}
        self.path.write_text(json.dumps(value))


class Fleet:
    """Hosts fl1, fl2, ... of an Ansible."""

    def __init__(self, ansible: Ansible, behaviours: t.Sequence[dict[str, t.Any]]) -> None:
        self._ansible = ansible
        self.hosts = {
            f"fl{number}": FakeCommand(
                ansible.directory / f"fl{number}", services=[service(**behaviour)]
            )
            for number, behaviour in enumerate(behaviours, start=1)
        }
        self.gone: set[str] = set()

    def run(
        self, *options: str, playbook: str = "rolling_restart", **variables: t.Any
    ) -> tuple[int, str]:
        """Run a playbook; its exit status and output."""
        given = self.given(**variables)
        return self._ansible.run(
            PLAYBOOKS / f"{playbook}.yml", self.hosts, *options, gone=self.gone, **given
        )

    def given(self, **variables: t.Any) -> dict[str, t.Any]:
        """Return the variables of a run: these, and defaults of the others."""
        return {
            "udpgrm_service": "echo",
            "udpgrm_release": "2",
            "udpgrm_bake": 0,
            "udpgrm_batches": [1, 2, "100%"],
            "udpgrm_report": str(self._page),
            **variables,
        }

    def lead(self, address: str, *names: str) -> None:
        """Have hosts be at an address, where none answers."""
        folder = self._ansible.directory / "host_vars"
        folder.mkdir()
        for name in names:
            (folder / f"{name}.json").write_text(json.dumps({**GONE, "ansible_host": address}))

    @property
    def _page(self) -> pathlib.Path:
        return self._ansible.directory / "report.html"

    @property
    def working(self) -> list[int]:
        """The working generation of each host."""
        return [host.services["echo"]["working"] for host in self.hosts.values()]

    @property
    def report(self) -> str:
        """The page."""
        return self._page.read_text()
