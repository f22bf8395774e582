# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors

"""The playbook rolling_restart, run by Ansible on hosts that are directories of this machine."""

from __future__ import annotations

import json
import os
import pathlib
import shutil
import subprocess
import sys
import typing as t

from ..fake_command import FakeCommand
from ..fake_services import service

ANSIBLE = shutil.which(
    "ansible-playbook",
    path=os.pathsep.join([str(pathlib.Path(sys.executable).parent), os.environ["PATH"]]),
)
PLAYBOOK = pathlib.Path(__file__).resolve().parents[4] / "playbooks" / "rolling_restart.yml"
GONE = {"ansible_connection": "ssh", "ansible_host": "127.0.0.1", "ansible_port": 1}


class Fleet:
    """Hosts fl1, fl2, ... and their inventory."""

    def __init__(self, directory: pathlib.Path, behaviours: t.Sequence[dict[str, t.Any]]) -> None:
        self.directory = directory
        self.hosts = {
            f"fl{number}": FakeCommand(directory / f"fl{number}", services=[service(**behaviour)])
            for number, behaviour in enumerate(behaviours, start=1)
        }
        self.gone: set[str] = set()

    def _inventory(self) -> str:
        hosts = {
            name: {
                "ansible_connection": "local",
                "ansible_become": False,
                "ansible_python_interpreter": str(host.path / "python"),
                **(GONE if name in self.gone else {}),
            }
            for name, host in self.hosts.items()
        }
        return json.dumps({"all": {"hosts": hosts}})

    def run(self, *options: str, **variables: t.Any) -> tuple[int, str]:
        """Run the playbook; its exit status and words."""
        inventory = self.directory / "inventory.yml"
        inventory.write_text(self._inventory())
        given = {
            "udpgrm_service": "echo",
            "udpgrm_release": "2",
            "udpgrm_bake": 0,
            "udpgrm_batches": [1, 2, "100%"],
            "udpgrm_report": str(self.directory / "report.html"),
            **variables,
        }
        command = [str(ANSIBLE), "--inventory", str(inventory), "--extra-vars", json.dumps(given)]
        # where conftest.py has put the collection
        places = [path for path in sys.path if pathlib.Path(path, "ansible_collections").exists()]
        done = subprocess.run(
            [*command, *options, str(PLAYBOOK)],
            cwd=self.directory,
            env={
                **os.environ,
                "ANSIBLE_COLLECTIONS_PATH": places[0],
                "ANSIBLE_LOCALHOST_WARNING": "false",
                "ANSIBLE_NOCOLOR": "true",
                "ANSIBLE_SSH_ARGS": "-o BatchMode=yes -o StrictHostKeyChecking=no",
            },
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=120,
            check=False,
        )
        return done.returncode, done.stdout

    @property
    def working(self) -> list[int]:
        """The working generation of each host."""
        return [host.services["echo"]["working"] for host in self.hosts.values()]

    @property
    def report(self) -> str:
        """The page."""
        return (self.directory / "report.html").read_text()


def test_all_hosts_once(tmp_path: pathlib.Path) -> None:
    fleet = Fleet(tmp_path, [{"drain_s": 1.0}, {}, {}, {"drain_s": 4.0}])
    status, said = fleet.run("--check")
    assert (status, fleet.working) == (0, [1, 1, 1, 1]), said
    assert "echo: 4 planned" in said
    assert [len(host.modules) for host in fleet.hosts.values()] == [1, 1, 1, 1]
    status, said = fleet.run()
    assert (status, fleet.working) == (0, [2, 2, 2, 2]), said
    assert "echo: 4 updated" in said
    # to switch, to look, to wait for the end; the canary is looked at again
    modules = [len(host.modules) - 1 for host in fleet.hosts.values()]
    assert modules[0] <= 4, fleet.hosts["fl1"].modules
    assert max(modules[1:]) <= 3, fleet.hosts["fl2"].modules
    assert all(name in fleet.report for name in fleet.hosts)
    status, said = fleet.run()
    assert (status, fleet.working) == (0, [2, 2, 2, 2]), said
    assert "echo: 4 unchanged" in said


