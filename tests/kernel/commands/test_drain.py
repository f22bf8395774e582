# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""udpgrm drain, where there is nothing to wait for: what has drained, and what is refused."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
from collections.abc import Iterator

import pytest

import udpgrm.client as grm
from testing.host import COMMAND, ROOT, Host, answer, client, wait_for, wait_for_index
from testing.waiting import PATIENCE_S

pytestmark = pytest.mark.daemon("shared")

ADDRESS = "127.0.0.1:4433"
TARGET = ("127.0.0.1", 4433)
#: Generation 9, until its stdin ends.
SHORT_LIVED = f"""
import sys
import udpgrm.client as grm
from testing.host import wait_for_index
made = grm.bind("{ADDRESS}")
grm.enroll(made, 9, {PATIENCE_S})
wait_for_index(made[0])
print("there", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def group(host: Host) -> Iterator[list[socket.socket]]:
    """Yield sockets of generation 7, which has a flow, and of 8, which is active."""
    made = []
    for generation in (7, 8):
        made += grm.bind(ADDRESS)
        grm.enroll(made[-1:], generation)
        grm.promote(made[-1], generation)
        with client() as peer:
            peer.sendto(b"hi", TARGET)
            answer(made[-1:], 1)
    yield made
    for sock in made:
        sock.close()


def is_listed(host: Host, generation: int) -> bool:
    """Return whether the daemon knows sockets of a generation, dead or alive."""
    return generation in [item["generation"] for item in host.group(ADDRESS)["generations"]]


def refused(host: Host, *arguments: str) -> str:
    """Return the line that a command is refused with."""
    done = host.run("drain", *arguments)
    assert (done.returncode, done.stdout) == (255, ""), done
    [line] = done.stderr.splitlines()
    return line


def test_an_application_that_the_group_has_not(host: Host, group: list[socket.socket]) -> None:
    assert refused(host, ADDRESS, "7", "--app=3") == (
        f"udpgrm: {ADDRESS} has no application 3, only 1"
    )


def test_groups_on_different_devices(host: Host, group: list[socket.socket]) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as bound:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"lo")
        bound.bind(TARGET)
        grm.enroll([bound], 1)
        wait_for_index(bound)
        assert "on different devices" in refused(host, ADDRESS, "7")


def test_a_generation_that_never_was(host: Host, group: list[socket.socket]) -> None:
    """Refuse to drain 77, and 39, which has the slot of 7."""
    for wrong in ("77", "39", "9"):
        message = f"udpgrm: generation {wrong} of {ADDRESS} never had a socket (8 is active)"
        assert refused(host, ADDRESS, wrong, "--json") == message


def test_what_has_ended_has_drained(host: Host, group: list[socket.socket]) -> None:
    """Report a generation as drained however long ago it ended, as scripts ask again.

    So is one that was newer than the active generation.
    """
    grm.promote(group[0], 7)
    child = subprocess.Popen(
        [sys.executable, "-c", SHORT_LIVED],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert child.stdout is not None and child.stdout.readline() == b"there\n"
    child.communicate(timeout=PATIENCE_S)
    wait_for(lambda: not is_listed(host, 9), "the daemon to see the end")
    for ended in (9, 6):
        assert host.json("drain", ADDRESS, str(ended))["drained"] is True
    assert "never had a socket" in refused(host, ADDRESS, "10")


def test_an_interrupt(host: Host, group: list[socket.socket]) -> None:
    command = subprocess.Popen(
        [*COMMAND, f"--pin-dir={host.directory}", "drain", ADDRESS, "7", "--flows=0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert command.stdout is not None
    assert '"event": "wait"' in command.stdout.readline()
    command.send_signal(signal.SIGINT)
    _, errors = command.communicate(timeout=PATIENCE_S)
    assert (command.returncode, errors) == (130, "udpgrm: interrupted\n")


def test_a_reader_that_goes_away(host: Host, group: list[socket.socket]) -> None:
    """Exit with the status of the drain, even without a reader of the output."""
    arguments = ["drain", ADDRESS, "7", "--flows=0", "--max=1"]
    command = subprocess.Popen(
        [*COMMAND, f"--pin-dir={host.directory}", *arguments], stdout=subprocess.PIPE
    )
    assert command.stdout is not None
    command.stdout.readline()
    command.stdout.close()
    assert command.wait(PATIENCE_S) == 1
