# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""Restarts in a row under load: nothing is lost by steering, no flow moves.

`make soak`; SOAK_RESTARTS, SOAK_FLOWS and SOAK_PACKETS (a second) change its size.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from typing import Any

from testing.host import ROOT
from tests.kernel.restarts import Edge

RESTARTS = int(os.environ.get("SOAK_RESTARTS", "100"))
FLOWS = int(os.environ.get("SOAK_FLOWS", "2000"))
PACKETS = int(os.environ.get("SOAK_PACKETS", "20000"))
LIFE_S = 2.0
#: Answers packets of the load with its generation, echoes probes (16 bytes). Its buffers are large:
#: what is measured is steering.
SERVER = f"""
import os, signal, socket, sys, threading
sys.path.insert(0, {str(ROOT)!r})
import udpgrm.client as grm
generation, address = int(sys.argv[1]), sys.argv[2]
sockets = grm.bind(address, 2, flow_timeout=1)
for sock in sockets:
    sock.setsockopt(socket.SOL_SOCKET, 33, 1 << 23)  # SO_RCVBUFFORCE
grm.enroll(sockets, generation)
signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
head = b"%d " % generation
def serve(sock):
    receive, send = sock.recvfrom, sock.sendto
    while True:
        data, peer = receive(100)
        send(data if len(data) == 16 else head + data, peer)
for sock in sockets:
    threading.Thread(target=serve, args=(sock,), daemon=True).start()
channel = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
channel.sendto(b"READY=1", os.environ["NOTIFY_SOCKET"])
channel.close()
signal.pause()
"""
#: Steps whose length is the server's or its users'.
NOT_OURS = {"start", "drain"}


def test_restarts_under_load(edge: Edge) -> None:
    edge.server.write_text(SERVER)
    # threads that wait for each other's turn answer late, which is not what is measured
    edge.define(probes=[{"type": "echo", "timeout_s": 2, "retries": 2}])
    first = edge.restart("--json")
    assert first.returncode == 0, first.stdout + first.stderr
    traffic = subprocess.Popen(
        [sys.executable, "-m", "tests.soak.traffic", "4433", str(FLOWS), str(PACKETS), str(LIFE_S)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )
    assert traffic.stdout is not None
    assert traffic.stdout.readline() == "running\n"
    windows: list[float] = []
    ours: list[float] = []
    try:
        for number in range(RESTARTS):
            done = edge.restart("--json")
            assert done.returncode == 0, f"restart {number}: {done.stdout}{done.stderr}"
            journal = json.loads(done.stdout)
            windows.append(journal["promotion_window_s"])
            steps = journal["steps"]
            took = {step["step"]: step["ended"] - step["started"] for step in steps}
            ours.append(sum(seconds for step, seconds in took.items() if step not in NOT_OURS))
            assert traffic.poll() is None
    finally:
        output, _ = traffic.communicate("")
    result: dict[str, Any] = json.loads(output)
    by_generation = result.pop("generations")
    counters = edge.host.counters("127.0.0.1:4433")
    print(f"\n{RESTARTS} restarts of a FLOW service, {FLOWS} flows at a time: {result}")
    print(f"promotion window: {_spread(windows)}; all but start and drain: {_spread(ours)}")
    print(f"kernel: {counters}")
    assert (result["moved"], result["lost"]) == (0, 0)
    assert "rx_new_flow_working_gen_dispatch_error" not in counters
    assert "tx_flow_update_conflict" not in counters
    # every instance had flows of its own
    assert len(by_generation) == RESTARTS + 1
    assert result["sent"] >= 0.9 * PACKETS * result["seconds"], "the load was not reached"


def _spread(seconds: list[float]) -> str:
    ordered = [round(value * 1000) for value in sorted(seconds)]
    return f"median {statistics.median(ordered):.0f}, worst {ordered[-1]} ms"
