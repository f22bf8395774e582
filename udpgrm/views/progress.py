# SPDX-License-Identifier: Apache-2.0
"""The progress of a restart: a bar in a terminal, entries in the journal, JSON lines elsewhere."""

from __future__ import annotations

import json
from typing import Any, Optional, TextIO

from udpgrm import log
from udpgrm.journald import MessageId, Priority

_BAR = 24
_CLEAR = "\r\x1b[K"

Document = dict[str, Any]

#: The entries of systemd's journal for a restart's end.
_ENDS = {
    "finished": (MessageId.RESTART_FINISHED, Priority.INFO),
    "rolled_back": (MessageId.RESTART_ROLLED_BACK, Priority.WARNING),
    "failed": (MessageId.RESTART_FAILED, Priority.WARNING),
}


class _Steps:
    """The steps that have begun or ended since the last call."""

    def __init__(self) -> None:
        self._begun = self._ended = 0

    def news(self, journal: Document) -> list[tuple[str, Document]]:
        """Return (begun or ended, step) in their order."""
        found = []
        for position, step in enumerate(journal["steps"]):
            if position >= self._begun:
                self._begun = position + 1
                found.append(("begun", step))
            if position >= self._ended and step["ended"] is not None:
                self._ended = position + 1
                found.append(("ended", step))
        return found


class Lines:
    """One JSON object a line: steps, samples of a drain, the outcome."""

    def __init__(self, stream: TextIO) -> None:
        """Print to this stream."""
        self._stream = stream
        self._steps = _Steps()
        self._progress: Optional[Document] = None

    def show(self, journal: Document) -> None:
        """Print what is new."""
        head = {"schema": journal["schema"], "service": journal["service"]}
        for event, step in self._steps.news(journal):
            begun = {"step": step["step"], "started": step["started"]}
            self._print({**head, "event": event, **(begun if event == "begun" else step)})
        progress = journal["progress"]
        if progress is not None and progress != self._progress:
            self._print({**head, "event": "progress", "step": journal["step"], **progress})
        self._progress = progress
        if journal["outcome"] is not None:
            self._print({**head, "event": "outcome", "outcome": journal["outcome"]})

    def _print(self, content: Document) -> None:
        print(json.dumps(content), file=self._stream, flush=True)


class Entries:
    """Entries of systemd's journal: steps that have ended, samples of a drain, the outcome."""

    def __init__(self, earlier: Optional[Document]) -> None:
        """Leave out what an earlier process has done of the same restart."""
        self._steps = _Steps()
        self._earlier = earlier
        self._progress: Optional[Document] = None

    def show(self, journal: Document) -> None:
        """Log what is new."""
        if self._earlier is not None and self._earlier["started"] == journal["started"]:
            self._steps.news(self._earlier)
        self._earlier = None
        named = {
            "service": journal["service"],
            "from_generation": journal["from_generation"],
            "generation": journal["to_generation"],
        }
        for event, step in self._steps.news(journal):
            if event == "ended":
                log.event(
                    f"{journal['service']}: {step_line(step)}",
                    {**named, "step": step["step"], "result": step["result"]},
                )
        progress = journal["progress"]
        if progress is not None and progress != self._progress:
            log.event(
                f"{journal['service']}: {drain_line(journal['step'], progress)}",
                {**named, "step": journal["step"], "flows": progress["flows"]},
                priority=Priority.DEBUG,
            )
        self._progress = progress
        if journal["outcome"] is not None:
            message_id, priority = _ENDS[journal["outcome"]]
            outcome = {**named, "step": journal["step"], "outcome": journal["outcome"]}
            log.event(outcome_line(journal), outcome, message_id, priority)


