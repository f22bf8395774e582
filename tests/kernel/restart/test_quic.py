# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""A QUIC server whose connection IDs carry the cookie is restarted, proven by handshakes."""

from __future__ import annotations

import datetime
import json
import sys
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from testing import host
from testing.host import ROOT
from testing.waiting import PATIENCE_S
from tests.kernel.restart_fixtures import edge
from tests.kernel.restarts import UNTIL_NO_FLOWS, WHERE, Edge, serving_only
from udpgrm.probes import runner, specs

__all__ = ["edge"]

HANDSHAKE = {"type": "quic", "handshake": True, "timeout_s": 30, "retries": 1}


def write_certificate(directory: Path) -> tuple[Path, Path]:
    """Write a self-signed certificate, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "edge.test")])
    now = datetime.datetime.now(datetime.timezone.utc)
    day = datetime.timedelta(days=1)
    builder = x509.CertificateBuilder(name, name, key.public_key(), 1, now - day, now + day)
    certificate = builder.sign(key, hashes.SHA256())
    pem = serialization.Encoding.PEM
    private = key.private_bytes(
        pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    paths = directory / "certificate.pem", directory / "key.pem"
    for path, content in zip(paths, (certificate.public_bytes(pem), private)):
        path.write_bytes(content)
    return paths


@pytest.fixture(autouse=True)
def interpreter(monkeypatch: pytest.MonkeyPatch) -> None:
    """Run the command where aioquic is: Debian 12 has no package of it."""
    monkeypatch.setattr("testing.host.COMMAND", [sys.executable, *host.COMMAND])


#: Connection IDs that no socket has: with a wrong checksum.
FORGETFUL = """
import dataclasses
import udpgrm.client as grm
true = grm.socket_generation
def wrong(sock):
    found = true(sock)
    return dataclasses.replace(found, cookie=found.cookie ^ 0x20)
grm.socket_generation = wrong
"""


def deploy(edge: Edge, directory: Path, before: str = "") -> None:
    """Deploy the example server as the service, its generation 1 working.

    before: code to run first.
    """
    certificate, key = write_certificate(directory)
    edge.server.write_text(
        f"""
import runpy, sys
sys.path.insert(0, {str(ROOT)!r})
{before}
generation, address = sys.argv[1:3]
sys.argv[1:] = [f"--generation={{generation}}", f"--address={{address}}", "--sockets=2"]
sys.argv += [{f"--certificate={certificate}"!r}, {f"--key={key}"!r}]
runpy.run_path({str(ROOT / "examples/h3_server.py")!r}, run_name="__main__")
"""
    )
    edge.define(
        probes=[HANDSHAKE, {"type": "quic"}],
        drain={**UNTIL_NO_FLOWS, "until": {"flows": None, "quiet_s": 2}},
    )
    done = edge.restart("--json")
    assert done.returncode == 0, done.stdout + done.stderr


def evidence(printed: str) -> dict[str, Any]:
    """Return the evidence of each step."""
    return {step["step"]: step["evidence"] for step in json.loads(printed)["steps"]}


def brief(entries: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
    """Return the generations that got and answered the last packet of each probe, and its path."""
    return [
        (entry["received_generation"], entry["path"], entry["replied_generation"])
        for entry in entries
    ]


def test_handshakes_prove_a_restart(edge: Edge, tmp_path: Path) -> None:
    deploy(edge, tmp_path)
    with runner.hold(specs.QuicProbe(handshake=True), WHERE) as user:
        assert user.ask().passed
        command = edge.start("restart", "edge", "--json")
        edge.await_step("drain")
        # a connection that was there before is the old instance's, which alone has its keys
        assert user.ask().passed
    printed, errors = command.communicate(timeout=PATIENCE_S)
    assert command.returncode == 0, printed + errors
    seen = evidence(printed)
    assert brief(seen["canary"]["probes"]) == [(2, "steered", 2), (2, "steered", 2)]
    # the last packet of a handshake carries the server's ID; Version Negotiation has one packet
    assert brief(seen["verify"]["probes"]) == [(2, "existing", 2), (2, "new", 2)]
    assert brief(seen["verify"]["old_flows"]) == [(1, "existing", 1)]
    assert serving_only(edge, 2)


def test_a_server_without_cookies_goes_back(edge: Edge, tmp_path: Path) -> None:
    """Roll back a server whose connection from before the promotion does not live on."""
    deploy(edge, tmp_path, FORGETFUL)
    done = edge.restart("--json")
    assert done.returncode == 1, done.stdout + done.stderr
    failed = next(step for step in json.loads(done.stdout)["steps"] if step["result"] == "failed")
    assert failed["step"] == "verify"
    assert "wanted generation 1 to get it as existing" in failed["reason"]
    assert serving_only(edge, 1)
