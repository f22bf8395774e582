# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""A machine that fails for a while: no processes, no memory, no descriptors, no disk.

Faults are put into the daemon's own process, so that they come when a test wants them.
"""

from __future__ import annotations

import signal
import socket
import time
from pathlib import Path

import pytest

import udpgrm.client as grm
from testing.host import Host, copy_of_templates, wait_for, wait_for_index
from testing.waiting import PATIENCE_S
from udpgrm import abi
from udpgrm.abi import Option
from udpgrm.build import sources

WHERE = "127.0.0.1:4433"
#: A named dissector that the cache of `empty_cache` has no template of.
NAMED = "wireguard"


@pytest.fixture
def empty_cache(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Templates of a fresh host: those of named dissectors are not compiled yet."""
    mine = copy_of_templates(tmp_path)
    for path in mine.glob(f"steer_{NAMED}-*"):
        path.unlink()
    monkeypatch.setenv("UDPGRM_CACHE_DIR", str(mine))
    return mine


def ask(sock: socket.socket, generation: int = 1) -> None:
    sock.setsockopt(socket.IPPROTO_UDP, Option.SOCKET_GEN, generation.to_bytes(4, "little"))


def ask_for_named() -> socket.socket:
    """Return a socket that needs a template which is missing."""
    wanted = abi.Dissector(type=abi.DissectorType.NAMED, name=NAMED.encode(), parameters=b"{}")
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    sock.bind(("127.0.0.1", 4433))
    sock.setsockopt(socket.IPPROTO_UDP, Option.DISSECTOR, bytes(wanted))
    ask(sock)
    return sock


NO_PROCESSES = """
import subprocess
class Popen(subprocess.Popen):
    def __init__(self, *args, **options):
        if failing():
            raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")
        super().__init__(*args, **options)
subprocess.Popen = Popen
"""
KILLED_COMPILER = """
import signal, subprocess
class Popen(subprocess.Popen):
    def __init__(self, *args, **options):
        super().__init__(*args, **options)
        if failing():
            self.kill()
subprocess.Popen = Popen
"""
READ_ONLY_CACHE = """
import tempfile
made = tempfile.TemporaryFile
def temporary(*args, **options):
    if failing():
        raise OSError(errno.EROFS, "Read-only file system")
    return made(*args, **options)
tempfile.TemporaryFile = temporary
"""


@pytest.mark.parametrize("fault", [NO_PROCESSES, KILLED_COMPILER, READ_ONLY_CACHE])
@pytest.mark.usefixtures("empty_cache")
def test_no_compiler_for_a_while(bare_host: Host, fault: str) -> None:
    """Continue without a compiler, and compile the dissector later."""
    bare_host.start("--persist", fault=fault)
    bare_host.fault.touch()
    with ask_for_named() as sock:
        wait_for(lambda: "to be tried again" in bare_host.errors.read_text(), "the failure")
        with grm.bind("127.0.0.1:7000")[0] as other:
            assert grm.enroll([other], 1) == [0]
        bare_host.fault.unlink()
        wait_for_index(sock)
        assert bare_host.group(WHERE)["metrics"]["socket_critical_gauge"] == 0
        assert "no steering for" not in bare_host.errors.read_text()


#: Calls of the daemon's main loop; each fails while the fault is there.
CALLS = (
    "daemon.messages.MessageHandler.handle",
    "daemon.garbage_collection.GarbageCollector.steps",
    "loader.pool.Pool.refill",
    "daemon.server.Server._adopt",
    "daemon.server.Server._search",
    "daemon.server.Server._serve",
    "daemon.compiling.Compiler.start",
)
FAILING_CALL = """
import udpgrm.daemon.server
owner = udpgrm.{owner}
call = owner.{name}
def fails(*args, **options):
    if failing():
        raise RuntimeError("injected")
    return call(*args, **options)
owner.{name} = fails
"""


@pytest.mark.parametrize("call", CALLS)
def test_no_error_ends_the_main_loop(bare_host: Host, call: str) -> None:
    owner, _, name = call.rpartition(".")
    bare_host.start(fault=FAILING_CALL.format(owner=owner, name=name))
    bare_host.fault.touch()
    with grm.bind(WHERE)[0] as first:
        ask(first)
    with grm.bind("127.0.0.1:4434")[0] as second:
        ask(second)
        wait_for(lambda: "injected" in bare_host.errors.read_text(), "the failure")
        bare_host.fault.unlink()
        assert bare_host.process.poll() is None
        assert grm.enroll([second], 2) == [0]
    assert bare_host.kill(signal.SIGTERM) == 0


