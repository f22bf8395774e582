# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""VPN servers, whose sessions end with their process: for how long a tunnel is interrupted."""

from __future__ import annotations

import contextlib
import os
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
#: As the profile of wireguard-go says, and the one of openvpn that it may be some seconds.
MOST_S = 2
QUIET = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
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
_WIREGUARD_SERVER = """\
[Interface]
Address = 10.98.0.1/24
PrivateKey = {private}
[Peer]
PublicKey = {public}
AllowedIPs = 10.98.0.2/32
"""
_WIREGUARD_CLIENT = f"""\
[Interface]
PrivateKey = {{private}}
[Peer]
PublicKey = {{public}}
AllowedIPs = 10.98.0.0/24, {INSIDE}/32
Endpoint = {SERVER}:51820
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
#: Answers what comes out of the tunnel.
_ECHO = f"""
import contextlib, socket
sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
sock.bind(("{INSIDE}", 9))
while True:
    with contextlib.suppress(OSError):  # no route for a moment
        sock.sendto(*sock.recvfrom(100))
"""


def run(*arguments: str) -> None:
    subprocess.run(arguments, check=True)


def output(*words: str, text: str = "") -> str:
    done = subprocess.run(words, input=text, stdout=subprocess.PIPE, text=True, check=True)
    return done.stdout.strip()


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
    """The times at which answers came through the tunnel."""

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


def test_a_tunnel_is_interrupted_briefly(
    client_network: list[str],
    box: Box,
    tmp_path: Path,
    restarts: int,
    figure: Callable[[str], None],
) -> None:
    """Serve with the old instance until its drain ends, and then let its client connect again."""
    box.write(Path(CONF, "server.conf"), _SERVER)
    box.run("sh", "-ec", _CERTIFICATES)
    for name in ("ca.crt", "client.crt", "client.key"):
        (tmp_path / name).write_text(box.run("cat", CONF + name))
    (tmp_path / "conf").write_text(_CLIENT + "ca ca.crt\ncert client.crt\nkey client.key\n")
    new = ["udpgrm", "service", "new", SERVICE, "--profile=openvpn"]
    box.run(*new, f"--address={SERVER}:1194")
    box.write(Path(f"/etc/udpgrm/services.d/{SERVICE}.yaml"), "drain: {max_s: 2}\n")
    box.restart(SERVICE)
    command = ("openvpn", "--cd", str(tmp_path), "--config", "conf")
    with process(*client_network, *command, **QUIET):
        moved, plain = interruptions(client_network, box, restarts)
    figure(
        f"openvpn: tunnel interrupted for {moved:.1f} s at most in {restarts} restarts, "
        f"by systemctl restart {plain:.1f} s"
    )
    assert moved < plain / 2


@pytest.fixture
def wireguard_client(client_network: list[str], tmp_path: Path) -> Iterator[Callable[[str], str]]:
    """Yield what starts the client of a server with a public key, and returns the client's key."""
    device = f"vpn{os.getpid()}"
    with contextlib.ExitStack() as stack:

        def start(public: str) -> str:
            private = output("wg", "genkey")
            conf = tmp_path / "client.conf"
            conf.write_text(_WIREGUARD_CLIENT.format(private=private, public=public))
            stack.enter_context(process(*client_network, "wireguard-go", "-f", device, **QUIET))
            control = Path(f"/run/wireguard/{device}.sock")
            stack.callback(control.unlink, missing_ok=True)  # a killed one leaves it
            wait_for(control.exists, "the client's interface", timeout=PATIENCE_S)
            run("wg", "setconf", device, str(conf))
            run(*client_network, "ip", "addr", "add", "10.98.0.2/24", "dev", device)
            run(*client_network, "ip", "link", "set", device, "up")
            run(*client_network, "ip", "route", "add", f"{INSIDE}/32", "dev", device)
            return output("wg", "pubkey", text=private)

        yield start


def test_a_tunnel_of_wireguard_is_interrupted_briefly(
    wireguard_client: Callable[[str], str],
    client_network: list[str],
    box: Box,
    restarts: int,
    figure: Callable[[str], None],
) -> None:
    """Let the new instance begin sessions with the old one's peers when the old one ends."""
    private = output("wg", "genkey")
    public = wireguard_client(output("wg", "pubkey", text=private))
    conf = _WIREGUARD_SERVER.format(private=private, public=public)
    box.write(Path("/etc/wireguard/wg0.conf"), conf)
    new = ["udpgrm", "service", "new", SERVICE, "--profile=wireguard-go"]
    box.run(*new, "--address=0.0.0.0:51820,[::]:51820")
    box.restart(SERVICE)
    moved, plain = interruptions(client_network, box, restarts)
    figure(
        f"wireguard-go: tunnel interrupted for {moved:.2f} s at most in {restarts} restarts, "
        f"by systemctl restart {plain:.1f} s"
    )
    assert moved < MOST_S
    assert plain > MOST_S


def interruptions(client_network: list[str], box: Box, restarts: int) -> tuple[float, float]:
    """Return how long a tunnel gave no answer at most, in restarts and in one by systemctl."""
    with (
        process(sys.executable, "-c", _ECHO),
        process(*client_network, sys.executable, "-c", _ASK, stdout=subprocess.PIPE) as asking,
    ):
        answers = Answers(asking)
        answers.come()
        for _ in range(restarts):
            journal = box.restart(SERVICE)
            answers.come()
        moved = answers.longest_gap(1)
        since = len(answers.times)
        box.run("systemctl", "restart", f"{SERVICE}@{journal['to_generation']}.service")
        answers.come()
        return moved, answers.longest_gap(since)
