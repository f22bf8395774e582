# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""Evaluates restarts by what clients see: no packet is lost, no flow changes its instance.

    python3 -m testbed.steady --inventory FILE --port PORT [--seen N] -- COMMAND...

COMMAND runs while the demo's traffic goes to every host of FILE (made by `testbed/fleet
inventory`). Each host has to be seen with N instances (default 2). Clocks of the hosts play
no part, unlike in demo.under_traffic: virtual machines have clocks of their own.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from testing import flows, hosts
from testing.processes import FLEET, exit_status, run, started

WARM_UP = 3.0
# Of all hosts together, which share two processors with their clients; and of one host.
LONG_FLOWS, MOST_LONG_FLOWS = 100, 50
# after the last switch: longer than the old flows' hold, for a last word of the new ones
TAIL = 4.0

# A packet every 0.2 s from one port, until its input ends; prints how many instances have answered.
CLIENT = """
import select, socket, sys
sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
sock.connect((sys.argv[1], int(sys.argv[2])))
sock.settimeout(5)
names = set()
while not select.select([sys.stdin], [], [], 0.2)[0]:
    sock.send(b"?")
    names.add(sock.recv(100).split()[1].decode())
    print(len(names), flush=True)
"""


@dataclasses.dataclass
class Seen:
    """Counts of the clients of a host; moved: flows that more than one instance answered.

    late: answers to packets that were given up, and so are among the lost.
    """

    sent: int = 0
    lost: int = 0
    late: int = 0
    moved: int = 0
    strange: int = 0
    generations: set[int] = dataclasses.field(default_factory=set)

    def add(self, flow: flows.Flow) -> None:
        """Count a flow."""
        self.sent += flow.sent
        self.lost += flow.lost
        self.late += flow.repeated
        self.strange += flow.strange
        self.moved += len(flow.runs) > 1
        self.generations.update(seen.instance.generation for seen in flow.runs)

    @property
    def is_well(self) -> bool:
        """Return whether clients had no reason to complain."""
        return bool(self.sent) and not (self.lost or self.moved or self.strange)

    def __str__(self) -> str:
        generations = ", ".join(map(str, sorted(self.generations)))
        return (
            f"{self.sent} packets, {self.lost} lost, {self.late} answered late, "
            f"{self.moved} flows moved, "
            f"{self.strange} strange answers, generations {generations}"
        )


@contextlib.contextmanager
def traffic(
    places: dict[str, str], port: int, out_of_service: Path | None = None
) -> Iterator[dict[str, Seen]]:
    """Send traffic to hosts by name while the block lasts; the results are complete after it.

    out_of_service: a directory that has a file for each host that is taken out.
    """
    seen = {name: Seen() for name in places}
    with tempfile.TemporaryDirectory(prefix="udpgrm-steady-") as directory:
        out = Path(directory, "flows")
        command = [FLEET, "exec", "client", "nice", "--adjustment=-10"]
        command += [sys.executable, "-m", "testing.traffic", f"--out={out}"]
        command.append(f"--long-flows={min(MOST_LONG_FLOWS, LONG_FLOWS // len(places))}")
        command += [f"--target={name}={address}:{port}" for name, address in places.items()]
        if out_of_service is not None:
            command.append(f"--out-of-service={out_of_service}")
        with started(command, piped=True) as generator:
            assert generator.stdin and generator.stdout
            if generator.stdout.readline() != "ready\n":
                raise RuntimeError("not every flow of the generator was answered")
            time.sleep(WARM_UP)
            yield seen
            time.sleep(TAIL)
            generator.stdin.close()
            if generator.wait():
                raise RuntimeError(f"the generator failed with status {generator.returncode}")
        for flow in flows.read(out):
            seen[flow.host].add(flow)


@contextlib.contextmanager
def client_that_stays(address: str, port: int) -> Iterator[None]:
    """Run a client of one host while the block lasts; RuntimeError if it saw a restart."""
    command = [FLEET, "exec", "client", sys.executable, "-c", CLIENT, address, str(port)]
    with started(command, piped=True) as client:
        assert client.stdin and client.stdout
        client.stdout.readline()
        yield
        client.stdin.close()
        counted = client.stdout.read().split()
        if client.wait() or set(counted) != {"1"}:
            raise RuntimeError(f"the client that stays lost an answer or moved: {counted[-3:]}")


def all_well(seen: dict[str, Seen], is_right: Callable[[int], bool]) -> bool:
    """Print what clients have seen; whether all is well. is_right: of a count of generations."""
    well = True
    for name, host in seen.items():
        good = host.is_well and is_right(len(host.generations))
        print(f"{name}: {host}{'' if good else ': FAILED'}")
        well &= good
    return well


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description="restart under traffic, evaluated by clients")
    parser.add_argument("--inventory", required=True, type=Path)
    parser.add_argument("--port", required=True, type=int)
    parser.add_argument("--seen", type=int, default=2)
    parser.add_argument("command", nargs="+")
    arguments = parser.parse_args()

    def restart() -> bool:
        with traffic(hosts.addresses(arguments.inventory), arguments.port) as seen:
            status = run(arguments.command)
        return all_well(seen, lambda count: count == arguments.seen) and status == 0

    return exit_status(restart)


if __name__ == "__main__":
    sys.exit(main())
