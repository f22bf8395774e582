# SPDX-License-Identifier: Apache-2.0
"""A host under test, and what tests do with sockets."""

from __future__ import annotations

import contextlib
import errno
import itertools
import json
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Optional

import udpgrm.client as grm
from testing import contract
from testing.waiting import PATIENCE_S
from testing.waiting import wait_for as wait_for  # what tests of a host need is here
from udpgrm.kernel import netns

ROOT = Path(__file__).resolve().parents[1]
#: Run by the interpreter that it names, as users run it.
COMMAND = [str(ROOT / "bin/udpgrm")]
#: Templates that runs of tests leave to later ones.
TEMPLATES = ROOT / "build/templates"
_FAULTY = f"""
import errno, os, sys
sys.path.insert(0, {str(ROOT)!r})
def failing():
    return os.path.exists({{file!r}})
{{code}}
from udpgrm.cli.main import run
run()
"""


def remove_pins(directory: Path) -> None:
    """Remove a directory of bpffs, where shutil cannot (there are no timestamps to keep)."""
    if directory.is_dir():
        for path in directory.iterdir():
            remove_pins(path) if path.is_dir() else path.unlink()
        directory.rmdir()


def remove_cgroup(path: Path) -> None:
    """End the processes of a cgroup and of those below, and remove them all."""
    with contextlib.suppress(FileNotFoundError):  # a unit's may go by itself
        (path / "cgroup.kill").write_text("1")

    def is_gone() -> bool:
        with contextlib.suppress(OSError):  # not all have ended yet
            for below in sorted(path.glob("**/"), reverse=True):
                below.rmdir()
        return not path.exists()

    wait_for(is_gone, f"{path} to be empty")


def copy_of_templates(scratch: Path) -> Path:
    """Return a directory of the templates there are; other tests compile more meanwhile."""
    mine = scratch / "cache"
    mine.mkdir(mode=0o755)
    for path in Path(os.environ["UDPGRM_CACHE_DIR"]).glob("*.bpf"):
        shutil.copy(path, mine)
    return mine


