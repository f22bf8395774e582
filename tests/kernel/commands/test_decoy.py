# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""udpgrm decoy with real children and signals."""

from __future__ import annotations

import contextlib
import os
import pty
import select
import signal
import subprocess
import sys
import termios
from collections.abc import Iterator
from typing import Optional

import pytest

from testing.host import ROOT, wait_for
from testing.waiting import PATIENCE_S

DECOY = [sys.executable, str(ROOT / "bin/mmdecoy")]
#: Says its pid, then every signal it gets; ends on SIGTERM, with status 7.
CHILD = """
import os, signal, sys
def say(number, _):
    print(signal.Signals(number).name if number < 32 else number, flush=True)
    if number == signal.SIGTERM:
        sys.exit(7)
for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP, signal.SIGCHLD}:
    signal.signal(number, say)
print(os.getpid(), flush=True)
while True:
    signal.pause()
"""


class Decoy:
    child = 0

    def __init__(self, *command: str, environment: Optional[dict[str, str]] = None) -> None:
        self.process = subprocess.Popen(
            [*DECOY, "--", *command],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, **(environment or {})},
        )

    def line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def kill(self, number: int) -> None:
        os.kill(self.process.pid, number)


@pytest.fixture
def decoy() -> Iterator[Decoy]:
    decoy = Decoy(sys.executable, "-c", CHILD)
    decoy.child = int(decoy.line())
    yield decoy
    decoy.process.kill()
    with contextlib.suppress(ProcessLookupError):
        os.kill(decoy.child, signal.SIGKILL)
    decoy.process.communicate()


def test_signals_are_passed_on(decoy: Decoy) -> None:
    assert decoy.child != decoy.process.pid
    numbers = [
        number
        for number in sorted(signal.valid_signals())
        if number
        not in (signal.SIGKILL, signal.SIGSTOP, signal.SIGCHLD, signal.SIGTERM, signal.SIGCONT)
    ]
    for number in numbers:
        decoy.kill(number)
        line = decoy.line()
        assert line == (signal.Signals(number).name if number < 32 else str(number))
    decoy.kill(signal.SIGTERM)
    assert decoy.line() == "SIGTERM"
    assert decoy.process.wait(PATIENCE_S) == 7


def test_the_child_lives_on_after_its_sigurg(decoy: Decoy) -> None:
    # that of another process is passed on
    decoy.kill(signal.SIGURG)
    assert decoy.line() == "SIGURG"
    os.kill(decoy.child, 0)
    assert decoy.process.poll() is None
    # the child's own ends the decoy
    leave = "import os, signal\nos.kill(os.getppid(), signal.SIGURG)\n"
    mine = Decoy(sys.executable, "-c", leave + CHILD)
    child = int(mine.line())
    assert mine.process.wait(PATIENCE_S) == 0
    os.kill(child, signal.SIGUSR1)
    assert mine.line() == "SIGUSR1"
    os.kill(child, signal.SIGTERM)
    mine.process.communicate(timeout=PATIENCE_S)
    wait_for(lambda: not _lives(child), "the child to end")


def _lives(pid: int) -> bool:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, 0)
        return True
    return False


@pytest.mark.parametrize(
    "command, status",
    [
        (["true"], 0),
        (["sh", "-c", "exit 42"], 42),
        (["sh", "-c", "kill -KILL $$"], -signal.SIGKILL),
        (["sh", "-c", "kill -SEGV $$"], -signal.SIGSEGV),
        (["/nowhere"], 127),
        (["/etc/passwd"], 126),
    ],
)
def test_it_ends_as_the_child_ends(command: list[str], status: int) -> None:
    decoy = Decoy(*command)
    decoy.process.communicate(timeout=PATIENCE_S)
    assert decoy.process.returncode == status


def printed_by_child(variables: str, expression: str) -> str:
    """Return what the child prints; `variables` are the decoy's, whose process `$$` is."""
    script = f'exec "$0" "$1" -- sh -c \'echo {expression}\''
    done = subprocess.run(
        ["sh", "-c", f"export {variables}; {script}", *DECOY],
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=True,
    )
    return done.stdout


def test_listen_pid_is_the_childs() -> None:
    listen_pid, child = printed_by_child("LISTEN_PID=$$", "$LISTEN_PID $$").split()
    assert listen_pid == child
    other = Decoy("sh", "-c", "echo $LISTEN_PID", environment={"LISTEN_PID": "1"})
    assert other.process.communicate(timeout=PATIENCE_S)[0] == "1\n"


