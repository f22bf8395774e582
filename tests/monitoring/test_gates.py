# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""The example of docs/rollout-gates.md, asked of a real Prometheus."""

from __future__ import annotations

import http.server
import importlib
import sys
import threading
import typing as t
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from testing.documentation import blocks
from testing.host import ROOT, wait_for
from testing.processes import started

from .test_hooks import is_there

PROMETHEUS = "http://127.0.0.1:9090"
EXAMPLE = yaml.safe_load(blocks("rollout-gates.md")["gates.yml"])


class Metrics(http.server.BaseHTTPRequestHandler):
    """Answers with one metric."""

    value = "0"

    def do_GET(self) -> None:
        text = f"edge_errors_total {self.value}\nedge_nothing NaN\n".encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/plain")
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_arguments: t.Any) -> None:
        """Log nothing."""


@pytest.fixture
def gates(monkeypatch: pytest.MonkeyPatch) -> t.Any:
    monkeypatch.syspath_prepend(str(ROOT / "build" / "collections"))
    package = "ansible_collections.udpgrm.fleet.plugins.plugin_utils"
    for name in [name for name in sys.modules if name.startswith("ansible_collections")]:
        monkeypatch.delitem(sys.modules, name)
    return importlib.import_module(f"{package}._gates")


@pytest.fixture
def prometheus(tmp_path: Path) -> Iterator[None]:
    """Yield a Prometheus that scrapes one metric each second."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Metrics)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    config = tmp_path / "prometheus.yml"
    config.write_text(
        "global: {scrape_interval: 1s}\nscrape_configs: [{job_name: edge, static_configs: "
        f"[{{targets: ['127.0.0.1:{server.server_port}']}}]}}]\n"
    )
    command = ["prometheus", f"--config.file={config}", f"--storage.tsdb.path={tmp_path / 'data'}"]
    command += ["--web.listen-address=127.0.0.1:9090", "--log.level=error"]
    try:
        with started(command):
            wait_for(lambda: is_there(f"{PROMETHEUS}/-/ready"), "Prometheus")
            yield
    finally:
        server.shutdown()
        server.server_close()


@pytest.mark.usefixtures("prometheus")
def test_the_example_and_what_a_query_may_return(gates: t.Any) -> None:
    errors, ready, _command = gates.parse(EXAMPLE["udpgrm_gates"])
    assert gates.problem(ready) == ""
    wait_for(lambda: gates.problem(errors) == "", "two scrapes", pause=0.5)

    def problem(query: str, condition: str) -> str:
        return str(
            gates.problem(
                gates.parse([{"prometheus": PROMETHEUS, "query": query, "condition": condition}])[0]
            )
        )

    assert problem("no_such_metric", "< 1") == "no data"
    assert problem("no_such_metric or vector(0)", "< 1") == ""
    assert problem("edge_nothing", "!= 1").startswith("nan is not != 1 (")
    assert problem("scalar(vector(3))", ">= 3") == ""
    assert problem("edge_errors_total[1m]", "< 1").startswith("the query returns a matrix")
    assert problem("sum(", "< 1").startswith("status 400: ")
    Metrics.value = "1000"
    wait_for(lambda: "is not < 0.5" in gates.problem(errors), "the errors", pause=0.5)


def test_a_server_that_is_away(gates: t.Any) -> None:
    errors, ready, _command = gates.parse(EXAMPLE["udpgrm_gates"])
    assert gates.problem(errors).startswith("no answer: ")
    assert gates.problem(ready).startswith("no answer: ")
