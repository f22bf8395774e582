# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""The daemon's events as entries of systemd's journal; its steps stay lines of another stream."""

from __future__ import annotations

import socket
from pathlib import Path

import udpgrm.client as grm
from testing.host import Host
from testing.journal import decoded
from testing.waiting import PATIENCE_S
from udpgrm.journald import MessageId
from udpgrm.kernel import sockopt

#: Its stdout is the journal's.
JOURNAL = """
import os
from udpgrm import journald
journald.SOCKET = {path!r}
status = os.fstat(1)
os.environ["JOURNAL_STREAM"] = f"{{status.st_dev}}:{{status.st_ino}}"
"""


def test_fields(bare_host: Host, tmp_path: Path) -> None:
    path = str(tmp_path / "journal")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as journal:
        journal.bind(path)
        journal.settimeout(PATIENCE_S)
        bare_host.start(fault=JOURNAL.format(path=path))
        [sock] = grm.bind("127.0.0.1:7000")
        grm.enroll([sock], 3)
        grm.promote(sock, 3)
        entries = [decoded(journal.recv(65536))]
        while entries[-1]["MESSAGE"] != "setting working gen":
            entries.append(decoded(journal.recv(65536)))
        cookie = sockopt.cookie(sock)
        netns = sockopt.netns_cookie(sock)
        sock.close()
    group = {"UDPGRM_GROUP": "127.0.0.1:7000", "UDPGRM_NETNS_COOKIE": str(netns)}
    generation = {**group, "UDPGRM_APPLICATION": "0", "UDPGRM_GENERATION": "3"}
    registered = {**generation, "UDPGRM_SOCKET_COOKIE": str(cookie)}
    working = {**generation, "MESSAGE_ID": MessageId.WORKING_GENERATION.value}
    named = {
        entry.pop("MESSAGE"): {
            name: value
            for name, value in entry.items()
            if name.startswith("UDPGRM") or name == "MESSAGE_ID"
        }
        for entry in entries
    }
    assert named == {
        "socket group created 127.0.0.1:7000": group,
        f"socket found 127.0.0.1:7000 so_cookie {cookie:#x}": registered,
        f"registering socket 127.0.0.1:7000 app 0 gen 3 so_cookie {cookie:#x}": registered,
        "Working gen app=0 3 127.0.0.1:7000": working,
        "setting working gen": generation,
    }
    assert bare_host.events.read_text() == ""
    assert "Tailing message ring buffer\n" in bare_host.errors.read_text()
