# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""Probes against servers of Debian, as processes in the tests' network."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from udpgrm.probes import runner, specs
from udpgrm.probes.runner import ProbeResult
from udpgrm.probes.specs import ProbeSpec

PORT = 4500
WHERE = f"127.0.0.1:{PORT}"
_UP_S = 30.0
_RADIUS = """\
client localhost {{
    ipaddr = 127.0.0.1
    secret = testing123
}}
security {{
    status_server = yes
}}
thread pool {{
}}
modules {{
}}
pidfile = {directory}/pid
server default {{
    listen {{
        type = auth
        ipaddr = 127.0.0.1
        port = {port}
    }}
    authorize {{
    }}
}}
"""
_CADDY = """\
{{
    admin off
    skip_install_trust
    auto_https disable_redirects
    storage file_system {directory}
    servers {{
        protocols h3
    }}
}}
https://localhost:{port} {{
    tls internal
    respond /up 204
}}
"""


@contextmanager
def server(*command: str) -> Iterator[None]:
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        yield
    finally:
        process.kill()
        process.wait()
        if process.stdin is not None:
            process.stdin.close()


def ask(spec: ProbeSpec) -> ProbeResult:
    """Ask until the server is up."""
    deadline = time.monotonic() + _UP_S
    while True:
        result = runner.run(spec, WHERE)
        if result.passed or time.monotonic() > deadline:
            return result


def test_ntp(tmp_path: Path) -> None:
    (tmp_path / "conf").write_text(
        f"port {PORT}\nbindaddress 127.0.0.1\nallow\ncmdport 0\npidfile {tmp_path}/pid\n"
        "bindcmdaddress /\n"
    )
    command = ["chronyd", "-d", "-x", "-u", "root", "-f", str(tmp_path / "conf")]
    with server(*command):
        result = ask(specs.NtpProbe())
        assert result.reason == "NTP stratum 0, not synchronized" or result.passed, str(result)
        unsure = runner.run(specs.NtpProbe(synchronized=True, timeout_s=0.2), WHERE)
        assert not unsure.passed and "not synchronized" in unsure.reason
    with (tmp_path / "conf").open("a") as conf:
        conf.write("local stratum 10\n")
    with server(*command):
        assert ask(specs.NtpProbe(synchronized=True)).reason == "NTP stratum 10"


def test_radius(tmp_path: Path) -> None:
    (tmp_path / "radiusd.conf").write_text(_RADIUS.format(directory=tmp_path, port=PORT))
    with server("freeradius", "-f", "-d", str(tmp_path), "-l", "stdout"):
        result = ask(specs.RadiusProbe(secret="testing123"))
        assert (result.passed, result.reason) == (True, "RADIUS Access-Accept"), str(result)
        wrong = runner.run(specs.RadiusProbe(secret="other", timeout_s=0.3, retries=0), WHERE)
        assert not wrong.passed


def test_coap() -> None:
    with server("coap-server-notls", "-A", "127.0.0.1", "-p", str(PORT)):
        assert ask(specs.CoapProbe()).reason == "CoAP reset"


def test_dtls(tmp_path: Path) -> None:
    key, certificate = str(tmp_path / "key"), str(tmp_path / "certificate")
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"),
            *("-noenc", "-subj", "/CN=a", "-keyout", key, "-out", certificate),
        ],
        check=True,
        capture_output=True,
    )
    arguments = ["-dtls1_2", "-accept", WHERE, "-key", key, "-cert", certificate]
    with server("openssl", "s_server", *arguments):
        result = ask(specs.DtlsProbe())
        assert (result.passed, result.reason) == (True, "DTLS HelloVerifyRequest"), str(result)


def test_http3(tmp_path: Path) -> None:
    (tmp_path / "Caddyfile").write_text(_CADDY.format(directory=tmp_path, port=PORT))
    with server("caddy", "run", "--adapter=caddyfile", f"--config={tmp_path / 'Caddyfile'}"):
        result = ask(specs.QuicProbe(get="/up", server_name="localhost"))
        assert (result.passed, result.reason) == (True, "HTTP/3 GET /up: status 204"), str(result)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["--lt-cred-mech", "--user=a:b", "--realm=example"], "STUN error 401 Unauthorized"),
        (["--no-auth"], ""),
    ],
)
def test_turn(tmp_path: Path, options: list[str], reason: str) -> None:
    arguments = [f"--listening-port={PORT}", "--listening-ip=127.0.0.1", "--relay-ip=127.0.0.1"]
    arguments += ["--no-tcp", "--no-tls", "--no-dtls", "--no-cli", f"--pidfile={tmp_path}/pid"]
    with server(
        "turnserver", "-n", *arguments, "--log-file=stdout", f"--db={tmp_path}/db", *options
    ):
        result = ask(specs.StunProbe(allocate=True))
        assert result.passed and reason in result.reason, str(result)
        assert ask(specs.StunProbe()).reason.startswith("STUN mapped address 127.0.0.1:")
