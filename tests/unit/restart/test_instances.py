# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""Template units, by a systemctl that says what tests want."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from testing.waiting import PATIENCE_S
from tests.unit.restart.fakes import service
from udpgrm.restart import systemd
from udpgrm.restart.instances import TemplateUnits
from udpgrm.restart.systemd import SystemdError
from udpgrm.services.definition import Timeouts

SYSTEMCTL = """#!/bin/sh
echo "$@" >>"$LOG"
{body}
"""


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setenv("LOG", str(tmp_path / "log"))
    return tmp_path / "log"


def says(log: Path, body: str, journal_body: str = "echo cannot bind; echo bye") -> TemplateUnits:
    program = log.with_name("systemctl")
    program.write_text(SYSTEMCTL.format(body=body))
    program.chmod(0o755)
    journal = log.with_name("journalctl")
    journal.write_text(f"#!/bin/sh\n{journal_body}\n")
    journal.chmod(0o755)
    return TemplateUnits(service(timeouts=Timeouts(start_s=0.3)))


def test_commands(log: Path) -> None:
    units = says(log, "exit 0")
    looked: list[None] = []
    units.check()
    units.start(7, lambda: looked.append(None))
    units.stop(7)
    assert looked
    assert log.read_text().splitlines() == [
        "--no-ask-password cat -- edge@.service",
        "--no-ask-password start -- edge@7.service",
        "--no-ask-password stop -- edge@7.service",
        "--no-ask-password reset-failed -- edge@7.service",
    ]


@pytest.mark.parametrize(
    ("state", "alive"),
    [
        ("active", True),
        ("activating", True),
        ("reloading", True),
        ("deactivating", False),
        ("inactive", False),
        ("failed", False),
    ],
)
def test_is_alive(log: Path, state: str, alive: bool) -> None:
    assert says(log, f"echo {state}").is_alive(7) == alive


def test_systemd_does_not_answer_for_a_moment(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(systemd, "_PATIENCE_S", 0.5)
    fails = "echo Failed to connect to bus >&2; exit 1"
    units = says(log, f'[ $(wc -l <"$LOG") -gt 1 ] || {{ {fails}; }}; echo active')
    assert units.is_alive(7)
    with pytest.raises(SystemdError, match=r"^edge@7.service: Failed to connect to bus$"):
        says(log, fails).is_alive(7)


def test_a_terminals_interrupt_is_not_for_systemctl(log: Path) -> None:
    """Run systemctl in a session of its own, as Ctrl-C goes to the foreground of the terminal's."""
    session = "cut -d' ' -f6 /proc/self/stat >>$LOG"
    says(log, f"{session}; echo active").is_alive(7)
    assert log.read_text().splitlines()[-1] != str(os.getsid(0))
    says(log, f"{session}; echo /system.slice").cgroup(7)
    assert log.read_text().splitlines()[-1] != str(os.getsid(0))


def test_the_reason_of_systemctl(log: Path) -> None:
    shown = "case $1 in show) printf 'Result=exit-code\nExecMainCode=1\nExecMainStatus=98\n';; esac"
    units = says(log, f"{shown}; echo Job for it failed. >&2; echo See status. >&2; exit 1")
    with pytest.raises(SystemdError) as failed:
        units.start(7, lambda: None)
    assert str(failed.value) == (
        "systemctl start edge@7.service: Job for it failed. See status.; edge@7.service: "
        "exit-code, exit code 98; its journal ends: cannot bind | bye"
    )
    with pytest.raises(SystemdError, match=r"^Job for it failed. See status.$"):
        units.check()


#: A journal without lines, as journalctl shows it.
EMPTY = 'case "$*" in *--quiet*) ;; *) echo -- No entries --;; esac'


@pytest.mark.parametrize(
    ("shown", "journal", "message"),
    [
        ("exit-code 1 98", "echo bye", "exit-code, exit code 98; its journal ends: bye"),
        ("signal 2 9", EMPTY, "signal, signal 9"),
        ("success 1 0", "echo bye", "its journal ends: bye"),
        ("success 1 0", EMPTY, "its journal is empty"),
    ],
)
def test_how_it_has_failed(log: Path, shown: str, journal: str, message: str) -> None:
    result, code, status = shown.split()
    properties = f"Result={result}\nExecMainCode={code}\nExecMainStatus={status}\n"
    units = says(log, f"printf '{properties}'", journal)
    assert units.failure(7) == f"edge@7.service: {message}"


def test_values_of_its_environment_are_no_part_of_messages(log: Path, tmp_path: Path) -> None:
    """Keep the values out of messages, which journals, playbooks and reports show."""
    file = tmp_path / "edge.env"
    file.write_text("# of the vault\nKEY='hunter2 hunter2'\nMODE=on\n")
    properties = (
        'Environment=TOKEN=abcd1234 "PHRASE=two words"',
        f"EnvironmentFiles={file} (ignore_errors=no)",
        f"EnvironmentFiles={tmp_path}/none (ignore_errors=yes)",
    )
    shown = f"cat <<'END'\n{chr(10).join(properties)}\nEND"
    journal = "echo is abcd1234 on; echo two words; echo hunter2 hunter2"
    units = says(log, shown, journal)
    assert units.failure(7).endswith("its journal ends: is [TOKEN] on | [PHRASE] | [KEY]")
    units = says(log, "echo 'Environment=\"A=long text'", "echo long text")
    assert units.failure(7).endswith("its journal ends: [A]")  # of a quote that is not closed


def test_a_start_that_hangs(log: Path) -> None:
    units = says(log, 'case "$2" in start) exec sleep 1000; esac')
    begun = time.monotonic()
    with pytest.raises(SystemdError, match=r"edge@7.service: not done with start after 0.3 s"):
        units.start(7, lambda: None)
    assert time.monotonic() - begun < PATIENCE_S


def test_a_start_is_given_up(log: Path) -> None:
    class Enough(Exception):
        pass

    def check_cancelled() -> None:
        raise Enough

    begun = time.monotonic()
    with pytest.raises(Enough):
        says(log, "exec sleep 1000").start(7, check_cancelled)
    assert time.monotonic() - begun < PATIENCE_S


def test_the_cgroup(log: Path) -> None:
    path = says(log, "echo /system.slice/edge@7.service").cgroup(7)
    assert str(path).startswith("/sys/fs/cgroup")
    assert str(path).endswith("/system.slice/edge@7.service")
    with pytest.raises(SystemdError, match=r"unit edge@7.service has no cgroup"):
        says(log, "exit 0").cgroup(7)
