# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""The HTTP server of metrics, for a Prometheus server that scrapes this host.

Serves GET /metrics and nothing else. It runs as root, and every host that reaches the address is
a client, so its resources are bounded: connections at a time, seconds for a request, and one
reading of the state a second for all clients.
"""

from __future__ import annotations

import socket
import threading
import time
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Callable

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_MOST_CONNECTIONS = 16
_REQUEST_TIMEOUT_S = 10.0
_READ_EVERY_S = 1.0


class _Handler(BaseHTTPRequestHandler):
    """The handler of one request; the connection ends with it."""

    server_version = "udpgrm"
    sys_version = ""
    timeout = _REQUEST_TIMEOUT_S

    def do_GET(self) -> None:
        """Answer with the metrics, or 404."""
        if self.path.partition("?")[0] != "/metrics":
            self.send_error(HTTPStatus.NOT_FOUND)
            return
        assert isinstance(self.server, Exporter)
        try:
            body = self.server.text().encode()
        except Exception as error:  # the state is of another version, say: the next may be well
            self.send_error(HTTPStatus.SERVICE_UNAVAILABLE, explain=str(error))
            return
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", CONTENT_TYPE)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Log nothing: scrapes come every few seconds."""


class Exporter(ThreadingHTTPServer):
    """An HTTP server of one text, which `read` makes. Raises OSError if it cannot bind."""

    daemon_threads = True

    def __init__(self, address: tuple[str, int], family: int, read: Callable[[], str]) -> None:
        """Listen at an address; `serve_forever` serves."""
        self.address_family = socket.AddressFamily(family)
        self._read = read
        self._lock = threading.Lock()
        self._text = ""
        self._read_at = float("-inf")
        self._places = threading.BoundedSemaphore(_MOST_CONNECTIONS)
        super().__init__(address, _Handler)

    def text(self) -> str:
        """Return the metrics, read within the last second."""
        with self._lock:
            if time.monotonic() - self._read_at > _READ_EVERY_S:
                self._text = self._read()
                self._read_at = time.monotonic()
            return self._text

    def process_request(self, request: Any, client_address: Any) -> None:
        """Serve a connection in a thread; close it at once if too many are served."""
        if not self._places.acquire(blocking=False):
            self.shutdown_request(request)
            return
        super().process_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Serve a connection, then release its slot."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._places.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignore clients that have disconnected."""
