# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""The lock on a service: one process restarts it at a time."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import pwd
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from udpgrm.restart.statedir import path_of

_LOOK_S = 0.5
_POLL_S = 0.01


class Busy(Exception):
    """Raised when another process restarts this service; the message says which."""


def _user() -> str:
    try:
        return os.environ.get("SUDO_USER") or pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return str(os.getuid())


def _without_links(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW, 0o644)


def _made_path_of(service: str, suffix: str) -> Path:
    """Return the path of a service's file, in a directory that is there."""
    path_of(service, suffix).parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    return path_of(service, suffix)  # another user may have been faster


@contextlib.contextmanager
def locked(service: str) -> Iterator[None]:
    """Hold the lock on a service. Raises Busy, naming the process that holds it."""
    path = _made_path_of(service, ".lock")
    with open(path, "a+", encoding="utf-8", opener=_without_links) as file:
        deadline = time.monotonic() + _LOOK_S
        while not _try_lock(file):
            # is_locked holds it for an instant, too
            if time.monotonic() > deadline:
                raise Busy(f"{service}: a restart runs already: {holder(service)}")
            time.sleep(_POLL_S)
        file.truncate(0)
        json.dump({"pid": os.getpid(), "user": _user(), "started": time.time()}, file)
        file.flush()
        yield


@contextlib.contextmanager
def beginning(service: str) -> Iterator[None]:
    """Wait for the lock on the begin of a restart: one command decides at a time whether to."""
    with open(_made_path_of(service, ".begin"), "a", opener=_without_links) as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _try_lock(file: IO[str]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def is_locked(service: str) -> bool:
    """Return whether a process restarts a service now."""
    try:
        with path_of(service, ".lock").open() as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


def holder(service: str) -> str:
    """Return the process that restarts a service, for people."""
    try:
        value = json.loads(path_of(service, ".lock").read_text(encoding="utf-8"))
        since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(value["started"]))
        return f"pid {value['pid']} of {value['user']}, since {since}"
    except (OSError, KeyError, TypeError, ValueError):
        return "it has just begun"
