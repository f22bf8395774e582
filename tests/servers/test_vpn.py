# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""OpenVPN, whose sessions end with their process: for how long a tunnel is interrupted."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from testing.host import wait_for
from testing.waiting import PATIENCE_S
from tests.servers.box import Box

SERVICE = "edge"
SERVER, CLIENT, INSIDE = "10.1.0.1", "10.1.0.2", "10.99.0.1"
CONF = "/etc/openvpn/server/"

_SERVER = f"""\
proto udp4
dev tun
topology subnet
server 10.8.0.0 255.255.255.0
push "route {INSIDE} 255.255.255.255"
ca {CONF}ca.crt
cert {CONF}server.crt
key {CONF}server.key
dh none
keepalive 10 60
"""
_CLIENT = f"client\nproto udp4\ndev tun\nnobind\nremote {SERVER} 1194\n"
_CERTIFICATES = f"""\
cd {CONF}
new="-newkey ec -pkeyopt ec_paramgen_curve:P-256 -noenc"
openssl req -x509 $new -subj /CN=ca -keyout ca.key -out ca.crt
for name in server client; do
  openssl req $new -subj /CN=$name -keyout $name.key -out $name.csr
  openssl x509 -req -in $name.csr -CA ca.crt -CAkey ca.key -CAcreateserial -out $name.crt
done
mkdir -p /run/openvpn-server
"""
#: Asks through the tunnel every 50 ms; prints when (time.monotonic) an answer came.
_ASK = f"""
import contextlib, socket, time
sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
sock.settimeout(0.05)
while True:
    with contextlib.suppress(OSError):
        sock.sendto(b"?", ("{INSIDE}", 9))
        sock.recv(100)
        print(time.monotonic(), flush=True)
    time.sleep(0.05)
"""


def run(*arguments: str) -> None:
    subprocess.run(arguments, check=True)


@pytest.fixture
def client_network(own_network: None) -> Iterator[list[str]]:
    """Words before a command that runs at the other end of a link; the tunnel leads to INSIDE."""
    name = f"udpgrm-vpn-{os.getpid()}"
    run("ip", "netns", "add", name)
    try:
        run("ip", "link", "add", "tovpn", "type", "veth", "peer", "name", "out", "netns", name)
        run("ip", "addr", "add", f"{SERVER}/24", "dev", "tovpn")
        run("ip", "link", "set", "tovpn", "up")
        run("ip", "addr", "add", f"{INSIDE}/32", "dev", "lo")
        run("ip", "-n", name, "addr", "add", f"{CLIENT}/24", "dev", "out")
        run("ip", "-n", name, "link", "set", "out", "up")
        yield ["ip", "netns", "exec", name]
    finally:
        run("ip", "netns", "del", name)
        run("ip", "addr", "del", f"{INSIDE}/32", "dev", "lo")


@contextlib.contextmanager
def process(*arguments: str, **options: object) -> Iterator[subprocess.Popen[str]]:
    started = subprocess.Popen(arguments, text=True, **options)  # type: ignore[call-overload]
    try:
        yield started
    finally:
        started.kill()
        started.communicate()


class Answers:
    """When answers came through the tunnel."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.times: list[float] = []
        assert process.stdout is not None
        self._lines = process.stdout
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        self.times.extend(float(line) for line in self._lines)

    def come(self) -> None:
        """Wait for some more."""
        wanted = len(self.times) + 20
        wait_for(lambda: len(self.times) >= wanted, "answers", timeout=PATIENCE_S)

    def longest_gap(self, since: int) -> float:
        """Return the longest time between two answers, of those from a number on."""
        times = self.times[since - 1 :]
        return max(after - before for before, after in zip(times, times[1:]))


def echo() -> None:
    """Answer what comes out of the tunnel."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind((INSIDE, 9))
        while True:
            data, peer = sock.recvfrom(100)
            sock.sendto(data, peer)


def test_a_tunnel_is_interrupted_briefly(
    client_network: list[str], box: Box, tmp_path: Path, figure: Callable[[str], None]
) -> None:
    """The old instance serves to the end of its drain, then its client is told to connect again."""
    box.write(Path(CONF, "server.conf"), _SERVER)
    box.run("sh", "-ec", _CERTIFICATES)
    for name in ("ca.crt", "client.crt", "client.key"):
        (tmp_path / name).write_text(box.run("cat", CONF + name))
    (tmp_path / "conf").write_text(_CLIENT + "ca ca.crt\ncert client.crt\nkey client.key\n")
    new = ["udpgrm", "service", "new", SERVICE, "--profile=openvpn"]
    box.run(*new, f"--address={SERVER}:1194")
    box.write(Path(f"/etc/udpgrm/services.d/{SERVICE}.yaml"), "drain: {max_s: 5}\n")
    box.restart(SERVICE)
    threading.Thread(target=echo, daemon=True).start()
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with (
        process(*client_network, "openvpn", "--cd", str(tmp_path), "--config", "conf", **quiet),
        process(*client_network, sys.executable, "-c", _ASK, stdout=subprocess.PIPE) as asking,
    ):
        answers = Answers(asking)
        answers.come()
        journal = box.restart(SERVICE)
        answers.come()
        moved = answers.longest_gap(1)
        since = len(answers.times)
        box.run("systemctl", "restart", f"{SERVICE}@{journal['to_generation']}.service")
        answers.come()
        plain = answers.longest_gap(since)
    figure(f"openvpn: tunnel interrupted for {moved:.1f} s, by systemctl restart {plain:.1f} s")
    assert moved < plain / 2