class Terminal:
    """A line for each step, and a line that changes while an instance drains."""

    def __init__(self, stream: TextIO) -> None:
        """Print to this stream."""
        self._stream = stream
        self._steps = _Steps()

    def show(self, journal: Document) -> None:
        """Print what is new."""
        for event, step in self._steps.news(journal):
            if event == "ended":
                self._stream.write(_CLEAR + step_line(step) + "\n")
        if journal["outcome"] is not None:
            self._stream.write(_CLEAR + outcome_line(journal) + "\n")
        elif journal["progress"] is not None:
            line = drain_line(journal["step"], journal["progress"])
            self._stream.write(_CLEAR + line[: _width()])
        else:
            self._stream.write(_CLEAR + f"{journal['step']} ...")
        self._stream.flush()


class DrainLine:
    """The progress of a drain outside of a restart."""

    def __init__(self, stream: TextIO) -> None:
        """Print to this stream."""
        self._stream = stream

    def show(self, progress: Document, decision: str) -> None:
        """Print a sample: over the last one in a terminal, else a JSON object in a line."""
        if self._stream.isatty():
            end = "" if decision == "wait" else f"\n{decision}\n"
            self._stream.write(_CLEAR + drain_line("drain", progress)[: _width()] + end)
        else:
            self._stream.write(json.dumps({"schema": 1, "event": decision, **progress}) + "\n")
        self._stream.flush()


def _width() -> int:
    import shutil

    return shutil.get_terminal_size().columns - 1


def step_line(step: Document) -> str:
    """Return the line of a step that has ended."""
    took = max(0.0, step["ended"] - step["started"])  # the clock may have been set back
    reason = f": {step['reason']}" if step["reason"] else ""
    return f"{step['step']:<10} {step['result']:<9} {took:8.3f} s{reason}"


def outcome_line(journal: Document) -> str:
    """Return the outcome of a restart, in one sentence."""
    service, old, new = journal["service"], journal["from_generation"], journal["to_generation"]
    if journal["outcome"] == "finished":
        window = journal["promotion_window_s"]
        if journal["step"] == "drain":
            return f"{service}: finished: generation {new} is active, {old} was kept running"
        return (
            f"{service}: finished: generation {new} is active, switched in {window * 1000:.0f} ms"
        )
    reason = next((step["reason"] for step in journal["steps"] if step["reason"]), "")
    if journal["outcome"] == "rolled_back":
        return f"{service}: rolled back: generation {_active(journal)} is active: {reason}"
    return f"{service}: failed in {journal['step']}: {reason}"


def _active(journal: Document) -> str:
    """Return the generation that is active after a rollback: the old one, if no step knows."""
    old = journal["from_generation"]
    for step in reversed(journal["steps"]):
        if old is not None and step["step"] == "demote" and "working" in step["evidence"]:
            return ", ".join(sorted({str(one) for one in step["evidence"]["working"].values()}))
    return "none" if old is None else str(old)


def drain_line(step: str, progress: Document) -> str:
    """Return a bar of the flows that are gone, or of the time if flows are not counted."""
    flows, begin = progress["flows"], progress["flows_at_start"]
    if flows is None or not begin:
        share = progress["elapsed_s"] / progress["max_s"] if progress["max_s"] else 1.0
    else:
        share = 1 - flows / max(begin, flows)
    full = round(_BAR * min(1.0, max(0.0, share)))
    parts = [f"{step} [{'#' * full}{'.' * (_BAR - full)}]"]
    parts.append("flows not counted" if flows is None else f"{flows} flows left")
    if progress.get("connected"):
        parts.append(f"{progress['connected']} connected")
    if progress.get("connected_unknown"):
        parts.append(f"not waiting for {progress['connected_unknown']} unknown connected sockets")
    if progress["trend"] is not None:
        parts.append(f"{progress['trend']:+.1f}/s")
    if progress["packets_per_s"] is not None:
        parts.append(f"{progress['packets_per_s']:.0f} packets/s")
    if progress["quiet_s"] is not None:
        parts.append(f"quiet {progress['quiet_s']:.0f} s")
    if progress["estimate_s"] is not None:
        parts.append(f"about {progress['estimate_s']:.0f} s more")
    parts.append(f"{progress['elapsed_s']:.0f} of {progress['max_s']:.0f} s")
    return "  ".join(parts)
