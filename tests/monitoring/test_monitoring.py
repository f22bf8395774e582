# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""A real Prometheus scrapes a real host: the rules and the dashboard's queries have answers."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import udpgrm.client as grm
from testing.host import COMMAND, ROOT, Host, answer, client, wait_for
from tests.kernel.commands.test_exporter import EXPORTER, get, running

MONITORING = ROOT / "monitoring"
PROMETHEUS = "http://127.0.0.1:9090"


def query(expression: str) -> list[dict[str, Any]]:
    """Return the samples of an expression."""
    query = urllib.parse.urlencode({"query": expression})
    document = json.loads(get(f"{PROMETHEUS}/api/v1/query?{query}"))
    assert document["status"] == "success", document
    result: list[dict[str, Any]] = document["data"]["result"]
    return result


def expressions() -> list[str]:
    """Return the dashboard's queries, its variables filled in."""
    board = json.loads((MONITORING / "dashboard.json").read_text())
    found = [target["expr"] for panel in board["panels"] for target in panel["targets"]]
    found += [item["expr"] for item in board["annotations"]["list"]]
    return [
        re.sub(r"\$(instance|address)", ".*", text).replace("$__rate_interval", "1m")
        for text in found
    ]


@pytest.fixture
def scraped(host: Host, tmp_path: Path) -> Iterator[Host]:
    """Yield a host with two generations that were asked, and a Prometheus that has scraped it."""
    config = tmp_path / "prometheus.yml"
    config.write_text(
        "global: {scrape_interval: 1s, evaluation_interval: 1s}\n"
        f"rule_files: [{MONITORING}/recording.yml, {MONITORING}/alerts.yml]\n"
        f"scrape_configs: [{{job_name: udpgrm, static_configs: [{{targets: ['{EXPORTER}']}}]}}]\n"
    )
    old, new = grm.bind("127.0.0.1:4433", 1), grm.bind("127.0.0.1:4433", 1)
    grm.enroll(old, 1)
    grm.promote(old[0], 1)
    ask(old, 5)
    grm.enroll(new, 2)
    grm.promote(new[0], 2)
    ask(new, 5)
    command = [*COMMAND, f"--pin-dir={host.directory}", "metrics", f"--listen={EXPORTER}"]
    storage = f"--storage.tsdb.path={tmp_path}/data"
    prometheus = ["prometheus", f"--config.file={config}", storage]
    with running(*command), running(*prometheus):
        up = "count_over_time(udpgrm_daemon_up[1h]) > 3"
        wait_for(lambda: get(f"{PROMETHEUS}/-/ready") and query(up), "three scrapes", 120)
        yield host
    for sock in (*old, *new):
        sock.close()


def ask(sockets: list[socket.socket], count: int) -> None:
    """Have new clients ask sockets that answer."""
    clients = [client() for _ in range(count)]
    for one in clients:
        one.sendto(b"?", ("127.0.0.1", 4433))
    answer(sockets, count)
    for one in clients:
        one.close()


def test_every_query_of_the_dashboard_has_an_answer(scraped: Host) -> None:
    empty = [text for text in expressions() if not query(text)]
    assert all("changes(" in text or "_errors_total" in text for text in empty), empty
    flows = {
        item["metric"]["generation"]: item["value"][1] for item in query("udpgrm_generation_flows")
    }
    assert flows == {"1": "5", "2": "5"}
    assert [item["value"][1] for item in query("address:udpgrm_draining_flows:sum")] == ["5"]


def test_no_alert_fires_while_all_is_well(scraped: Host) -> None:
    document = json.loads(get(f"{PROMETHEUS}/api/v1/rules"))
    rules = [rule for group in document["data"]["groups"] for rule in group["rules"]]
    assert len(rules) == 9
    assert [rule["name"] for rule in rules if rule["health"] == "err"] == []
    assert query('ALERTS{alertstate="firing"}') == []


def test_rules_do_what_their_tests_say() -> None:
    subprocess.run(["promtool", "test", "rules", MONITORING / "rules_test.yml"], check=True)