def test_a_persistent_daemon_keeps_the_state_however_it_ends(bare_host: Host) -> None:
    """Keep the state of the first daemon since the machine was started, too."""
    code = FAILING_CALL.format(owner="daemon.server.Server", name="_serve")
    code += """
def guarded(self, action, *arguments):
    action(*arguments)
udpgrm.daemon.server.Server._guarded = guarded
"""
    bare_host.start("--persist", fault=code)
    with grm.bind(WHERE)[0] as sock:
        grm.enroll([sock], 1)
        grm.promote(sock, 1)
        bare_host.fault.touch()
        ask(sock, 2)
        assert bare_host.process.wait(PATIENCE_S) != 0
        bare_host.daemon = None
        assert grm.working_generation(sock) == 1
        bare_host.start("--persist")
        wait_for(lambda: bare_host.group(WHERE)["generations"][0]["generation"] == 2, "the move")


NO_MEMORY = """
from udpgrm.kernel import libbpf
load, create = libbpf.prog_load, libbpf.map_create
def no_memory(call):
    def fails(*args, **options):
        if failing():
            with open({file!r}, "ab") as attempts:
                attempts.write(b"x")
            raise OSError(errno.ENOMEM, "Cannot allocate memory")
        return call(*args, **options)
    return fails
libbpf.{name} = no_memory(libbpf.{name})
"""


def is_at(sock: socket.socket, generation: int) -> bool:
    there = grm.socket_generation(sock)
    return (there.generation, there.index) == (generation, 0)


@pytest.mark.parametrize("name", ["prog_load", "map_create"])
def test_a_registration_waits_for_memory(bare_host: Host, name: str, tmp_path: Path) -> None:
    """Count a registration without memory; do it when memory is free, or in the next daemon."""
    attempts = tmp_path / "attempts"
    began = time.monotonic()
    bare_host.start("--persist", fault=NO_MEMORY.format(name=name, file=str(attempts)))
    first, second = grm.bind(WHERE)[0], grm.bind("127.0.0.1:7000")[0]
    with first, second:
        bare_host.fault.touch()
        for generation in (1, 2, 3, 4, 5):  # beyond the flow tables that are prepared
            ask(first, generation)
            ask(second, generation)
        wait_for(lambda: "Cannot allocate memory" in bare_host.errors.read_text(), "the failure")
        wait_for(lambda: bare_host.group(WHERE)["metrics"]["socket_critical"], "the count")
        wait_for(lambda: attempts.stat().st_size > 8, "further attempts")
        lines = bare_host.errors.read_text().count("Cannot allocate memory")
        assert lines <= 1 + (time.monotonic() - began) // 60, "once a minute"
        bare_host.fault.unlink()
        wait_for(lambda: bare_host.group(WHERE)["generations"], "the registration")
        for sock in (first, second):
            wait_for(lambda sock=sock: is_at(sock, 5), "the last generation")
        # and now without memory until this daemon's end
        bare_host.fault.touch()
        third = grm.bind("127.0.0.1:7001")[0]
        for generation in range(1, 9):
            ask(third, generation)
        wait_for(
            lambda: bare_host.group("127.0.0.1:7001")["metrics"]["socket_critical"], "the count"
        )
        bare_host.kill()
        bare_host.start("--persist")
        wait_for(lambda: is_at(third, 8), "the next daemon's work")
        third.close()


@pytest.mark.parametrize("content", ["empty", "cut", "zeroes"])
def test_broken_templates_are_compiled_once_more(
    bare_host: Host, empty_cache: Path, content: str
) -> None:
    """Compile broken templates of hooks and dissectors again, so that the daemon starts."""
    broken = [
        next(empty_cache.glob(f"{name}-{sources.sources_digest()[:16]}-*.bpf"))
        for name in ("hook_setsockopt", "steer_flow", "steer_noop")
    ]
    before = {path: path.read_bytes() for path in broken}
    for path, code in before.items():
        bad = {"empty": b"", "cut": code[: len(code) // 2 - 3], "zeroes": bytes(len(code))}
        path.write_bytes(bad[content])
    bare_host.start()
    with grm.bind(WHERE)[0] as sock:
        ask(sock)
        wait_for_index(sock)
        assert bare_host.group(WHERE)["metrics"]["socket_critical"] == 0
    for path in broken[:2]:
        assert path.read_bytes() == before[path]
    assert bare_host.errors.read_text().count("compiled once more") == 2


NO_THREADS = """
import threading
start = threading.Thread.start
def starts(self):
    if failing():
        raise RuntimeError("can't start new thread")
    start(self)
threading.Thread.start = starts
"""


def test_no_threads_for_a_while(bare_host: Host) -> None:
    """Register with the daemon's one thread where the limit of processes allows no other."""
    bare_host.start(fault=NO_THREADS)
    bare_host.fault.touch()
    with grm.bind(WHERE)[0] as sock:
        ask(sock)
        wait_for_index(sock)
