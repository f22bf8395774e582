# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""kamailio as a proxy with a fixed upstream, unmodified, restarted during calls of sipp."""

from __future__ import annotations

import contextlib
import csv
import shutil
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from testing.host import wait_for
from testing.waiting import PATIENCE_S
from tests.kernel.restart_fixtures import edge
from tests.kernel.restarts import UNTIL_NO_FLOWS, WHERE, Edge, serving_only

__all__ = ["edge"]

pytestmark = pytest.mark.skipif(
    not (shutil.which("kamailio") and shutil.which("sipp")), reason="needs kamailio and sipp"
)

UPSTREAM = 5080
#: Calls a second, how long each lasts (ms), and how many have ended when the restart begins.
RATE, LASTS_MS, BEFORE = 50, 500, 100
#: How long a call lives without a message: longer than a busy machine takes for the next one.
FLOW_S = 15
#: Longer than kamailio repeats a request: by then it has given up those whose answers went astray.
LONG_S = 40
#: A buffer that holds what arrives while a busy machine does not let a program run for seconds.
BUFFER = 425984
#: One worker: several put the messages of a call out of order, which sipp takes for failures.
#: Answers of transactions that it does not have are dropped, as is usual on the open network.
PROXY = f"""\
disable_tcp=yes
children=1
maxbuffer={BUFFER}
log_stderror=yes
listen=udp:{WHERE}
mpath="MODULES"
loadmodule "tm.so"
loadmodule "sl.so"
loadmodule "pv.so"
loadmodule "textops.so"
request_route {{
    if (is_method("OPTIONS")) {{ sl_send_reply("200", "OK"); exit; }}
    $du = "sip:127.0.0.1:{UPSTREAM}";
    t_relay();
}}
reply_route {{
    if (!t_check_trans()) {{ drop; }}
}}
"""
#: Stands for systemd: says that the server is ready once it has bound its socket.
UNIT = """
import os, signal, socket, subprocess, sys, time
server = subprocess.Popen(["kamailio", "-DD", "-E", "-f", sys.argv[1]])
def stop(*_):
    server.terminate()
    server.wait()
    os._exit(0)
signal.signal(signal.SIGTERM, stop)
def bound():
    children = open(f"/proc/{server.pid}/task/{server.pid}/children").read().split()
    return len(children) > 2
while server.poll() is None and not bound():
    time.sleep(0.05)
channel = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
channel.sendto(b"READY=1", os.environ["NOTIFY_SOCKET"])
channel.close()
sys.exit(server.wait())
"""


def modules() -> str:
    (found,) = Path("/usr/lib").glob("*-linux-gnu/kamailio/modules")
    return f"{found}/"


class Sipp:
    """Callers with a port for each call, which repeat nothing, and an upstream of one address."""

    def __init__(self, scratch: Path) -> None:
        self._statistics = scratch / "calls.csv"
        self._upstream = self._run("-sn", "uas", "-p", str(UPSTREAM))
        wait_for(lambda: f":{UPSTREAM:04X} " in Path("/proc/net/udp").read_text(), "the upstream")
        self._callers = self._run(
            *("-sn", "uac", "-t", "un", "-max_socket", "4000"),
            *("-nr", "-r", str(RATE), "-d", str(LASTS_MS)),
            *("-recv_timeout", "30000", "-trace_stat", "-stf", str(self._statistics), "-fd", "1"),
            WHERE,
        )

    @staticmethod
    def _run(*arguments: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            ["sipp", "-i", "127.0.0.1", "-nostdin", "-buff_size", str(BUFFER // 2), *arguments],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def calls(self) -> tuple[int, int]:
        """Return how many calls have succeeded, and how many have failed."""
        with contextlib.suppress(FileNotFoundError), self._statistics.open() as file:
            rows = list(csv.DictReader(file, delimiter=";"))
            if rows and rows[-1].get("FailedCall(C)"):
                return int(rows[-1]["SuccessfulCall(C)"]), int(rows[-1]["FailedCall(C)"])
        return 0, 0

    def end(self) -> tuple[int, int]:
        """Stop beginning calls; return the result when all have ended."""
        self._callers.send_signal(signal.SIGUSR1)
        self._callers.wait(PATIENCE_S)
        return self.calls()

    def close(self) -> None:
        for process in (self._callers, self._upstream):
            process.kill()
            process.wait()


@pytest.fixture
def kamailio(edge: Edge, tmp_path: Path) -> Edge:
    configuration = tmp_path / "kamailio.cfg"
    configuration.write_text(PROXY.replace("MODULES", modules()))
    edge.server.write_text(UNIT)
    (edge.units / "edge@.service").write_text(f"python3 {edge.server} {configuration} %i")
    return edge


def _reasons(edge: Edge) -> list[str]:
    return [
        f"{item['step']}: {item['reason']}" for item in edge.journal()["steps"] if item["reason"]
    ]


def calls_around_a_restart(edge: Edge, scratch: Path, dissector: dict[str, Any]) -> tuple[int, int]:
    edge.define(
        groups=[{"address": WHERE, "sockets": 1, "dissector": dissector}],
        probes=[{"type": "sip", "timeout_s": 30}],
        enrollment="adopted",
        drain={**UNTIL_NO_FLOWS, "max_s": LONG_S, "on_timeout": "stop"},
        budget={"misdirected": 1000000},
    )
    done = edge.restart("--json")
    assert done.returncode == 0, _reasons(edge)
    with contextlib.closing(Sipp(scratch)) as sipp:
        wait_for(lambda: sipp.calls()[0] >= BEFORE, "calls to be made")
        done = edge.restart("--json")
        assert done.returncode == 0, _reasons(edge)
        assert serving_only(edge, 2)
        return sipp.end()


def test_no_call_fails(kamailio: Edge, tmp_path: Path) -> None:
    named = {"name": "sip", "parameters": {"flow_timeout": FLOW_S}}
    good, failed = calls_around_a_restart(kamailio, tmp_path, named)
    assert good > BEFORE
    assert failed == 0


def test_calls_fail_with_flow(kamailio: Edge, tmp_path: Path) -> None:
    """Lose new calls with the flow dissector: the upstream is one flow, of the old instance."""
    named = {"name": "flow", "parameters": {"flow_timeout": LONG_S}}
    _, failed = calls_around_a_restart(kamailio, tmp_path, named)
    assert failed > 0
    [drain] = [item for item in kamailio.journal()["steps"] if item["step"] == "drain"]
    assert drain["evidence"]["conflicts"] > 0
