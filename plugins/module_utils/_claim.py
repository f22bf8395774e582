# Copyright the udpgrm authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.

"""The claim of a rollout on a host's service, by which another rollout is refused."""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import json
import os
import pathlib
import time
import typing as t

from ansible_collections.udpgrm.fleet.plugins.module_utils._host import (
    HostError,
    JsonObject,
    boot_id,
    state_directory,
)


@dataclasses.dataclass(frozen=True)
class Rollout:
    """A run of the playbook: its name, its user and control node, the earlier run it may replace, and its host's name."""

    run: str
    by: str
    replaces: str = ""
    host: str = ""


class Claimed(Exception):
    """Raised when another rollout of the service continues; has what the host knows of it."""

    def __init__(self, service: str, claim: JsonObject) -> None:
        since = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(claim["since"]))
        super().__init__(
            f"{service}: a rollout of {claim['by']} continues since {since}; wait until it has ended "
            "(udpgrm_other_rollout=wait), or replace it if it is dead (udpgrm_other_rollout=replace)"
        )
        self.claim = claim


class NamedTwice(Exception):
    """Raised when the same rollout has come to the host by another name of its inventory."""

    def __init__(self, service: str, names: t.Sequence[str]) -> None:
        super().__init__(
            f"{service}: {' and '.join(names)} of the inventory are one host, where the run has begun by the first "
            "name; leave one of them out"
        )


def _path(service: str) -> pathlib.Path:
    return state_directory() / f"{service}.rollout"


def current(service: str) -> JsonObject | None:
    """Return the rollout that continues; None: none since the host was started."""
    try:
        value = json.loads(_path(service).read_text(encoding="utf-8"))
        claim = {
            "run": str(value["run"]),
            "by": str(value["by"]),
            "host": str(value.get("host", "")),
            "since": float(value["since"]),
        }
        return claim if value["boot_id"] == boot_id() else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def check(service: str, rollout: Rollout) -> None:
    """Raise Claimed when a rollout continues that is neither this one nor replaced by it; NamedTwice."""
    claim = current(service)
    if claim is None:
        return
    if claim["run"] not in (rollout.run, rollout.replaces):
        raise Claimed(service, claim)
    if claim["run"] == rollout.run and claim["host"] != rollout.host:
        raise NamedTwice(service, [claim["host"], rollout.host])


@contextlib.contextmanager
def _locked(service: str) -> t.Iterator[None]:
    path = _path(service).with_suffix(".rollout.lock")
    try:
        path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        # for root only: a user who may read a file may lock it
        lock = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise HostError(f"{path}: {error.strerror}") from error
    with open(lock, "a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def take(service: str, rollout: Rollout) -> None:
    """Record that the rollout continues. Raises Claimed, NamedTwice, HostError."""
    with _locked(service):
        check(service, rollout)
        there = current(service)
        if there is None or there["run"] != rollout.run:
            _write(service, rollout)


def _write(service: str, rollout: Rollout) -> None:
    path = _path(service)
    draft = path.with_suffix(".rollout.new")
    value = {
        "run": rollout.run,
        "by": rollout.by,
        "host": rollout.host,
        "since": time.time(),
        "boot_id": boot_id(),
    }
    try:
        draft.unlink(missing_ok=True)  # a killed module's; "x" follows no link
        with draft.open("x", encoding="utf-8") as file:
            json.dump(value, file)
        draft.replace(path)
    except OSError as error:
        draft.unlink(missing_ok=True)
        raise HostError(f"{path}: {error.strerror}") from error


def drop(service: str, run: str) -> None:
    """Delete the record of the rollout, unless another one continues."""
    if not _is_of(current(service), run):
        return
    with contextlib.suppress(HostError, OSError), _locked(service):
        if _is_of(current(service), run):  # another rollout may have replaced it
            _path(service).unlink()


def _is_of(claim: JsonObject | None, run: str) -> bool:
    return claim is not None and claim["run"] == run


#: The suboptions of a module's option C(rollout).
OPTIONS: dict[str, dict[str, t.Any]] = {
    "run": {"type": "str", "required": True},
    "by": {"type": "str", "required": True},
    "replaces": {"type": "str"},
    "host": {"type": "str"},
}


def from_options(options: t.Mapping[str, t.Any] | None) -> Rollout | None:
    """Return the rollout of a module's option C(rollout)."""
    return None if options is None else rollout_of(options)


def rollout_of(options: t.Mapping[str, t.Any]) -> Rollout:
    """Return a rollout from its parts."""
    return Rollout(**{name: options.get(name) or "" for name in OPTIONS})
