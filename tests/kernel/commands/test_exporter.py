# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""udpgrm metrics --listen."""

from __future__ import annotations

import contextlib
import signal
import socket
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator

import pytest

from testing.host import COMMAND, Host, wait_for
from testing.waiting import PATIENCE_S

pytestmark = pytest.mark.daemon("shared")

EXPORTER = "127.0.0.1:9999"


@contextlib.contextmanager
def running(*command: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run a process as long as the with block lasts."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def get(url: str) -> str:
    """Return what a server answers; empty where it does not yet."""
    with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=10) as answered:
        return str(answered.read().decode())
    return ""


def test_exporter_serves_metrics_only_and_ends_on_sigterm(host: Host) -> None:
    command = [*COMMAND, f"--pin-dir={host.directory}", "metrics", f"--listen={EXPORTER}"]
    with running(*command) as process:
        text = wait_for(lambda: get(f"http://{EXPORTER}/metrics"), "the exporter")
        assert "udpgrm_daemon_up 1\n" in text
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(f"http://{EXPORTER}/etc/passwd")
        assert refused.value.code == 404
        process.terminate()
        assert process.wait(PATIENCE_S) == 0


@pytest.mark.daemon("own")
def test_exporter_serves_without_the_daemon_and_despite_silent_clients(host: Host) -> None:
    command = [*COMMAND, f"--pin-dir={host.directory}", "metrics", f"--listen={EXPORTER}"]
    with running(*command), contextlib.ExitStack() as stack:
        wait_for(lambda: get(f"http://{EXPORTER}/metrics"), "the exporter")
        stack.enter_context(socket.create_connection(("127.0.0.1", 9999)))
        host.kill(signal.SIGTERM)
        wait_for(lambda: "udpgrm_daemon_up 0" in get(f"http://{EXPORTER}/metrics"), "the end")


def test_exporter_says_when_its_address_is_taken(host: Host) -> None:
    with socket.create_server(("127.0.0.1", 9999)):
        done = host.run("metrics", f"--listen={EXPORTER}")
    assert done.returncode == 255
    assert done.stderr == f"udpgrm: metrics: cannot listen at {EXPORTER}: Address already in use\n"
