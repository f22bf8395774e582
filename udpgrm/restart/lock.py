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
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from udpgrm.restart import host
from udpgrm.restart.statedir import path_of

_LOOK_S = 0.5
_POLL_S, _PAUSE_S = 0.01, 0.05


class Busy(Exception):
    """Raised when another process restarts this service; the message says which."""


def _user() -> str:
    try:
        return os.environ.get("SUDO_USER") or pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return str(os.getuid())


def _made_path_of(service: str, suffix: str) -> Path:
    """Return the path of a service's file, in a directory that is there."""
    host.current.make_directory(path_of(service, suffix).parent)
    return path_of(service, suffix)  # another user may have been faster


@contextlib.contextmanager
def locked(service: str) -> Iterator[None]:
    """Hold the lock on a service. Raises Busy, naming the process that holds it."""
    path = _made_path_of(service, ".lock")
    clock = host.current
    with clock.lock_file(path, create=True) as file:
        deadline = clock.monotonic() + _LOOK_S
        while not file.try_lock():
            # is_locked holds it for an instant, too
            if clock.monotonic() > deadline and not _is_ending(service):
                raise Busy(f"{service}: a restart runs already: {holder(service)}")
            clock.sleep(_POLL_S)
        file.write(json.dumps({"pid": clock.pid(), "user": _user(), "started": clock.time()}))
        yield


@contextlib.contextmanager
def beginning(service: str) -> Iterator[None]:
    """Wait for the lock on the begin of a restart: one command decides at a time whether to."""
    with open(_made_path_of(service, ".begin"), "a", opener=host.lock_opener) as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def is_locked(service: str) -> bool:
    """Return whether a process restarts a service now."""
    try:
        with host.current.lock_file(path_of(service, ".lock"), create=False) as file:
            return not file.try_lock(shared=True)
    except FileNotFoundError:
        return False


def lasting(services: Sequence[str]) -> Sequence[str]:
    """Return the services that processes restart now, and continue to for a moment.

    A drain that ends holds its service's lock no longer than that.
    """
    clock = host.current
    held, deadline = services, clock.monotonic() + _LOOK_S
    while held := [service for service in held if is_locked(service)]:
        if clock.monotonic() > deadline and not any(map(_is_ending, held)):
            break
        clock.sleep(_PAUSE_S)
    return held


def _is_ending(service: str) -> bool:
    """Return whether the process that has the lock was killed, and only waits for the disk."""
    with contextlib.suppress(OSError, KeyError, TypeError, ValueError):
        return host.current.was_killed(int(_content(service)["pid"]))
    return False


def _content(service: str) -> Any:
    return json.loads(host.current.read(path_of(service, ".lock")))


def holder(service: str) -> str:
    """Return the process that restarts a service, for people."""
    try:
        value = _content(service)
        since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(value["started"]))
        return f"pid {value['pid']} of {value['user']}, since {since}"
    except (OSError, KeyError, TypeError, ValueError):
        return "it has just begun"
