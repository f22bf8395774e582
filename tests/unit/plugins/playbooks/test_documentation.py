# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors

"""The examples of the pages about rollouts do what they say; gates and hooks: tests/monitoring."""

from __future__ import annotations

import datetime
import json
import typing as t

import pytest
import yaml
from ansible_collections.udpgrm.fleet.plugins.plugin_utils import _webhook, _windows

from testing.documentation import blocks
from testing.processes import ROOT

from ..fake_command import FakeCommand
from ..fake_services import service
from ..playbook import Ansible
from ..plugin_utils.test_webhook import Receiver, receiver
from .fleet import Fleet

__all__ = ["receiver"]


def test_several_services_in_a_playbook(ansible: Ansible) -> None:
    playbook = ansible.directory / "site.yml"
    playbook.write_text(blocks("several-services.md")["site.yml"])
    # a pattern is the name of a group or of a host
    hosts = {
        name: FakeCommand(ansible.directory / name, services=[service(of)])
        for name, of in (("dns", "dns"), ("edge", "quic"))
    }
    status, output = ansible.run(playbook, hosts)
    assert status == 0, output
    assert "dns: 1 updated" in output and "quic: 1 updated" in output
    for name in ("dns", "quic"):
        result = json.loads((ansible.directory / f"{name}.json").read_text())
        assert (result["services"], result["state"]) == ([name], "succeeded")


def test_windows_and_domains(ansible: Ansible) -> None:
    examples = blocks("rollout-order.md")
    windows = _windows.parse(yaml.safe_load(examples["windows.yml"])["udpgrm_windows"])
    saturday = datetime.datetime(2026, 3, 7, 12, tzinfo=datetime.timezone.utc)
    assert _windows.closed(windows, saturday) == ""
    assert _windows.closed(windows, saturday + datetime.timedelta(days=1))
    fleet = Fleet(ansible, [{}, {}])
    variables = ansible.directory / "host_vars"
    variables.mkdir()
    (variables / "fl1.yml").write_text(examples["inventory/host_vars/fl1.yml"])
    status, output = fleet.run(udpgrm_max_domains=1)
    assert (status != 0, fleet.working) == (True, [1, 1]), output
    assert "udpgrm_domain: fl2 have none" in " ".join(output.split())


def test_an_annotation_of_grafana(
    ansible: Ansible, receiver: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GRAFANA_TOKEN", "x")
    example = ansible.directory / "grafana.yml"
    example.write_text(blocks("rollout-notices.md")["grafana.yml"])
    url = json.dumps({"udpgrm_webhook": receiver})
    fleet = Fleet(ansible, [{}])
    status, output = fleet.run(f"--extra-vars=@{example}", f"--extra-vars={url}")
    assert status == 0, output
    bodies, headers = zip(*Receiver.got)
    assert {found["Authorization"] for found in headers} == {"Bearer x"}
    tags = [body["tags"] for body in bodies]
    assert tags == [["udpgrm", event, "echo"] for event in ("begin", "end")]
    # and what a body has without a template
    text = (ROOT / "docs" / "rollout-notices.md").read_text()
    shown = json.loads(text.partition("```json\n")[2].partition("```")[0])
    result: dict[str, t.Any] = {"services": ["edge"], "by": "ann@control"}
    event = _webhook.event("batch", ["fl2", "fl3"], "", result)
    assert (shown.keys(), shown["text"]) == (event.keys(), event["text"])


def test_the_next_job_gets_the_result(ansible: Ansible) -> None:
    playbook = ansible.directory / "next.yml"
    playbook.write_text(blocks("rolling-restart.md")["a playbook that AWX runs next"])
    stats = {"dns": {"summary": "all 3 hosts run the release"}}
    status, output = ansible.run(playbook, {}, rolling_restart=stats)
    assert (status, "all 3 hosts run the release" in output) == (0, True), output
