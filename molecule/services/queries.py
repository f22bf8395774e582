# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""DNS load on the hosts, until standard input ends: both kinds of tests/servers.

    queries.py PORT NAME=ADDRESS..

A resolver's queries, each from a port of its own, ask which instance answers; those are written as
sessions. dnsperf's come from four ports that stay, and are counted: a session without
generations for each one that was lost.
"""

from __future__ import annotations

import contextlib
import re
import sys
import time
from collections.abc import Iterator

from sessions import Session, should_end, write

from testing.load import Load, load

LIMIT_S = 600.0


def of_host(host: str, queries: Load) -> Iterator[Session]:
    """Return the sessions of a host's queries."""
    counts = queries.end()
    epoch = time.time() - time.monotonic()
    resolver = queries.resolver
    for answer in resolver.answers:
        session = Session(host, epoch + answer.sent, epoch + answer.received)
        session.ended = session.established
        session.answered_by(int(re.sub("[a-z]", "", answer.name)))
        yield session
    for sent in resolver.lost:
        yield Session(host, epoch + sent, problem="a query from a port of its own was lost")
    for _ in range(counts.lost - len(resolver.lost)):
        yield Session(host, epoch, problem="a query of dnsperf was lost")
    print(f"{host}: {counts.sent} queries, {counts.lost} lost", file=sys.stderr)


def main() -> int:
    """Run the command line."""
    port = int(sys.argv[1])
    places = dict(word.split("=") for word in sys.argv[2:])
    with contextlib.ExitStack() as stack:
        loads = {host: stack.enter_context(load(port, place)) for host, place in places.items()}
        print("ready", flush=True)
        should_end(LIMIT_S)
        for host, queries in loads.items():
            write(of_host(host, queries))
    return 0


if __name__ == "__main__":
    sys.exit(main())
