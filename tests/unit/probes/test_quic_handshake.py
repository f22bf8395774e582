# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""The QUIC handshake against aioquic's server; without aioquic, a clear word."""

from __future__ import annotations

import asyncio
import datetime
import importlib
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from testing.waiting import PATIENCE_S
from tests.unit.probes.servers import closed_port, server
from udpgrm.probes import runner, specs

HANDSHAKE = specs.QuicProbe(handshake=True, server_name="edge.test", timeout_s=60)


def configuration() -> Any:
    """Return the configuration of a server with a self-signed certificate."""
    x509 = importlib.import_module("cryptography.x509")
    hashes = importlib.import_module("cryptography.hazmat.primitives.hashes")
    ec = importlib.import_module("cryptography.hazmat.primitives.asymmetric.ec")
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "edge.test")])
    now = datetime.datetime.now(datetime.timezone.utc)
    day = datetime.timedelta(days=1)
    builder = x509.CertificateBuilder(name, name, key.public_key(), 1, now - day, now + day)
    return importlib.import_module("aioquic.quic.configuration").QuicConfiguration(
        is_client=False,
        alpn_protocols=["h3"],
        certificate=builder.sign(key, hashes.SHA256()),
        private_key=key,
    )


@pytest.fixture(scope="module")
def quic_server() -> Iterator[str]:
    """Yield the address of a server that speaks h3's ALPN."""
    aioquic = importlib.import_module("aioquic.asyncio")
    h3 = importlib.import_module("aioquic.h3.connection")
    loop = asyncio.new_event_loop()

    class Protocol(aioquic.QuicConnectionProtocol):  # type: ignore[misc,name-defined]
        """Answers each request with a status that its path names."""

        http: Any = None

        def quic_event_received(self, event: Any) -> None:
            if self.http is None:
                self.http = h3.H3Connection(self._quic)
            for found in self.http.handle_event(event):
                path = dict(found.headers)[b":path"]
                self.http.send_headers(found.stream_id, [(b":status", path[1:])], end_stream=True)

    serving = loop.run_until_complete(
        aioquic.serve("127.0.0.1", 0, configuration=configuration(), create_protocol=Protocol)
    )
    port = serving._transport.get_extra_info("sockname")[1]
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    yield f"127.0.0.1:{port}"
    loop.call_soon_threadsafe(serving.close)
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


def test_version_negotiation_by_a_real_server(quic_server: str) -> None:
    result = runner.run(specs.QuicProbe(), quic_server)
    assert result.passed, result
    assert result.reason.startswith("Version Negotiation, 0x00000001")


def test_handshake_and_pings_on_one_connection(quic_server: str) -> None:
    with runner.hold(HANDSHAKE, quic_server) as held:
        results = [held.ask() for _ in range(3)]
    for result in results:
        assert result.passed, result
        assert result.reason == "QUIC handshake and PING, ALPN h3"
        assert result.source == held.source
    # later questions are short: the connection is there
    assert len(results[1].sent) < 200


def test_get_by_http3(quic_server: str) -> None:
    spec = specs.QuicProbe(get="/204", server_name="edge.test", timeout_s=60)
    with runner.hold(spec, quic_server) as held:
        results = [held.ask() for _ in range(2)]
    assert [(found.passed, found.reason) for found in results] == [
        (True, "HTTP/3 GET /204: status 204")
    ] * 2


def test_no_server_for_a_get() -> None:
    with closed_port() as where:
        result = runner.run(specs.QuicProbe(get="/", timeout_s=0.2, retries=0), where)
    assert (result.passed, result.reason) == (
        False,
        "no QUIC handshake and GET / in time: Connection refused",
    )


def test_no_common_protocol(quic_server: str) -> None:
    result = runner.run(specs.QuicProbe(handshake=True, alpn=("doq",)), quic_server)
    assert not result.passed
    assert result.reason.startswith("QUIC connection closed, error 0x178")


def test_no_server() -> None:
    spec = specs.QuicProbe(handshake=True, timeout_s=0.2, retries=0)
    with closed_port() as where:
        result = runner.run(spec, where)
    assert not result.passed
    assert result.reason == "no QUIC handshake and PING in time: Connection refused"
    assert result.elapsed_s < PATIENCE_S


def test_nonsense_is_no_handshake() -> None:
    spec = specs.QuicProbe(handshake=True, timeout_s=0.2, retries=0)
    with server(lambda data, _number: [data, b"x" * 1200, b""]) as there:
        result = runner.run(spec, there.address)
    assert not result.passed
    assert result.reason == "no QUIC handshake and PING in time: no reply"


def test_without_aioquic(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [*filter(lambda name: name.startswith("aioquic"), sys.modules), "aioquic"]:
        monkeypatch.setitem(sys.modules, name, None)
    with closed_port() as where:
        result = runner.run(HANDSHAKE, where)
    assert not result.passed
    assert "needs aioquic: install it" in result.reason
    assert result.attempts == 0
