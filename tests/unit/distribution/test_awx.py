# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""Examples for AWX agree with the playbook and with what is tested."""

from __future__ import annotations

import json
import re
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[3]
AWX = ROOT / "distribution/awx"
#: Variables and defaults of a rolling restart, as its page has them.
TABLE = re.findall(
    r"^\| `(udpgrm_\w+)`[^|]*\| (?:`([^`]*)`)?",
    (ROOT / "docs/rollout-variables.md").read_text(),
    re.M,
)


def test_the_survey_asks_for_variables_of_the_playbook() -> None:
    survey = json.loads((AWX / "survey.json").read_text())
    documented = dict(TABLE)
    assert survey["spec"]
    for question in survey["spec"]:
        assert question["variable"] in documented
        assert str(question["default"]) == documented[question["variable"]]


def test_the_execution_environment_has_an_ansible_core_that_is_tested() -> None:
    definition = yaml.safe_load((AWX / "execution-environment.yml").read_text())
    wanted = definition["dependencies"]["ansible_core"]["package_pip"]
    assert wanted in (ROOT / "requirements-dev.txt").read_text().splitlines()


def test_the_rulebook_names_alerts() -> None:
    rules = yaml.safe_load((ROOT / "monitoring/alerts.yml").read_text())
    alerts = {rule["alert"] for group in rules["groups"] for rule in group["rules"]}
    rulebook = (ROOT / "extensions/eda/rulebooks/rollback.yml").read_text()
    named = set(re.findall(r'alertname == "(\w+)"', rulebook))
    assert named
    assert named <= alerts
