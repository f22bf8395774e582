# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""A service under test: its definition, its units, its clients."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any, Optional

import pytest

from testing.host import ROOT, Command, Host, client, remove_cgroup
from testing.waiting import PATIENCE_S, wait_for

WHERE = "127.0.0.1:4433"
ALSO = "127.0.0.1:4434"
TO = ("127.0.0.1", 4433)
#: Seconds that an unused flow lives.
FLOW_S = 4
#: Ends with the last flow, however long that takes.
UNTIL_NO_FLOWS = {
    "until": {"flows": 0, "quiet_s": None},
    "max_s": 600,
    "on_timeout": "fail",
}
#: Answers `?` with its generation, echoes the rest; its arguments say how it is no good.
SERVER = f"""
import os, signal, socket, sys, threading
sys.path.insert(0, {str(ROOT)!r})
import udpgrm.client as grm
generation, addresses, wrong = int(sys.argv[1]), sys.argv[2].split(","), sys.argv[3:]
if f"fails-{{generation}}" in wrong:
    sys.exit("no configuration")
signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
def noop(address):
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    sock.bind((address.split(":")[0], int(address.split(":")[1])))
    sock.setsockopt(socket.IPPROTO_UDP, 202, b"\\4\\0\\0\\0")
    return sock
held = []
for address in addresses:
    if "noop" in wrong:
        sockets = [noop(address) for _ in range(2)]
    else:
        sockets = grm.bind(address, 2, flow_timeout={FLOW_S})
    if f"unenrolled-{{generation}}" not in wrong:
        grm.enroll(sockets, generation, {PATIENCE_S})
    held += sockets
def serve(sock):
    while True:
        data, peer = sock.recvfrom(2048)
        if f"mute-{{generation}}" not in wrong:
            sock.sendto(b"%d" % generation if data == b"?" else data, peer)
for sock in held:
    threading.Thread(target=serve, args=(sock,), daemon=True).start()
channel = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
channel.sendto(b"READY=1", os.environ["NOTIFY_SOCKET"])
channel.close()
signal.pause()
"""

#: Knows nothing of udpgrm: SO_REUSEPORT, two workers.
PLAIN_SERVER = """
import os, signal, socket, sys
def work():
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    sock.bind(("127.0.0.1", 4433))
    while True:
        data, peer = sock.recvfrom(2048)
        sock.sendto(sys.argv[1].encode() if data == b"?" else data, peer)
for _ in range(2):
    if os.fork() == 0:
        work()
channel = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
channel.sendto(b"READY=1", os.environ["NOTIFY_SOCKET"])
os.wait()
"""

#: Stops a command (SIGSTOP) before it records how a step has ended.
_HALTING = """
import signal
from udpgrm.restart.journal import Journal
end = Journal.end
def ends(journal, record, *result):
    if record.step.value == {step!r}:
        os.kill(os.getpid(), signal.SIGSTOP)
    end(journal, record, *result)
Journal.end = ends
"""