class Command(subprocess.Popen[str]):
    """A udpgrm command that runs; what it has printed at its end is as documented."""

    def __init__(self, directory: Path, arguments: Sequence[str], before: str = "") -> None:
        """Begin it, against a pin directory. before: Python code that it runs first."""
        command = COMMAND
        if before:
            command = [sys.executable, "-c", _FAULTY.format(file="", code=before)]
        super().__init__(
            [*command, f"--pin-dir={directory}", *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._arguments = arguments

    def communicate(
        self, input: Optional[str] = None, timeout: Optional[float] = None
    ) -> tuple[str, str]:
        """Wait for its end; its output."""
        out, err = super().communicate(input, timeout)
        contract.check(self._arguments, out)
        return out, err


class Host:
    """A pin directory, and the daemons and commands that use it."""

    def __init__(self, directory: Path, cgroup: Path, scratch: Path) -> None:
        self.directory = directory
        self.cgroup = cgroup
        self.scratch = scratch
        self.daemon: Optional[subprocess.Popen[bytes]] = None
        self._started = 0
        self.fault = scratch / "fault"

    def start(
        self, *options: str, install: bool = True, descriptors: int = 0, fault: str = ""
    ) -> subprocess.Popen[bytes]:
        """Start a daemon and wait until it listens.

        descriptors: no more than so many. fault: Python code that it runs first, in which
        `failing()` is whether the file self.fault is there.
        """
        self._started += 1
        out = (self.scratch / f"out{self._started}").open("wb")
        self.errors = self.scratch / f"err{self._started}"
        self.events = self.scratch / f"out{self._started}"
        command = COMMAND
        if fault:
            command = [sys.executable, "-c", _FAULTY.format(file=str(self.fault), code=fault)]
        arguments = [*command, "--daemon", f"--pin-dir={self.directory}", *options]
        if install:
            arguments.append(f"--install={self.cgroup}")
        with self.errors.open("wb") as err:
            if descriptors:
                arguments = ["sh", "-c", f'ulimit -n {descriptors}; exec "$@"', "sh", *arguments]
            self.daemon = subprocess.Popen(arguments, stdout=out, stderr=err)
        out.close()
        wait_for(
            lambda: (
                "Tailing message ring buffer" in self.errors.read_text()
                or self.process.poll() is not None
            ),
            "the daemon to start",
        )
        assert self.process.poll() is None, self.errors.read_text()
        return self.daemon

    def start_unread(self, steps: bool = False) -> int:
        """Start a daemon that logs its events to a pipe that nothing reads; return the other end.

        steps: its steps as well.
        """
        reader, writer = os.pipe()
        self.daemon = subprocess.Popen(
            [*COMMAND, "--daemon", f"--pin-dir={self.directory}", f"--install={self.cgroup}"],
            stdout=writer,
            stderr=writer if steps else subprocess.DEVNULL,
        )
        os.close(writer)
        wait_for(lambda: self.json("list")["cgroups"], "the hooks")
        return reader

    @property
    def process(self) -> subprocess.Popen[bytes]:
        """The running daemon."""
        assert self.daemon is not None
        return self.daemon

    @contextlib.contextmanager
    def stopped(self) -> Iterator[None]:
        """Stop the daemon for the with block; messages wait for it."""
        self.process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self.process.send_signal(signal.SIGCONT)

    def kill(self, number: int = signal.SIGKILL) -> int:
        """End the daemon with a signal; its exit status."""
        self.process.send_signal(number)
        status = self.process.wait(PATIENCE_S)
        self.daemon = None
        return status

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a command against this pin directory; what it prints is as documented."""
        done = subprocess.run(
            [*COMMAND, f"--pin-dir={self.directory}", *arguments],
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            check=False,
        )
        contract.check(arguments, done.stdout)
        return done

    def run_python(self, code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run Python code beside the package, with a command's arguments."""
        return subprocess.run(
            [sys.executable, "-c", code, f"--pin-dir={self.directory}", *arguments],
            capture_output=True,
            text=True,
            cwd=ROOT,
            timeout=PATIENCE_S,
            check=False,
        )

    def json(self, *arguments: str) -> dict[str, Any]:
        """Return a command's JSON answer."""
        done = self.run(*arguments, "--json")
        assert done.returncode == 0, done.stderr
        document: dict[str, Any] = json.loads(done.stdout)
        return document

    def groups(self, *addresses: str) -> list[dict[str, Any]]:
        """Return the JSON views of this network namespace's groups: all, or those of addresses."""
        here = netns.own_cookie()
        everywhere = self.json("list", *addresses)["groups"]
        return [group for group in everywhere if group["netns_cookie"] == here]

    def group(self, address: str) -> dict[str, Any]:
        """Return the JSON view of this network namespace's group at an address."""
        groups = self.groups(address)
        assert len(groups) == 1, groups
        return groups[0]

    def counters(self, address: str) -> dict[str, int]:
        """Return the counters of a group that are not 0."""
        metrics = self.group(address)["metrics"]
        return {name: value for name, value in metrics.items() if value}

    def clean(self) -> None:
        """End the daemon and remove every pin."""
        if self.daemon is not None and self.daemon.poll() is None:
            self.daemon.kill()
            self.daemon.wait()
        remove_pins(self.directory)
        shutil.rmtree(self.scratch)


def inside(cgroup: Path, *command: str) -> list[str]:
    """Return a command line that runs a command in a cgroup from its start.

    A socket belongs to the cgroup in which it is made.
    """
    return ["sh", "-c", 'echo $$ >"$0/cgroup.procs"; exec "$@"', str(cgroup), *command]


def wait_for_index(sock: socket.socket) -> None:
    """Wait until the daemon has registered a socket."""
    wait_for(lambda: grm.socket_generation(sock).index is not None, "the index")


def cpu_seconds(pid: int) -> float:
    """Return what a process has used of a processor: a measure that others cannot lengthen."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def plain_socket(family: int = socket.AF_INET) -> socket.socket:
    """Return an unbound UDP socket that is in no group."""
    return socket.socket(family, socket.SOCK_DGRAM)


#: Above those of servers in tests, below those that the kernel chooses; tens of thousands of
#: clients until one comes again.
_client_ports = itertools.cycle(range(10000, 32768))


def client(family: int = socket.AF_INET) -> socket.socket:
    """Return a client's socket, in no group, at a loopback port that no earlier client has had.

    The flow of an earlier client of the same port may still live, in an older generation. Ports
    that a test serves at are passed over.
    """
    where = "127.0.0.1" if family == socket.AF_INET else "::"
    sock = plain_socket(family)
    for port in _client_ports:
        try:
            sock.bind((where, port))
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                sock.close()
                raise
        else:
            break
    return sock


def close(*sockets: socket.socket) -> None:
    """Close UDP sockets, and wait until the kernel has released them.

    A process that reads descriptors at this moment, as another test's, holds one a little longer.
    """
    inodes = {str(os.fstat(sock.fileno()).st_ino) for sock in sockets}
    for sock in sockets:
        sock.close()
    tables = [Path("/proc/self/net/udp"), Path("/proc/self/net/udp6")]
    wait_for(
        lambda: all(inodes.isdisjoint(table.read_text().split()) for table in tables),
        "sockets to be released",
    )


def received(sockets: Sequence[socket.socket], timeout: float = 0.2) -> list[tuple[int, Any]]:
    """(position of the socket, sender) of every packet there is."""
    got = []
    while ready := select.select(sockets, [], [], timeout)[0]:
        for sock in ready:
            _, peer = sock.recvfrom(2048)
            got.append((list(sockets).index(sock), peer))
        timeout = 0.02
    return got


def answer(sockets: Sequence[socket.socket], count: int) -> list[int]:
    """Answer `count` packets; positions of the sockets that got them."""
    positions: list[int] = []
    deadline = time.monotonic() + PATIENCE_S
    while len(positions) < count:
        left = deadline - time.monotonic()
        assert left > 0, f"{len(positions)} of {count} packets came"
        for sock in select.select(sockets, [], [], left)[0]:
            data, peer = sock.recvfrom(2048)
            sock.sendto(data, peer)
            positions.append(list(sockets).index(sock))
    return positions