def test_listen_pidfdid_of_the_decoy_is_gone() -> None:
    # from systemd 258 on, sd_listen_fds(3) finds nothing if it is another process's
    variables = "LISTEN_PID=$$ LISTEN_FDS=1 LISTEN_PIDFDID=4711"
    assert printed_by_child(variables, "$LISTEN_FDS:$LISTEN_PIDFDID") == "1:\n"
    others = {"LISTEN_PID": "1", "LISTEN_PIDFDID": "4711"}
    other = Decoy("sh", "-c", "echo $LISTEN_PIDFDID", environment=others)
    assert other.process.communicate(timeout=PATIENCE_S)[0] == "4711\n"


def ignored_here() -> int:
    """Signals that any command started here ignores: it depends on what runs the tests."""
    plain = ["grep", "SigIgn", "/proc/self/status"]
    done = subprocess.run(plain, capture_output=True, text=True, check=True)
    return int(done.stdout.split()[1], 16)


def test_what_systemd_addresses_to_a_process_is_the_childs() -> None:
    names = ("WATCHDOG_PID", "SYSTEMD_EXEC_PID")
    values = " ".join(f"${name}" for name in names)
    done = subprocess.run(
        [
            *("sh", "-c", " ".join(f"{name}=$$" for name in names) + ' exec "$0" "$@"'),
            *(*DECOY, "--", "sh", "-c", f"echo $$ {values}; grep SigIgn /proc/self/status"),
        ],
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=True,
    )
    pids, ignored = done.stdout.splitlines()
    assert len(set(pids.split())) == 1
    # systemd ignores SIGPIPE unless IgnoreSIGPIPE=no; the child inherits that alone
    assert int(ignored.split()[1], 16) == ignored_here() | 1 << (signal.SIGPIPE - 1)


def test_started_where_ends_of_children_are_ignored() -> None:
    done = subprocess.run(
        [*DECOY, "--", "grep", "SigIgn", "/proc/self/status"],
        preexec_fn=lambda: signal.signal(signal.SIGCHLD, signal.SIG_IGN),
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=True,
    )
    assert int(done.stdout.split()[1], 16) == ignored_here() | 1 << (signal.SIGCHLD - 1)


@pytest.mark.parametrize("end, status", [("exit 9", 9), ("kill -TERM $$", 128 + signal.SIGTERM)])
def test_process_1_of_a_container(end: str, status: int) -> None:
    # a grandchild that has lost its parent ends: only process 1 can reap it
    orphan = "pid=$(sleep 0.1 >&2 & echo $!); echo $pid; while kill -0 $pid; do sleep 0.05; done"
    done = subprocess.run(
        [
            *("unshare", "--pid", "--fork", "--kill-child", "--mount-proc"),
            *(*DECOY, "--", "sh", "-c", f"{orphan}; ps -eo pid,stat; {end}"),
        ],
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert done.returncode == status
    orphan_pid, _, *processes = [line.split() for line in done.stdout.splitlines()]
    pids = [pid for pid, _ in processes]
    assert pids[:2] == ["1", "2"]
    assert orphan_pid[0] not in pids


@pytest.mark.parametrize("setsid", [[], ["setsid"]])
def test_a_terminals_signal_comes_once(setsid: list[str]) -> None:
    decoy, terminal = pty.fork()
    if decoy == 0:
        os.execv(DECOY[0], [*DECOY, "--", *setsid, sys.executable, "-c", CHILD])
    output = os.fdopen(terminal, "r+b", buffering=0)

    def line() -> bytes:
        assert select.select([output], [], [], PATIENCE_S)[0], "no word from the child"
        return output.readline().strip()

    child = int(line())
    modes = termios.tcgetattr(terminal)
    modes[3] &= ~termios.ECHO
    termios.tcsetattr(terminal, termios.TCSANOW, modes)
    try:
        output.write(b"\x03")
        assert line() == b"SIGINT"
        os.kill(child, signal.SIGUSR1)
        assert line() == b"SIGUSR1"
        os.kill(decoy, signal.SIGTERM)
        assert os.waitstatus_to_exitcode(os.waitpid(decoy, 0)[1]) == 7
    except BaseException:
        for pid in (child, decoy):
            os.kill(pid, signal.SIGKILL)
        os.waitpid(decoy, 0)
        raise
    finally:
        output.close()


def test_ignored_signals_and_the_mask_are_as_before() -> None:
    show = "grep -E '^Sig(Blk|Ign)' /proc/self/status"
    plain = subprocess.run(["sh", "-c", show], capture_output=True, text=True, check=True)
    decoy = Decoy("sh", "-c", show)
    assert decoy.process.communicate(timeout=PATIENCE_S)[0] == plain.stdout


@pytest.mark.parametrize("arguments", [[], ["--"], ["--nothing"]])
def test_misuse(arguments: list[str]) -> None:
    done = subprocess.run([*DECOY, *arguments], capture_output=True, text=True, check=False)
    assert (done.returncode, "the command is missing" in done.stderr) == (255, True)
