# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""Packets of any number of sources by one raw socket and sendmmsg.

Without a sending socket for each, whose memory would push what the programs use out
of the caches, which packets from a network do not do either.
"""

from __future__ import annotations

import ctypes
import os
import socket
import struct
from collections.abc import Sequence

from benchmarks.traffic import PAYLOAD

_libc = ctypes.CDLL(None, use_errno=True)
_AT_ONCE = 1024
_HEADER = struct.Struct(">BBHHHBBH4s4sHHHH")
_LOOPBACK = socket.inet_aton("127.0.0.1")


class _Piece(ctypes.Structure):
    """struct iovec."""

    _fields_ = [("base", ctypes.c_void_p), ("length", ctypes.c_size_t)]


class _Message(ctypes.Structure):
    """struct mmsghdr."""

    _fields_ = [
        ("name", ctypes.c_void_p),
        ("namelen", ctypes.c_uint32),
        ("pieces", ctypes.c_void_p),
        ("piece_count", ctypes.c_size_t),
        ("control", ctypes.c_void_p),
        ("control_length", ctypes.c_size_t),
        ("flags", ctypes.c_int),
        ("padding", ctypes.c_uint32),
        ("sent", ctypes.c_uint32),
        ("more_padding", ctypes.c_uint32),
    ]


class Burst:
    """A burst: one packet from each of some addresses to a port of 127.0.0.1."""

    def __init__(
        self, sources: Sequence[tuple[str, int]], port: int, payload: bytes = PAYLOAD
    ) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
        length = 8 + len(payload)
        packets = b"".join(
            # the kernel fills in the IP header's checksum and length
            _HEADER.pack(
                *(0x45, 0, 20 + length, 0, 0, 64, socket.IPPROTO_UDP, 0),
                *(socket.inet_aton(host), _LOOPBACK, number, port, length, 0),
            )
            + payload
            for host, number in sources
        )
        size = 20 + length
        self._packets = ctypes.create_string_buffer(packets, len(packets))
        name = struct.pack("=HH4s8x", socket.AF_INET, 0, _LOOPBACK)
        self._name = ctypes.create_string_buffer(name, len(name))
        self._pieces = (_Piece * len(sources))()
        self._messages = (_Message * len(sources))()
        for position, message in enumerate(self._messages):
            piece = self._pieces[position]
            piece.base = ctypes.addressof(self._packets) + position * size
            piece.length = size
            message.name, message.namelen = ctypes.addressof(self._name), len(name)
            message.pieces, message.piece_count = ctypes.addressof(piece), 1

    def __enter__(self) -> Burst:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def send(self) -> None:
        """Send them all. Raises OSError."""
        done, count = 0, len(self._messages)
        while done < count:
            first = ctypes.byref(self._messages, done * ctypes.sizeof(_Message))
            sent = _libc.sendmmsg(self._socket.fileno(), first, min(_AT_ONCE, count - done), 0)
            if sent <= 0:
                error = ctypes.get_errno()
                raise OSError(error, os.strerror(error))
            done += sent
