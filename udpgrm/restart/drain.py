# SPDX-License-Identifier: Apache-2.0
"""The decision whether a generation has drained. Pure: samples in, decision out."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from enum import Enum
from typing import Any, Optional

from udpgrm.services.definition import DrainUntil

#: Seconds of samples that the trend is computed of.
_WINDOW_S = 10.0
_LEAST_SPAN_S = 0.5


class Decision(str, Enum):
    """The result of a sample."""

    WAIT = "wait"
    DRAINED = "drained"
    TIMEOUT = "timeout"


@dataclass(frozen=True)
class Sample:
    """One sample of a generation, over all groups of a service.

    at: monotonic seconds. flows None: its dissector counts none. packets: in
    and out since it began. quiet_s: since the last packet; None: never one.
    connected: sockets connected to a peer, of which flows counts each; their
    packets are in none of the other figures. unknown: connected sockets at the
    addresses whose generation is unknown, in none of these figures. flow_timeout: how long a flow
    lasts after its last packet, in seconds; 0: no flow table. unseen: in a group with a flow table
    it has received packets, and no hook has seen it send any.
    """

    at: float
    sockets: int
    flows: Optional[int]
    packets: int
    quiet_s: Optional[float]
    connected: int = 0
    unknown: int = 0
    flow_timeout: int = 0
    unseen: bool = False


class Watcher:
    """Watches a generation from the first sample on, for max_s seconds."""

    def __init__(self, until: DrainUntil, max_s: float) -> None:
        """Watch until `until` holds, for at most max_s seconds."""
        self._until = until
        self._max_s = max_s
        self._first: Optional[Sample] = None
        self._most: Optional[int] = None
        self._samples: deque[Sample] = deque()

    def decide(self, sample: Sample) -> Decision:
        """Record a sample; return whether the generation has drained."""
        if self._first is None:
            self._first = sample
        if sample.flows is not None:
            self._most = max(sample.flows, self._most or 0)
        self._samples.append(sample)
        while sample.at - self._samples[0].at > _WINDOW_S:
            self._samples.popleft()
        if self._is_drained(sample):
            return Decision.DRAINED
        if sample.at - self._first.at >= self._max_s:
            return Decision.TIMEOUT
        return Decision.WAIT

    def _is_drained(self, sample: Sample) -> bool:
        if not sample.sockets and not sample.connected:  # the instance has ended by itself
            return True
        until = self._until
        if until.quiet_s is not None and sample.connected:
            return False  # connected sockets do not show whether they are quiet
        if until.quiet_s is None:
            return until.flows is not None and (
                sample.flows is not None and sample.flows <= until.flows
            )
        # if no dissector counts flows, quiet alone decides
        few = until.flows is None or sample.flows is None or sample.flows <= until.flows
        return few and (sample.quiet_s is None or sample.quiet_s >= until.quiet_s)

    def shortfall(self) -> str:
        """Return what the time was too short for, and what would help if flows outlast it."""
        sample, after = self._samples[-1], f"after {self._max_s:g} s"
        if sample.flows is None:
            return f"it was not quiet {after}"
        text = f"{sample.flows} flows remained {after}"
        if sample.flow_timeout < self._max_s:
            return text
        return (
            f"{text}: each lasts {sample.flow_timeout} s beyond its last packet (choose a longer "
            "drain.max_s, or a shorter flow_timeout)"
        )

    def doubt(self) -> str:
        """Return why a count of no flows may mean nothing; "": it means what it says."""
        sample = self._samples[-1]
        if not sample.unseen or sample.flows or self._until.quiet_s is not None:
            return ""
        return (
            "no hook has seen it send: if it answers, past the hooks, its flows are not counted "
            "(let it be quiet: drain.until.quiet_s, --quiet)"
        )

    def report(self) -> dict[str, Any]:
        """Return the last sample with the trend and an estimate, for people and programs.

        flows_most: of any sample; cookie kinds count flows only as they are seen.
        trend: flows per second, of the last 10 s (negative: they go).
        estimate_s: until enough of them have gone, at that trend; None: unknown.
        """
        assert self._first is not None
        sample, begin = self._samples[-1], self._samples[0]
        span = sample.at - begin.at
        trend = rate = None
        if span >= _LEAST_SPAN_S:
            rate = max(0.0, (sample.packets - begin.packets) / span)
            if sample.flows is not None and begin.flows is not None:
                trend = (sample.flows - begin.flows) / span
        return {
            "elapsed_s": round(sample.at - self._first.at, 3),
            "max_s": self._max_s,
            "sockets": sample.sockets,
            "flows": sample.flows,
            "connected": sample.connected,
            "connected_unknown": sample.unknown,
            "flows_at_start": self._first.flows,
            "flows_most": self._most,
            "packets_per_s": None if rate is None else round(rate, 1),
            "quiet_s": None if sample.quiet_s is None else round(sample.quiet_s, 3),
            "trend": None if trend is None else round(trend, 2),
            "estimate_s": self._estimate(sample, trend),
        }

    def _estimate(self, sample: Sample, trend: Optional[float]) -> Optional[float]:
        if sample.flows is None or self._until.flows is None or not trend or trend >= 0:
            return None
        return round(max(0, sample.flows - self._until.flows) / -trend, 1)
