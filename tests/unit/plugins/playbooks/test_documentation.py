# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors

"""The examples of the pages about rollouts do what they say; gates and hooks: tests/monitoring."""

from __future__ import annotations

import datetime
import json
import re
import typing as t

import pytest
import yaml
from ansible_collections.udpgrm.fleet.plugins.plugin_utils import (
    _result,
    _rollout,
    _table,
    _variables,
    _webhook,
    _windows,
)

from testing.documentation import blocks
from testing.processes import ROOT

from ..fake_command import FakeCommand
from ..fake_services import service
from ..playbook import Ansible
from ..plugin_utils.test_result import entry
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
    playbook.write_text(blocks("rollout-variables.md")["a playbook that AWX runs next"])
    stats = {"dns": {"summary": "all 3 hosts run the release"}}
    status, output = ansible.run(playbook, {}, rolling_restart=stats)
    assert (status, "all 3 hosts run the release" in output) == (0, True), output


def documented(page: str) -> dict[str, str]:
    """Return the variables of a page's table with their defaults as they are written."""
    text = (ROOT / "docs" / page).read_text()
    found: dict[str, str] = {}
    for names, default in re.findall(r"^\| (`udpgrm_[^|]*) \|([^|]*)\|", text, re.M):
        keys = re.findall(r"`(\w+)`", names)
        written = default.replace("`", "").strip()
        # one for each, or one for all
        several = written.split(", ") if len(keys) > 1 else [written]
        found.update(zip(keys, several if len(several) > 1 else several * len(keys)))
    return found


def test_every_variable_is_documented_with_its_default() -> None:
    found = documented("rollout-variables.md")
    assert found.keys() == _variables.ROLLING_RESTART.keys()
    for name, (default, _read) in _variables.ROLLING_RESTART.items():
        nothing = default in (None, "", [], {})
        wanted = ("", "none") if nothing else (json.dumps(default), str(default))
        assert found[name] in wanted, name
    short = documented("rolling-restart.md")
    told = {"udpgrm_canary": "first host", "udpgrm_release": "a fingerprint"}
    assert short == {name: told.get(name, found[name]) for name in short}


def test_the_report_on_the_page() -> None:
    drained = {"switch_s": 0.016, "drain_s": 6.1, "flows_carried": 117, "flows_lost": 0}
    counted = {"moved": 0, "dropped": 0}
    nowhere = {"from_generation": None, "to_generation": None}
    entries = [
        entry("fl1", "updated", **drained, **counted),
        entry("fl2", "updated", **{**drained, "switch_s": 0.011, "flows_carried": 111}, **counted),
        entry("fl3", "unreachable", problem="timed out", **nowhere),
        entry("fl4", "untouched", **nowhere),
    ]
    for found in entries:
        found["service"] = "edge"
    reason = _rollout.reason_to_stop(entries, 0, 0.001)
    lines = _table.render(entries, reason, [], _result.sentence(entries, 0.001, reason))
    page = (ROOT / "docs" / "rolling-restart.md").read_text()
    for line in (*lines[:5], lines[-1]):
        assert f"\n    {line}\n" in page
