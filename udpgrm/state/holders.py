# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""The processes that have a socket: an iterator of the kernel reads all descriptors.

So no socket is duplicated to find another. While a duplicate is held of a socket that its owner
closes, that lives on and takes packets that another should get.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Collection
from typing import NamedTuple, Optional

from udpgrm import abi
from udpgrm.kernel import iterator, pidfd
from udpgrm.kernel.descriptors import Unreachable, is_worth_reporting
from udpgrm.state.maps import Maps


class Holder(NamedTuple):
    """A descriptor of a process, and the SO_COOKIE of its socket."""

    pid: int
    number: int
    cookie: int


def find(maps: Maps, cookies: Collection[int]) -> list[Holder]:
    """Return the descriptors of sockets by their SO_COOKIE, in the reader's pid namespace.

    Raises Unreachable while a daemon that has the iterator is about to start.
    """
    if not cookies:
        return []
    link = maps.iterators.get("holders")
    if link is None:
        raise Unreachable(errno.EAGAIN, "the daemon has not started yet, or not in this version")
    found = iterator.records(link, abi.Holder)
    return [Holder(item.pid, item.fd, item.cookie) for item in found if item.cookie in cookies]


def duplicates(maps: Maps, cookies: set[int]) -> dict[int, tuple[int, int]]:
    """Return (pid, duplicate) of each of these sockets that a process has, by SO_COOKIE.

    Raises Unreachable if there is none, and a process has one that cannot be duplicated, and
    OSError without a free descriptor.
    """
    found: dict[int, tuple[int, int]] = {}
    unreachable: Optional[Unreachable] = None
    for holder in find(maps, cookies):
        if holder.cookie in found:
            continue
        try:
            fd = pidfd.socket_at(*holder)
        except Unreachable as error:
            if is_worth_reporting(error):
                unreachable = error
            continue
        except OSError:
            for _, fd in found.values():
                os.close(fd)
            raise
        if fd is not None:
            found[holder.cookie] = (holder.pid, fd)
    if unreachable is not None and not found:
        raise unreachable
    return found