def test_one_budget_for_all_batches(tmp_path: pathlib.Path) -> None:
    fleet = Fleet(tmp_path, [{}, {}, {}, {"rolls_back": "nobody answers"}, {}, {}])
    fleet.gone = {"fl2"}
    status, said = fleet.run(udpgrm_batches=[1], udpgrm_max_failures=1)
    assert (status, fleet.working) == (2, [2, 1, 2, 1, 1, 1]), said
    assert "echo: 2 updated, 1 rolled back, 1 unreachable, 2 untouched" in said
    assert "stopped: 2 failed, 1 may: fl2 unreachable" in said
    assert "fl4 rolled back (canary: nobody answers)" in said
    assert "nobody answers" in fleet.report
    assert "Stopped." in fleet.report
    # nobody remembers anything but the hosts
    fleet.gone = set()
    fleet.hosts["fl4"].set_services(service())
    begun = len(fleet.hosts["fl1"].modules)
    status, said = fleet.run()
    assert (status, fleet.working) == (0, [2] * 6), said
    assert "echo: 4 updated, 2 unchanged" in said
    assert len(fleet.hosts["fl1"].modules) == begun + 1


def test_failures_within_the_budget_fail_the_run_at_its_end(tmp_path: pathlib.Path) -> None:
    fleet = Fleet(tmp_path, [{"refuses": "no generation is free"}, {}, {}])
    status, said = fleet.run(udpgrm_max_failures=1)
    assert (status, fleet.working) == (2, [1, 2, 2]), said
    assert "echo: 2 updated, 1 failed" in said


def test_go_back_where_that_is_possible(tmp_path: pathlib.Path) -> None:
    fleet = Fleet(tmp_path, [{"drain_s": 60}, {}, {"rolls_back": "dead"}, {}])
    status, said = fleet.run(udpgrm_on_stop="rollback")
    assert (status, fleet.working) == (2, [1, 2, 1, 1]), said
    assert "echo: 1 updated, 2 rolled back, 1 untouched" in said
    assert "fl2: stays: echo: nothing to go back to: the old instance has ended" in said


def test_more_errors_stop_it(tmp_path: pathlib.Path) -> None:
    fleet = Fleet(tmp_path, [{"errors": 5}, {}, {}])
    status, said = fleet.run()
    assert (status, fleet.working) == (2, [2, 1, 1]), said
    assert "fl1: 5.00% of packets are dropped or misdirected, 0.00% were before" in said


def test_canaries_come_first(tmp_path: pathlib.Path) -> None:
    fleet = Fleet(tmp_path, [{}, {}, {"rolls_back": "dead"}])
    status, said = fleet.run(udpgrm_canary="fl3")
    assert (status, fleet.working) == (2, [1, 1, 1]), said
    assert "echo: 1 rolled back, 2 untouched" in said
    status, said = fleet.run(udpgrm_canary="fl9")
    assert status == 2
    assert "udpgrm_canary" in said


def test_canaries_with_commas_and_a_limit(tmp_path: pathlib.Path) -> None:
    fleet = Fleet(tmp_path, [{}, {}, {"rolls_back": "dead"}, {}])
    given = {"udpgrm_canary": "fl1,fl3", "udpgrm_hosts": "fl1,fl2,fl3,fl4"}
    # one canary is left, so the first batch has one host
    status, said = fleet.run("--limit", "fl2,fl3,fl4", **given)
    assert status == 2
    assert "echo: 1 rolled back, 2 untouched" in said
    # what became of it is nothing that check mode would do
    status, said = fleet.run("--check", **given)
    assert (status, "echo: 4 planned" in said) == (0, True), said


def test_numbers_are_numbers(tmp_path: pathlib.Path) -> None:
    fleet = Fleet(tmp_path, [{}])
    status, said = fleet.run(udpgrm_bake="10s")
    assert (status, fleet.working) == (2, [1])
    assert "udpgrm_bake and udpgrm_pause are seconds" in " ".join(said.split())


def test_words_of_hosts_are_no_templates(tmp_path: pathlib.Path) -> None:
    fleet = Fleet(tmp_path, [{"refuses": "{{ 6 * 7 }} <b>"}, {}])
    status, said = fleet.run()
    assert (status, fleet.working) == (2, [1, 1])
    assert "failed: udpgrm restart: {{ 6 * 7 }} <b>" in said
    assert "{{ 6 * 7 }} &lt;b&gt;" in fleet.report