class Edge:
    """The service `edge` of a host, and the commands about it."""

    def __init__(self, host: Host, scratch: Path, environment: pytest.MonkeyPatch) -> None:
        self.host = host
        self.units = scratch / "units"
        self.services = scratch / "services.d"
        self.state = scratch / "restarts"
        for directory in (self.units, self.services):
            directory.mkdir()
        self.server = self.units / "server.py"
        self.server.write_text(SERVER)
        self.addresses = [WHERE]
        self._earlier = 0.0
        self.unit()
        self.define()
        for name, value in (
            ("PATH", f"{ROOT}/tests/kernel/units:{os.environ['PATH']}"),
            ("UNITS_DIR", str(self.units)),
            ("UNITS_CGROUP", str(host.cgroup)),
            ("UDPGRM_STATE_DIR", str(self.state)),
            ("UDPGRM_SERVICES_DIR", str(self.services)),
        ):
            environment.setenv(name, value)

    def unit(self, *wrong: str, server: Optional[Path] = None) -> None:
        """Write the template unit."""
        command = [sys.executable, str(server or self.server), "%i", ",".join(self.addresses)]
        (self.units / "edge@.service").write_text(" ".join([*command, *wrong]))

    def define(self, **changes: Any) -> None:
        """Write the definition (JSON is YAML); answer_s: how long a probe waits for its answer."""
        answer_s = changes.pop("answer_s", 30)
        definition = {
            "groups": [{"address": where, "sockets": 2} for where in self.addresses],
            "instances": {"unit": "edge@.service"},
            "probes": [{"type": "echo", "timeout_s": answer_s, "retries": 0}],
            "drain": UNTIL_NO_FLOWS,
            "timeouts": {"enroll_s": 60},
            **changes,
        }
        (self.services / "edge.yaml").write_text(json.dumps(definition))

    def run_plain_server(self) -> None:
        """Have the service run a server that knows nothing of udpgrm."""
        server = self.units / "plain.py"
        server.write_text(PLAIN_SERVER)
        self.unit(server=server)
        # its flows live for the default of 125 s
        until_quiet = {**UNTIL_NO_FLOWS, "until": {"flows": None, "quiet_s": 2}}
        self.define(enrollment="adopted", drain=until_quiet)

    def restart(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run udpgrm restart to its end."""
        return self.host.run("restart", "edge", *arguments)

    def start(self, *arguments: str, halt: str = "") -> Command:
        """Begin a command, by default udpgrm restart. halt: the step in which it stops itself.

        However long a test takes to see the step, it has not ended for the command.
        """
        self._earlier = self.journal()["started"] if (self.state / "edge.json").exists() else 0.0
        before = _HALTING.format(step=halt) if halt else ""
        return Command(self.host.directory, arguments or ("restart", "edge"), before)

    def journal(self) -> dict[str, Any]:
        """Return the journal as it is on the disk."""
        document: dict[str, Any] = json.loads((self.state / "edge.json").read_text())
        return document

    def await_step(self, step: str) -> None:
        """Wait until the journal of a restart that `start` began announces a step."""

        def announced() -> bool:
            try:
                journal = self.journal()
            except FileNotFoundError:  # not yet, or the last one has just got another name
                return False
            if journal["started"] <= self._earlier:
                return False
            steps = [record["step"] for record in journal["steps"]]
            assert journal["outcome"] is None or step in steps, steps
            return step in steps

        until(announced, step)

    def steps(self) -> list[str]:
        """Return the steps of the last restart."""
        return [step["step"] for step in self.journal()["steps"]]

    def alive(self) -> list[int]:
        """Return the generations whose units run."""
        found = []
        for path in self.host.cgroup.glob("edge@*.service"):
            with contextlib.suppress(OSError):  # stopped just now
                if not (path / "cgroup.procs").read_text():
                    continue
                found.append(int(path.name.partition("@")[2].partition(".")[0]))
        return sorted(found)

    def clean(self) -> None:
        """End every instance."""
        for path in self.host.cgroup.glob("edge*.service"):
            remove_cgroup(path)

    def working(self, where: str = WHERE) -> int:
        """Return the working generation."""
        number: int = self.host.group(where)["applications"][0]["working_generation"]
        return number


def serving_only(edge: Edge, generation: int) -> bool:
    """Return whether one instance remains, and is active."""
    return (edge.alive(), edge.working()) == ([generation], generation)


def ask(sock: socket.socket, to: tuple[str, int] = TO) -> int:
    """Return the generation that answers a socket."""
    sock.settimeout(PATIENCE_S)
    sock.sendto(b"?", to)
    return int(sock.recv(100).split()[0])


class Traffic:
    """Clients that ask all the time, as long as the with block lasts.

    The first keeps its flow, the second begins a new one with every question, and so on;
    without keep, all of them begin new ones.
    """

    def __init__(
        self,
        clients: int = 4,
        keep: bool = True,
        pause: float = 0.02,
        patience_s: float = PATIENCE_S,
    ) -> None:
        """Prepare clients; patience_s: after which a question counts as lost."""
        self.asked = self.lost = self.moved = 0
        self._questions = [0] * clients
        self.first: Optional[int] = None  # the generation that answered first
        self._pause, self._patience_s = pause, patience_s
        self._done = threading.Event()
        self._threads = [
            threading.Thread(target=self._run, args=(number, keep and number % 2 == 0))
            for number in range(clients)
        ]
        self._lock = threading.Lock()

    def _run(self, number: int, keep: bool) -> None:
        sock, first = client(), None
        refreshed = time.monotonic()  # at the earliest
        while not self._done.is_set():
            if not keep:
                sock.close()
                sock = client()
            sock.settimeout(self._patience_s)
            asked = time.monotonic()
            sock.sendto(b"?", TO)
            try:
                got = int(sock.recv(100).split()[0])
            except OSError:
                got = None
            if first is None or time.monotonic() >= refreshed + FLOW_S:
                first = got  # it has begun, or may have expired: a busy machine let it be silent
            if got is not None:
                refreshed = asked
            with self._lock:
                self.asked += 1
                self._questions[number] += 1
                self.first = got if self.first is None else self.first
                self.lost += got is None
                self.moved += keep and got is not None and got != first
            self._done.wait(self._pause)
        sock.close()

    def __enter__(self) -> Traffic:
        for thread in self._threads:
            thread.start()
        until(lambda: self.first is not None, "an answer")
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        for thread in self._threads:
            thread.join()

    def await_answers(self) -> None:
        """Wait until each client has had an answer to a question that it asked from now on."""
        before = list(self._questions)
        # the next one to end may have begun before
        until(
            lambda: all(now > then + 1 for now, then in zip(self._questions, before)),
            "answers to all clients",
        )


def until(condition: Any, what: str) -> None:
    """Wait for what may be there for a moment only."""
    wait_for(condition, what, pause=0.001)
