# SPDX-License-Identifier: Apache-2.0
"""The journal of a restart: one JSON file per service, and the lock on it.

NAME.json is a service's last restart. One whose drain continues while the next
restart is under way is NAME@GENERATION.json, with a lock of its own.

The file is replaced as a whole (rename(2)) and is on the disk (fsync(2)) before
what it announces is done, so that a restart whose process was killed can be
resumed where it was. A drain's progress need not survive: see published.py.
"""

from __future__ import annotations

import contextlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Optional

from udpgrm.restart import host, lock, published, stored
from udpgrm.restart.machine import Outcome, Position, Result, Step
from udpgrm.restart.published import Published
from udpgrm.restart.statedir import JournalError, directory, is_name, path_of

SCHEMA = 1
#: More than the journal of a restart takes.
_ROOM = 1 << 18


class Suspended(Exception):
    """Raised to suspend a restart; the message says why. The journal has what it did.

    Not an OSError: those mean a failed step.
    """


@dataclass
class Record:
    """One attempt of a step; times in seconds since 1970, ended None: not yet."""

    step: Step
    started: float
    ended: Optional[float] = None
    result: Optional[Result] = None
    reason: str = ""
    evidence: dict[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return the JSON object of docs/host-interface.md."""
        return {
            "step": self.step.value,
            "started": self.started,
            "ended": self.ended,
            "result": None if self.result is None else self.result.value,
            "reason": self.reason,
            "evidence": self.evidence,
        }

    @staticmethod
    def from_json(value: dict[str, Any]) -> Record:
        """Return the record of a JSON object. Raises KeyError, TypeError, ValueError."""
        return Record(
            step=Step(value["step"]),
            started=stored.number(value["started"]),
            ended=stored.optional_number(value["ended"]),
            result=None if value["result"] is None else Result(value["result"]),
            reason=str(value["reason"]),
            evidence=stored.mapping(value["evidence"]),
        )


def boot_id() -> str:
    """Return the ID of this boot, of the machine or the container: random(4)."""
    return host.current.boot_id()


@dataclass
class Journal:
    """The state of a service's last restart.

    boot_id: the boot that its instances belong to. from_release: of the instance before,
    None: unknown. plan is what prepare found: made once, valid for every resume.
    progress is the drain's last sample; detached means that no command waits for the drain.
    """

    path: Path
    service: str
    definition: str  # text of the file that it was started with
    started: float
    boot_id: str = field(default_factory=boot_id)
    position: Position = field(default_factory=Position)
    from_generation: Optional[int] = None
    to_generation: Optional[int] = None
    from_release: Optional[str] = None
    release: Optional[str] = None
    plan: dict[str, Any] = field(default_factory=dict)
    steps: list[Record] = field(default_factory=list)
    progress: Optional[dict[str, Any]] = None
    detached: bool = False
    promotion_window_s: Optional[float] = None

    @property
    def name(self) -> str:
        """Return the name for commands: NAME, or NAME@GENERATION."""
        return self.path.stem

    @property
    def superseded(self) -> bool:
        """Return whether it has given the service's name to a later restart."""
        return "@" in self.name

    @property
    def stale(self) -> bool:
        """Return whether it is from an earlier boot: its generations may be other instances now."""
        return self.boot_id != boot_id()

    @property
    def may_be_superseded(self) -> bool:
        """Return whether the next restart may begin, while this one ends its drain by itself."""
        at_drain = self.position == Position(Step.DRAIN) and self.from_generation is not None
        return at_drain and not self.superseded and not self.stale

    def to_json(self) -> dict[str, Any]:
        """Return the JSON object of docs/host-interface.md."""
        outcome = self.position.outcome
        return {
            "schema": SCHEMA,
            "service": self.service,
            "started": self.started,
            "boot_id": self.boot_id,
            "state": (outcome or self.position.step).value,
            "step": self.position.step.value,
            "outcome": None if outcome is None else outcome.value,
            "from_generation": self.from_generation,
            "to_generation": self.to_generation,
            "from_release": self.from_release,
            "release": self.release,
            "promotion_window_s": self.promotion_window_s,
            "detached": self.detached,
            "progress": self.progress,
            "steps": [record.to_json() for record in self.steps],
            "plan": self.plan,
            "definition": self.definition,
        }

    def save(self) -> None:
        """Replace the journal's file. Raises Suspended."""
        try:
            self._write(sync_name=True)
        except OSError as error:
            raise Suspended(f"{self.path} cannot be written ({error.strerror})") from error

    def note(self) -> None:
        """Replace the journal's file without an error: losing this change would not matter.

        Its text is on the disk before its name: a power cut must not leave an empty file.
        """
        with contextlib.suppress(OSError):
            self._write(sync_name=False)

    def publish(self) -> None:
        """Show the progress and the evidence of a step that waits to other commands."""
        sample = self.progress or {}
        content = Published(self.started, len(self.steps), sample, self.steps[-1].evidence)
        published.write(self.path, content)

    def join(self) -> None:
        """Take what was published of the step that has not ended."""
        if self.steps and self.steps[-1].ended is None:
            found = published.read(self.path)
            if found is not None and found[:2] == (self.started, len(self.steps)):
                self.progress, self.steps[-1].evidence = found.progress, found.evidence

    def _write(self, sync_name: bool) -> None:
        host.current.make_directory(self.path.parent)
        host.rewrite(self.path, json.dumps(self.to_json()))
        if sync_name:
            host.current.sync(self.path.parent)

    def supersede(self) -> None:
        """Rename the journal to NAME@GENERATION, so that the next restart has NAME.

        The files of earlier ones that have ended are removed.
        """
        for earlier in superseded(self.service):
            if earlier.position.has_ended and not lock.is_locked(earlier.name):
                for suffix in (".json", ".lock"):
                    host.current.delete(path_of(earlier.name, suffix))
        published.discard(self.path)
        path = path_of(f"{self.service}@{self.from_generation}")
        host.current.replace(self.path, path)
        host.current.sync(path.parent)
        self.path = path

    def begin(self, step: Step) -> Record:
        """Record that a step is about to be done."""
        self.position = Position(step)
        self.progress = None
        record = Record(step, host.current.time())
        self.steps.append(record)
        self.save()
        return record

    def end(self, record: Record, result: Result, reason: str, position: Position) -> None:
        """Record how a step ended, and the position after it."""
        record.ended, record.result, record.reason = host.current.time(), result, reason
        self.position = position
        self.save()
        if self.progress is not None:
            published.discard(self.path)

    def last(self, step: Step) -> Optional[Record]:
        """Return the newest attempt of a step."""
        return next((record for record in reversed(self.steps) if record.step is step), None)

    def since_promotion(self) -> float:
        """Return the seconds since the promotion, by a clock that cannot be set."""
        return host.current.monotonic() - stored.number(self.plan["promotion"].get("at", 0.0))


def warn(evidence: dict[str, Any], message: str) -> None:
    """Add a message for the operator to a step's evidence, which is shown with its result."""
    evidence["reason"] = "; ".join(filter(None, (evidence.get("reason"), message)))


def want_room() -> None:
    """Check that another restart's journal can be written. Raises Suspended."""
    try:
        host.want_room(directory(), _ROOM)
    except OSError as error:
        raise Suspended(f"{directory()} cannot be written to ({error.strerror})") from error


def load(name: str) -> Optional[Journal]:
    """Return the journal of a service's last restart, or of NAME@GENERATION; None: no journal.

    Raises JournalError for a damaged file, as after a power cut, and PermissionError.
    """
    path = path_of(name)
    try:
        journal = _from_json(path, json.loads(host.current.read(path)))
    except FileNotFoundError:
        return None
    except PermissionError:  # the file may be good
        raise
    except (OSError, LookupError, TypeError, ValueError, OverflowError, RecursionError) as error:
        raise _broken(path, "read", error) from error
    journal.join()
    return journal


def _broken(path: Path, verb: str, reason: object) -> JournalError:
    return JournalError(
        f"{path} cannot be {verb} ({' '.join(str(reason).split())}): check which generation "
        "is active (udpgrm list), then remove the file"
    )


def unusable(journal: Journal, reason: object) -> JournalError:
    """Return the error for a journal that can be read, but not continued with."""
    return _broken(journal.path, "used", reason)


def want_complete(journal: Journal) -> None:
    """Check that a journal has what the rest of its restart needs. Raises JournalError."""
    step = journal.position.step
    if journal.position.has_ended or step is Step.PREPARE:
        return
    if journal.to_generation is None:
        raise unusable(journal, "to_generation is missing")
    readings: list[object] = [journal.plan]
    if step is Step.VERIFY:
        readings.append(journal.plan.get("promotion"))
    try:
        stored.mapping(journal.plan["working"])
        for taken in readings:
            stored.mapping(stored.mapping(taken)["reading"])
        if "hold" in journal.plan:
            stored.number(stored.mapping(journal.plan["hold"])["until"])
    except (KeyError, TypeError) as error:
        raise unusable(journal, f"plan is not what it was: {error}") from error


def superseded(service: str) -> list[Journal]:
    """Return the journals of superseded restarts, whose drains continue or have ended."""
    names = [path.stem for path in host.current.find(directory(), f"{service}@*.json")]
    found = [load(name) for name in names if is_name(name)]
    return [journal for journal in found if journal is not None]


def recent(service: str) -> list[dict[str, Any]]:
    """Return the restarts of a service since the machine was started, as JSON, newest first."""
    found = [load(service), *superseded(service)]
    known = [journal for journal in found if journal is not None and not journal.stale]
    known.sort(key=lambda journal: journal.started, reverse=True)
    return [journal.to_json() for journal in known]


def waiting_for_their_stop(service: str) -> dict[int, Optional[int]]:
    """Return the generations that superseded restarts have yet to stop, with those after them."""
    return {
        journal.from_generation: journal.to_generation
        for journal in superseded(service)
        if journal.from_generation is not None
        and not journal.position.has_ended
        and not journal.stale
    }


def unfinished() -> list[str]:
    """Return the names of restarts that wait to be resumed, or whose journal is unreadable."""
    names = [path.stem for path in host.current.find(directory(), "*.json") if is_name(path.stem)]
    try:
        running = lock.lasting(names)  # before the journals: their last change is not missed
    except JournalError:
        return names
    return [name for name in names if name not in running and _waits(name)]


def _waits(name: str) -> bool:
    try:
        last = load(name)
    except JournalError:  # the resume reports why
        return True
    return last is not None and last.position.outcome is None


def _from_json(path: Path, value: dict[str, Any]) -> Journal:
    if value["schema"] != SCHEMA:
        raise ValueError(f"schema {value['schema']}, this version knows {SCHEMA}")
    outcome = value["outcome"]
    return Journal(
        path=path,
        service=stored.text(value["service"]),
        definition=stored.text(value["definition"]),
        started=stored.number(value["started"]),
        boot_id=stored.text(value["boot_id"]),
        position=Position(Step(value["step"]), None if outcome is None else Outcome(outcome)),
        from_generation=stored.generation(value["from_generation"]),
        to_generation=stored.generation(value["to_generation"]),
        from_release=stored.optional_text(value["from_release"]),
        release=stored.optional_text(value["release"]),
        plan=stored.mapping(value["plan"]),
        steps=[Record.from_json(item) for item in value["steps"]],
        progress=None if value["progress"] is None else stored.mapping(value["progress"]),
        detached=bool(value["detached"]),
        promotion_window_s=stored.optional_number(value["promotion_window_s"]),
    )
