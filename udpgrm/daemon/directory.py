# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""The pin directory of a daemon: locked, filled, and removed unless the daemon is persistent."""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path
from typing import Optional

from udpgrm.kernel import bpffs, clock
from udpgrm.loader import hooks, iterators, tracepoints
from udpgrm.state import connecting
from udpgrm.state import maps as state
from udpgrm.state.layout import Limits
from udpgrm.state.maps import Maps

#: Attempts to lock a directory, which an ending daemon may remove meanwhile.
_LOCK_TRIES = 20
#: Seconds for commands that have the lock.
_COMMANDS_S = 10.0


class StartError(Exception):
    """Raised when the daemon cannot start; the message says why, and what to do."""


def take(directory: Path, force: bool) -> int:
    """Lock the pin directory for this daemon. Returns the fd that holds the lock."""
    try:
        if not bpffs.is_bpffs(directory.parent):
            raise StartError(f"{directory} is in no bpf file system ({bpffs.MOUNT})")
        reason = bpffs.distrusted_way(directory)
        if reason is not None:
            raise StartError(reason)
        held = lock(directory)
        if held is None and force:
            # the other daemon keeps its maps, but no process can open them
            _remove_pins(directory)
            held = lock(directory)
    except OSError as error:
        raise StartError(f"cannot use {directory}: {error.strerror}") from error
    if held is None:
        raise StartError(f"Looks like {directory} already exists: another daemon runs there")
    return held


def lock(directory: Path) -> Optional[int]:
    """Make the directory and lock it. Returns the fd; None: another daemon has it."""
    tries, deadline = _LOCK_TRIES, time.monotonic() + _COMMANDS_S
    while tries:
        with contextlib.suppress(FileExistsError):
            directory.mkdir(mode=0o700)
        with contextlib.suppress(FileNotFoundError):  # a daemon that ends removes it
            reason = bpffs.distrusted(directory)
            if reason is not None:
                raise StartError(reason)
            held = state.lock(directory)
            if held is not None and is_there(directory, held):
                return held
            if held is not None:
                os.close(held)
            elif _is_shared(directory) and time.monotonic() < deadline:
                tries += 1
        tries -= 1
        time.sleep(0.01)
    return None


def _is_shared(directory: Path) -> bool:
    """Return whether commands have the lock, not a daemon.

    One that checks whether a daemon runs holds it for an instant, on a busy host for longer.
    """
    held = state.lock(directory, shared=True)
    if held is not None:
        os.close(held)
    return held is not None


def open_maps(directory: Path, limits: Limits) -> Maps:
    """Open the maps that an earlier daemon has pinned, else make and pin them."""
    with contextlib.suppress(FileNotFoundError):
        state.add_missing(directory, limits)
        return state.open_pinned(directory)
    with contextlib.closing(clock.Jiffies()) as jiffies:
        rate = jiffies.rate()
    try:
        state.unpin(directory)  # pins of an earlier, interrupted start
        return state.create(directory, limits, rate)
    except OSError as error:
        raise StartError(f"cannot pin in {directory}: {error.strerror}") from error


def clean_up(directory: Path, lock_fd: int) -> None:
    """Remove hooks and pins, unless another daemon has replaced them."""
    if is_there(directory, lock_fd):
        hooks.detach_all(directory)
        with contextlib.suppress(OSError, state.StateError), contextlib.ExitStack() as stack:
            maps = state.open_pinned(directory)
            stack.callback(maps.close)
            connecting.rejoin_all(maps)
        _remove_pins(directory)


def _remove_pins(directory: Path) -> None:
    hooks.unpin(directory)
    iterators.unpin(directory)
    tracepoints.unpin(directory)
    state.unpin(directory)
    directory.rmdir()


def is_there(directory: Path, lock_fd: int) -> bool:
    """Return whether the locked directory still has this path."""
    here = os.fstat(lock_fd)
    with contextlib.suppress(FileNotFoundError):
        there = os.lstat(directory)
        return (there.st_dev, there.st_ino) == (here.st_dev, here.st_ino)
    return False
