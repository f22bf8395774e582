# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""A daemon with few descriptors says what to do, as it starts and while it runs."""

from __future__ import annotations

import contextlib
import resource
import socket
import subprocess
from pathlib import Path

import pytest

import udpgrm.client as grm
from testing.host import COMMAND, Host, wait_for
from udpgrm import abi
from udpgrm.abi import DissectorType, Option

ADVICE = "the limit of {} file descriptors is reached: set LimitNOFILE={} in the unit, or run"


@pytest.mark.parametrize("limit", [16, 40, 54, 70])
def test_too_few_to_start(bare_host: Host, limit: int) -> None:
    """Refuse to start with advice: with 16 the first maps fail, with 70 the prepared groups."""
    with pytest.raises(AssertionError) as caught:
        bare_host.start(descriptors=limit)
    last = bare_host.errors.read_text().splitlines()[-1]
    assert last.startswith("udpgrm: ") and ADVICE.format(limit, 1024) in last, str(caught.value)
    assert bare_host.process.wait() == 255
    assert not bare_host.directory.exists()


def test_a_low_soft_limit_is_raised(bare_host: Host) -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    arguments = ["sh", "-c", 'ulimit -Sn 20; exec "$@"', "sh", *COMMAND, "--daemon"]
    with subprocess.Popen([*arguments, f"--pin-dir={bare_host.directory}"]) as daemon:
        try:
            wait_for(
                lambda: daemon.poll() is not None or bare_host.run("list").returncode == 0,
                "the daemon to start",
            )
            found = Path(f"/proc/{daemon.pid}/limits").read_text()
            [line] = [line for line in found.splitlines() if line.startswith("Max open files")]
            assert line.split()[3:5] == [str(before[1])] * 2
        finally:
            daemon.terminate()


def test_too_few_for_sockets(bare_host: Host, tmp_path: Path) -> None:
    """Register the last sockets once tubular's, which are held for 10 s, are closed."""
    limit = 128
    bare_host.start(f"--tubular={tmp_path / 'tubular.sock'}", descriptors=limit)
    value = bytes(abi.Dissector(type=DissectorType.FLOW, label=b"edge"))
    with contextlib.ExitStack() as stack:
        made = []
        for _ in range(100):
            sock = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            sock.bind(("127.0.0.1", 4433))
            sock.setsockopt(socket.IPPROTO_UDP, Option.DISSECTOR, value)
            made.append(sock)
        indices = grm.enroll(made, 1)
        assert sorted(indices) == list(range(100))
    assert ADVICE.format(limit, 1024) in bare_host.errors.read_text()


def test_too_few_for_a_command(host: Host) -> None:
    code = "import resource, sys; resource.setrlimit(resource.RLIMIT_NOFILE, (12, 12))\n"
    code += "from udpgrm.cli.main import main; sys.exit(main(sys.argv[1:]))"
    done = host.run_python(code, "list")
    assert (done.returncode, ADVICE.format(12, 1024) in done.stderr) == (255, True), done.stderr
