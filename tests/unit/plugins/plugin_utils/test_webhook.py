# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors

"""Notices of a rollout, as a server gets them."""

from __future__ import annotations

import http.server
import json
import pathlib
import threading
import typing as t

import pytest
from ansible_collections.udpgrm.fleet.plugins.plugin_utils import _webhook

RESULT = {"services": ["echo", "dns"], "by": "ann@control", "summary": ""}
EVENT = _webhook.event("wait", ["fl2", "fl3"], 'gate "x" is shut', RESULT)
TEXT = 'Rolling restart of echo, dns by ann@control waits before fl2, fl3: gate "x" is shut'


class Receiver(http.server.BaseHTTPRequestHandler):
    """Keeps what is posted."""

    got: t.ClassVar[list[tuple[t.Any, t.Any]]] = []

    def do_POST(self) -> None:
        text = self.rfile.read(int(self.headers["Content-Length"]))
        self.got.append((json.loads(text), dict(self.headers)))
        if "moved" in self.path:
            self.send_response(302)
            self.send_header("Location", "/login")
        else:
            self.send_response(500 if "broken" in self.path else 200)
        self.end_headers()

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_arguments: t.Any) -> None:
        """Log nothing."""


@pytest.fixture
def receiver() -> t.Iterator[str]:
    Receiver.got.clear()
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def settings(url: str, template: str = "", **headers: str) -> dict[str, t.Any]:
    return {
        "webhook": _webhook.parse_url(url),
        "webhook_template": _webhook.parse_template(template),
        "webhook_headers": _webhook.parse_headers(headers),
    }


def test_the_event_itself(receiver: str) -> None:
    assert EVENT["text"] == TEXT
    assert _webhook.send(settings(receiver, Authorization="Bearer x"), EVENT) == ""
    ((body, headers),) = Receiver.got
    assert body == EVENT
    assert (headers["Authorization"], headers["Content-Type"]) == ("Bearer x", "application/json")


def test_templates(receiver: str, tmp_path: pathlib.Path) -> None:
    own = tmp_path / "own.j2"
    own.write_text('{"n": {{ batch | length }}}')
    for template in ("slack", "grafana", str(own)):
        assert _webhook.send(settings(receiver, template), EVENT) == ""
    slack, grafana, mine = (body for body, _headers in Receiver.got)
    assert slack == {"text": TEXT}
    assert grafana == {
        "time": int(EVENT["at"] * 1000),
        "tags": ["udpgrm", "wait", "echo", "dns"],
        "text": TEXT,
    }
    assert mine == {"n": 2}


def test_what_cannot_be_sent_is_a_warning(receiver: str, tmp_path: pathlib.Path) -> None:
    wrong = tmp_path / "wrong.j2"
    wrong.write_text("{{ text }}")
    problem = _webhook.send(settings(receiver, str(wrong)), EVENT)
    assert f"got no notice of wait: {wrong}: " in problem
    problem = _webhook.send(settings(f"{receiver}/broken/secret"), EVENT)
    assert "the webhook at 127.0.0.1 got no notice of wait" in problem
    assert "secret" not in problem
    assert "got no notice of wait: Found" in _webhook.send(settings(f"{receiver}/moved"), EVENT)
    assert "refused" in _webhook.send(settings("http://127.0.0.1:1/"), EVENT)
    assert _webhook.send(settings(""), EVENT) == ""


@pytest.mark.parametrize(
    "read, value",
    [
        (_webhook.parse_url, "slack"),
        (_webhook.parse_template, "nosuch.j2"),
        (_webhook.parse_headers, "X: y"),
    ],
)
def test_wrong_values(read: t.Any, value: str) -> None:
    with pytest.raises(ValueError, match="it is "):
        read(value)
