# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors

"""Test the result of a rollout, for people and for machines."""

from __future__ import annotations

import json
import pathlib
import typing as t

import pytest
from ansible_collections.udpgrm.fleet.plugins.plugin_utils import (
    _page,
    _result,
    _run,
    _variables,
)

jsonschema = pytest.importorskip("jsonschema")

SCHEMA = json.loads(
    (
        pathlib.Path(_result.__file__).resolve().parents[2]
        / "playbooks"
        / "files"
        / "udpgrm-report.schema.json"
    ).read_text()
)
AGAIN = "run the same command again, which passes over hosts that are done"


def entry(host: str, status: str, **more: t.Any) -> dict[str, t.Any]:
    names = ("switch_s", "drain_s", "flows_carried", "flows_lost", "moved", "dropped")
    figures: dict[str, t.Any] = dict.fromkeys(names)
    generations = {"from_generation": 1, "to_generation": 2}
    lists: dict[str, t.Any] = {"samples": [], "steps": [], "shares": None}
    flags = {"went_back": False, "drains": False, "problem": ""}
    return {
        "host": host,
        "service": "echo",
        "status": status,
        **figures,
        **generations,
        **lists,
        **flags,
        **more,
    }


def entries(*statuses: str) -> list[dict[str, t.Any]]:
    return [entry(f"fl{number}", status) for number, status in enumerate(statuses, start=1)]


WORSE = {"shares": {"before": 0.0, "after": 0.5}}


@pytest.mark.parametrize(
    ("found", "state", "sentence"),
    [
        (
            entries("updated", "unchanged"),
            "succeeded",
            "all 2 hosts run the release, nothing is left to do",
        ),
        (entries("updated"), "succeeded", "fl1 runs the release, nothing is left to do"),
        (entries("unchanged"), "succeeded", "fl1 ran the release already, nothing was done"),
        (
            entries("planned", "unchanged"),
            "planned",
            "all 2 hosts would be restarted or are done already: run it without --check",
        ),
        (
            entries("updated", "rolled_back", "failed"),
            "failed",
            f"2 of 3 hosts (fl2, fl3) failed: repair them, then {AGAIN}",
        ),
        (
            entries("planned", "failed"),
            "failed",
            f"1 of 2 hosts (fl2) failed: repair it, then {AGAIN}",
        ),
        (
            [
                entry("fl1", "updated", drains=True),
                entry("fl2", "untouched"),
                entry("fl3", "unreachable"),
            ],
            "stopped",
            "1 of 3 hosts (fl3) failed, 1 not begun: "
            f"repair it, then {AGAIN} (or go back with udpgrm.fleet.rollback: fl1 can)",
        ),
        (
            [entry("fl1", "updated", **WORSE), entry("fl2", "untouched")],
            "stopped",
            "1 of 2 hosts (fl1) drop or misdirect more packets than before, 1 not begun: "
            f"repair it, then {AGAIN}",
        ),
        (entries("updated", "untouched"), "failed", f"1 of 2 hosts (fl2) not restarted: {AGAIN}"),
        (
            [entry("fl1", "rolled_back", went_back=True, **WORSE), entry("fl2", "rolled_back")],
            "failed",
            "1 of 2 hosts (fl2) failed, 1 of 2 hosts (fl1) drop or misdirect more packets than "
            f"before: repair them, then {AGAIN}",
        ),
    ],
)
def test_the_end(found: list[dict[str, t.Any]], state: str, sentence: str) -> None:
    assert _result.state(found, 0.001, "") == state
    assert _result.sentence(found, 0.001, "") == sentence


def settings_of(directory: pathlib.Path, **given: t.Any) -> dict[str, t.Any]:
    page = str(directory / "page.html")
    variables = {"udpgrm_service": "echo", "udpgrm_report": page, **given}
    return _variables.settings(variables, lambda value: value)


@pytest.mark.parametrize("ended", [True, False])
def test_the_result_is_as_its_schema_says(tmp_path: pathlib.Path, ended: bool) -> None:
    settings = settings_of(tmp_path)
    found = entries("updated", "failed", "untouched")
    found[0].update(switch_s=0.01, drain_s=3.5, flows_carried=7, flows_lost=0, moved=0, dropped=0)
    assert _page.write(settings, found, "1 failed", ["waited"], ended) == ""
    result = json.loads((tmp_path / "page.json").read_text())
    jsonschema.Draft7Validator.check_schema(SCHEMA)
    jsonschema.validate(result, SCHEMA)
    assert result["state"] == ("stopped" if ended else "running")
    assert bool(result["summary"]) == ended
    assert result["counts"]["updated"] == 1
    assert [host["status"] for host in result["hosts"]] == ["updated", "failed", "untouched"]
    changes: list[dict[str, t.Any]] = [{"state": "well"}, {"more": 1}, {"hosts": [{}]}]
    for change in changes:
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate({**result, **change}, SCHEMA)


def test_the_page_says_who_did_what(tmp_path: pathlib.Path) -> None:
    headers = {"Authorization": "Bearer hunter2"}
    gate = {"url": "http://127.0.0.1:1/ready?token=hunter2"}
    given = {"udpgrm_release": "v7", "udpgrm_bake": 0, "udpgrm_canary": ""}
    secret = {"udpgrm_gates": [gate], "udpgrm_webhook_headers": headers}
    settings = settings_of(tmp_path, **given, **secret)
    found = entries("updated", "updated", "failed", "untouched")
    for item in found[:2]:
        item.update(flows_carried=7, flows_lost=0, moved=1, dropped=2)
    found[2].update(flows_carried=1)
    assert _page.write(settings, found, "", [], ended=True) == ""
    page = (tmp_path / "page.html").read_text()
    assert f"4 hosts, by {_run.by()}, release v7</p>" in page
    assert "<code>udpgrm_bake=0</code>" in page
    assert "<code>udpgrm_webhook_headers=set</code>" in page
    assert "udpgrm_canary" not in page
    assert "hunter2" not in page
    totals = ["2 updated, 1 failed, 1 untouched", "", "", "", "15", "≥ 0", "≥ 2", "≥ 4"]
    assert f"<tr><th>all{''.join(f'<th>{text}' for text in totals)}</tr>" in page
    # what was not begun has nothing that could be unknown
    assert _page.totals(entries("unchanged", "planned"))["moved"] == "\N{EN DASH}"


def test_paths_that_cannot_be_written(tmp_path: pathlib.Path) -> None:
    _page.check(str(tmp_path / "page.html"))
    with pytest.raises(ValueError, match=r"end it with \.html"):
        _page.check(str(tmp_path / "page.json"))
    (tmp_path / "page.json").mkdir()
    with pytest.raises(ValueError, match=r"page\.json cannot be written: it is not a file"):
        _page.check(str(tmp_path / "page.html"))
