# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""The steps of a restart for a service of 256 addresses, two sockets each."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator
from functools import partial
from typing import Callable

import udpgrm.client as grm
from benchmarks.report import Row
from benchmarks.stats import summary
from testing.host import Host
from udpgrm.restart.groups import Groups
from udpgrm.services.definition import Group

_SECTION = "A service of 256 addresses, two sockets each"
_ADDRESSES, _SOCKETS, _FIRST_PORT = 256, 2, 5000
_OLD, _NEW, _ROUNDS = 1, 2, 5
_BAR_MS = 500.0


def measure(host: Host) -> Iterator[Row]:
    """Measure what the steps do with all addresses: promote them, and look at them."""
    where = [f"127.0.0.1:{_FIRST_PORT + number}" for number in range(_ADDRESSES)]
    made: list[socket.socket] = []
    try:
        for address in where:
            for generation in (_OLD, _NEW):
                sockets = grm.bind(address, _SOCKETS)
                made += sockets
                grm.enroll(sockets, generation, timeout=60)
        groups = Groups(host.directory, [Group(address, _SOCKETS) for address in where])
        yield Row(_SECTION, "promote", "ms", summary(_promotions(groups)), bar=_BAR_MS)
        looks: dict[str, Callable[[], object]] = {
            "working generations": groups.working,
            "counters and drops": groups.reading,
            "flows that drain": lambda: groups.sample(_OLD),
        }
        for name, look in looks.items():
            yield Row(_SECTION, name, "ms", summary([_took(look) for _ in range(_ROUNDS)]))
    finally:
        for sock in made:
            sock.close()


def _promotions(groups: Groups) -> list[float]:
    """Promote one generation and the other in turn, as the step does; all addresses or none."""

    def promote(generation: int) -> None:
        with groups.held(generation, [os.getpid()]) as sockets:
            if len(sockets) != _ADDRESSES:
                raise RuntimeError(f"{len(sockets)} of {_ADDRESSES} addresses have a socket")
            for sock in sockets.values():
                grm.promote(sock, generation)
        if set(groups.working().values()) != {generation}:
            raise RuntimeError(f"generation {generation} is not the working one everywhere")

    turns = (_NEW if number % 2 == 0 else _OLD for number in range(_ROUNDS))
    return [_took(partial(promote, turn)) for turn in turns]


def _took(action: Callable[[], object]) -> float:
    before = time.perf_counter()
    action()
    return (time.perf_counter() - before) * 1e3
