# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""Sockets that connect give their array entries back: they take packets of one peer only."""

from __future__ import annotations

import ctypes
import socket
import sys
from typing import Optional

from udpgrm import abi
from udpgrm.kernel import libbpf
from udpgrm.state import seats
from udpgrm.state.maps import Maps, index
from udpgrm.state.seats import GroupSeats


def is_connected(fd: int) -> bool:
    """Whether a socket is connected to a peer."""
    sock = socket.socket(fileno=fd)
    try:
        sock.getpeername()
    except OSError:
        return False
    finally:
        sock.detach()
    return True


def _key(fd: int) -> bytes:
    return fd.to_bytes(4, sys.byteorder)


def _place_of(maps: Maps, fd: int, number: int, epoch: int) -> Optional[abi.SocketPlace]:
    """Return the socket's place in a group; None: it has no array entry there."""
    size = ctypes.sizeof(abi.SocketPlace)
    data = libbpf.map_lookup(maps["socket_place"], _key(fd), size)
    if data is None:
        return None
    place = abi.SocketPlace.from_buffer_copy(data)
    here = (place.group, place.epoch) == (number + 1, epoch)
    return place if here and place.seat != abi.SEAT_NONE else None


def give_back(maps: Maps, group_seats: GroupSeats, message: abi.Message, fd: int) -> None:
    """Take a connected socket out of its generation's lists and of the array.

    Its record keeps the index that its server was told: an index never goes.
    """
    place = _place_of(maps, fd, message.group, message.epoch)
    if place is None:
        return
    if place.slot < abi.GENERATION_SLOTS:
        slot = group_seats.slot(place.slot)
        seats.drop_seats(slot, {place.seat})
        group_seats.write_slot(place.slot, slot)
    if group_seats.cookie_at(place.seat) == place.cookie:
        libbpf.map_delete(group_seats.sockets, index(place.seat))
    libbpf.map_delete(maps["seats"], int(place.cookie).to_bytes(8, sys.byteorder))
    place.seat = abi.SEAT_NONE
    libbpf.map_update(maps["socket_place"], _key(fd), bytes(place))


def list_again(maps: Maps, group_seats: GroupSeats, message: abi.Message, fd: int) -> None:
    """Give a socket new flows again whose connect(2) has failed: the hook took them from it."""
    place = _place_of(maps, fd, message.group, message.epoch)
    if place is not None and place.slot < abi.GENERATION_SLOTS and place.index != abi.INDEX_NONE:
        slot = group_seats.slot(place.slot)
        seats.set_seat(slot, place.index, place.seat)
        group_seats.write_slot(place.slot, slot)
