# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors

"""Requests end in their time, whatever a server sends."""

from __future__ import annotations

import http.server
import threading
import time
import typing as t

import pytest
from ansible_collections.udpgrm.fleet.plugins.plugin_utils import _approval, _gates, _webhook

UP = {"prometheus": "", "query": "up", "condition": "== 1"}
#: How long the server sends one byte after the other, each of them in a socket's time.
DRIP_S = 5.0
LATE = "it was not complete within 0.3 s"


class Dripping(http.server.BaseHTTPRequestHandler):
    """Sends its headers, its body or that of an error one byte at a time, and then ends well."""

    def do_GET(self) -> None:
        if "headers" in self.path:
            self.wfile.write(b"HTTP/1.1 200 OK\r\nX: ")
            self._drip()
            self.wfile.write(b"\r\n\r\n")
            return
        self.send_response(503 if "error" in self.path else 200)
        self.end_headers()
        self._drip()

    do_POST = do_GET

    def _drip(self) -> None:
        end = time.monotonic() + DRIP_S
        try:
            while time.monotonic() < end:
                self.wfile.write(b" ")
                time.sleep(0.05)
        except OSError:
            self.close_connection = True

    def log_message(self, *_arguments: t.Any) -> None:
        """Log nothing."""


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> t.Iterator[str]:
    monkeypatch.setattr(_gates, "TIMEOUT_S", 0.3)
    for module in (_webhook, _approval):
        monkeypatch.setattr(module, "_TIMEOUT_S", 0.3)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Dripping)
    server.block_on_close = False
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("path", ["headers", "body", "error"])
def test_an_answer_that_comes_byte_by_byte_is_none(server: str, path: str) -> None:
    url = f"{server}/{path}"
    for given in ({"url": url}, {**UP, "prometheus": url}):
        (gate,) = _gates.parse([given])
        assert _gates.problem(gate) == f"no answer: {LATE}"
    settings = {"webhook": url, "webhook_template": "", "webhook_headers": {}}
    sent = _webhook.send(settings, {"event": "end"})
    assert sent == f"the webhook at 127.0.0.1 got no notice of end: {LATE}"
    approval = _approval.Approval(url, "Go?", "fl1", 60, lambda _text, _seconds: "")
    assert approval.ask().wait
