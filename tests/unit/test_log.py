# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""Log lines, and entries with fields where systemd's journal reads them."""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from testing.journal import decoded
from udpgrm import journald, log
from udpgrm.journald import Fields, MessageId, Priority

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def channel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """Yield the journal's end of its socket."""
    path = str(tmp_path / "socket")
    monkeypatch.setattr(journald, "SOCKET", path)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as received:
        received.bind(path)
        received.setblocking(False)
        yield received


@pytest.fixture
def stdout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], str]]:
    """Return a reader of stdout, which the environment declares to be the journal's."""
    path = tmp_path / "stdout"
    with path.open("w") as stream, (tmp_path / "stderr").open("w") as other:
        # capturing replaces those of sys
        monkeypatch.setattr(log, "sys", SimpleNamespace(stdout=stream, stderr=other))
        status = os.fstat(stream.fileno())
        monkeypatch.setenv("JOURNAL_STREAM", f"{status.st_dev}:{status.st_ino}")
        yield path.read_text


def test_an_entry(channel: socket.socket, stdout: Callable[[], str]) -> None:
    fields: Fields = {"group": "0.0.0.0:4433", "generation": 3, "application": None}
    log.event("setting working gen", fields, MessageId.WORKING_GENERATION)
    assert decoded(channel.recv(65536)) == {
        "MESSAGE": "setting working gen",
        "PRIORITY": "6",
        "SYSLOG_IDENTIFIER": "udpgrm",
        "MESSAGE_ID": MessageId.WORKING_GENERATION.value,
        "UDPGRM_GROUP": "0.0.0.0:4433",
        "UDPGRM_GENERATION": "3",
    }
    assert stdout() == ""


def test_another_reader_gets_lines(
    channel: socket.socket, stdout: Callable[[], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for value in ("1:2", None):
        if value is None:
            monkeypatch.delenv("JOURNAL_STREAM")
        else:
            monkeypatch.setenv("JOURNAL_STREAM", value)
        log.event("setting working gen", {"generation": 3})
    assert stdout() == "setting working gen\n" * 2
    with pytest.raises(BlockingIOError):
        channel.recv(65536)


def test_stderr_is_a_stream_of_its_own(
    channel: socket.socket, stdout: Callable[[], str], tmp_path: Path
) -> None:
    log.problem("no steering")
    assert (tmp_path / "stderr").read_text() == "no steering\n"
    with pytest.raises(BlockingIOError):
        channel.recv(65536)


def test_no_text_becomes_a_field(channel: socket.socket, stdout: Callable[[], str]) -> None:
    text = "no steering: error\nUDPGRM_GROUP=another\nPRIORITY=0"
    log.event(text, {"group": "[::1]:7000\nUDPGRM_GENERATION=9"})
    entry = decoded(channel.recv(65536))
    assert (entry["MESSAGE"], entry["PRIORITY"]) == (text, "6")
    assert entry["UDPGRM_GROUP"] == "[::1]:7000\nUDPGRM_GENERATION=9"
    assert "UDPGRM_GENERATION" not in entry


def test_a_long_line_is_cut(channel: socket.socket, stdout: Callable[[], str]) -> None:
    log.event("x" * 100_000)
    assert decoded(channel.recv(65536))["MESSAGE"] == "x" * 4000


def test_a_busy_journal_delays_nothing(channel: socket.socket, stdout: Callable[[], str]) -> None:
    while journald.send(journald.Entry("filled", {})):
        pass
    log.event("one more")
    assert stdout() == "one more\n"


def test_no_journal(stdout: Callable[[], str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journald, "SOCKET", "/nowhere/socket")
    log.event("setting working gen")
    assert stdout() == "setting working gen\n"


@pytest.mark.parametrize(
    "call, priority",
    [(log.event, Priority.INFO), (log.step, Priority.INFO), (log.problem, Priority.WARNING)],
)
def test_priorities(
    channel: socket.socket,
    stdout: Callable[[], str],
    monkeypatch: pytest.MonkeyPatch,
    call: Callable[[str], None],
    priority: Priority,
) -> None:
    # systemd gives both the same stream
    streams = vars(log)["sys"]
    monkeypatch.setattr(streams, "stderr", streams.stdout)
    call("text")
    assert decoded(channel.recv(65536))["PRIORITY"] == str(priority.value)


def test_the_page_has_every_message_id() -> None:
    page = (ROOT / "docs/logs.md").read_text()
    assert re.findall(r"`([0-9a-f]{32})`", page) == [item.value for item in MessageId]
