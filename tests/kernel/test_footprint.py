# SPDX-License-Identifier: Apache-2.0
"""What the daemon costs: memory, wakeups, start-up, registrations.

Bounds are those of the project's quality bars, for any machine; they are wide
of what is measured, and printed with -s.
"""

from __future__ import annotations

import os
import re
import socket
import statistics
import time
from pathlib import Path

import udpgrm.client as grm
from tests.kernel.support import Host

ADDRESS = "127.0.0.1:4433"


def status(pid: int, name: str) -> int:
    text = Path(f"/proc/{pid}/status").read_text()
    found = re.search(rf"^{name}:\s+(\d+)", text, re.MULTILINE)
    assert found is not None
    return int(found[1])


def test_memory_and_descriptors(host: Host) -> None:
    pid = host.process.pid
    for generation in range(3):  # caches fill
        for sock in [sock for _ in range(20) for sock in grm.bind(ADDRESS)]:
            grm.enroll([sock], generation)
            sock.close()
    before = len(os.listdir(f"/proc/{pid}/fd"))
    for generation in range(200):
        with grm.bind(ADDRESS)[0] as sock:
            grm.enroll([sock], generation)
    assert len(os.listdir(f"/proc/{pid}/fd")) == before
    resident = status(pid, "VmRSS")
    print(f"daemon: {resident} kB resident")
    assert resident < 25 * 1024
    assert status(pid, "Threads") == 1


def test_idle_daemon_sleeps(host: Host) -> None:
    pid = host.process.pid
    with grm.bind(ADDRESS)[0] as sock:
        grm.enroll([sock], 1)
        time.sleep(0.5)

        def activity() -> tuple[int, list[str]]:
            return (
                status(pid, "voluntary_ctxt_switches"),
                Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[11:13],
            )

        before = activity()
        time.sleep(5)
        assert activity() == before, "the daemon woke up with nothing to do"


def test_start_up(bare_host: Host) -> None:
    times, commands = [], []
    for _ in range(5):
        started = time.perf_counter()
        bare_host.start()
        times.append(time.perf_counter() - started)
        started = time.perf_counter()
        bare_host.run("list")
        commands.append(time.perf_counter() - started)
        bare_host.kill(15)
    ratio = statistics.median(times) / statistics.median(commands)
    print(
        f"start-up with cached templates: median {statistics.median(times):.3f} s, "
        f"{ratio:.1f} times as long as a command"
    )
    assert ratio < 10


def test_start_up_without_templates(bare_host: Host, tmp_path: Path) -> None:
    kept = os.environ["UDPGRM_CACHE_DIR"]
    os.environ["UDPGRM_CACHE_DIR"] = str(tmp_path / "empty")
    try:
        started = time.perf_counter()
        bare_host.start()
        took = time.perf_counter() - started
    finally:
        os.environ["UDPGRM_CACHE_DIR"] = kept
    print(f"start-up without cache: {took:.2f} s")
    assert took < 5


def register(sockets: list[socket.socket], generation: int) -> float:
    started = time.perf_counter()
    grm.enroll(sockets, generation)
    return time.perf_counter() - started


def test_registration_latency(host: Host) -> None:
    """Also when the application has 2,000 other descriptors open."""
    made = []
    others = [os.open("/dev/null", os.O_RDONLY) for _ in range(2000)]
    try:
        times = []
        for _ in range(100):
            made += grm.bind(ADDRESS)
            times.append(register(made[-1:], 1))
        print(
            f"registration: median {statistics.median(times) * 1e3:.2f} ms, "
            f"p99 {sorted(times)[98] * 1e3:.2f} ms"
        )
        assert statistics.median(times) < 0.003
        made += (many := grm.bind("127.0.0.1:4434", 256))
        took = register(many, 1)
        print(f"256 sockets: {took * 1e3:.0f} ms")
        assert took < 0.2
    finally:
        for fd in others:
            os.close(fd)
        for sock in made:
            sock.close()


def test_commands_load_no_compiler(host: Host) -> None:
    with grm.bind(ADDRESS)[0] as sock:
        grm.enroll([sock], 1)
        for words in (["list"], ["flows"], ["metrics"], ["list", "--json"], ["-h"]):
            traced = host.run_python(
                "import sys; from udpgrm.cli.main import main; status = main(sys.argv[1:]);"
                "sys.exit(9 if {'bcc', 'jinja2'} & set(sys.modules) else status)",
                *words,
            )
            assert traced.returncode in (0, 254), traced.stderr


def test_registration_survives_a_busy_group_table(host: Host) -> None:
    """More groups than are prepared at a time, one after another."""
    made = []
    try:
        for port in range(10_000, 10_100):
            made += grm.bind(f"127.0.0.1:{port}")
            grm.enroll(made[-1:], 1)
        assert len(host.json("list")["groups"]) == 100
    finally:
        for sock in made:
            sock.close()
