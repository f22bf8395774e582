# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""io_uring by bare system calls, one request at a time."""

from __future__ import annotations

import ctypes
import mmap
import os
import socket
import struct
from typing import Optional

SENDMSG, CONNECT, SEND, SOCKET, URING_CMD, SEND_ZC, BIND = 9, 16, 26, 45, 46, 47, 56
FIXED_FILE, ASYNC = 1, 1 << 4  # IOSQE_*
SQPOLL = 2  # IORING_SETUP_SQPOLL
_SETUP, _ENTER, _REGISTER = 425, 426, 427
_REGISTER_FILES2, _FILES_SPARSE = 13, 1  # IORING_REGISTER_*
_GETEVENTS, _SQ_WAKEUP = 1, 2
_CQES_AT, _SQES_AT = 0x8000000, 0x10000000
SETSOCKOPT = 3  # SOCKET_URING_OP_SETSOCKOPT
_SQE_BYTES, _CQE_BYTES = 64, 16

_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long


def _call(*arguments: object) -> int:
    result = int(_libc.syscall(*arguments))
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


def name_of(address: tuple[str, int]) -> ctypes.Array[ctypes.c_char]:
    """Return a sockaddr_in."""
    packed = struct.pack("=H", socket.AF_INET) + struct.pack(">H", address[1])
    return ctypes.create_string_buffer(packed + socket.inet_aton(address[0]) + bytes(8), 16)


class _Message(ctypes.Structure):
    """struct msghdr of one buffer."""

    _fields_ = [
        ("name", ctypes.c_void_p),
        ("name_bytes", ctypes.c_uint32),
        ("iov", ctypes.c_void_p),
        ("iovs", ctypes.c_size_t),
        ("control", ctypes.c_void_p),
        ("control_bytes", ctypes.c_size_t),
        ("flags", ctypes.c_int),
    ]


class Ring:
    """A ring, which keeps what the kernel reads until it is closed."""

    def __init__(self, flags: int = 0, files: int = 0) -> None:
        """Make a ring with a table of so many descriptors of its own. Raises OSError."""
        parameters = ctypes.create_string_buffer(120)
        struct.pack_into("=IIIII", parameters, 0, 0, 0, flags, 0, 1000)
        self.fd = _call(_SETUP, 8, parameters)
        entries, completions = struct.unpack_from("=II", parameters, 0)
        self._flags = flags
        # head, tail, mask, ..., the array at last; of completions these at last
        self._sq = struct.unpack_from("=7I", parameters, 40)
        self._cq = struct.unpack_from("=6I", parameters, 80)
        self._rings = mmap.mmap(
            self.fd, max(self._sq[6] + 4 * entries, self._cq[5] + _CQE_BYTES * completions)
        )
        self._requests = mmap.mmap(self.fd, _SQE_BYTES * entries, offset=_SQES_AT)
        self._kept: list[object] = []
        if files:
            _call(
                _REGISTER, self.fd, _REGISTER_FILES2, struct.pack("=IIQQQ", files, 1, 0, 0, 0), 32
            )

    def close(self) -> None:
        """End it, with its descriptors."""
        self._rings.close()
        self._requests.close()
        os.close(self.fd)

    def do(
        self,
        opcode: int,
        fd: int,
        *,
        off: int = 0,
        addr: Optional[object] = None,
        length: int = 0,
        flags: int = 0,
        index: int = 0,
        more: Optional[object] = None,
    ) -> int:
        """Make a request and return its result, -errno included."""
        self._kept = [addr, more]
        tail, mask = self._word(self._sq[1]), self._word(self._sq[2])
        request = struct.pack(
            "=BBHiQQIIQHHIQQ",
            *(opcode, flags, 0, fd, off, _address(addr), length, 0, 0, 0, 0, index, _address(more)),
            0,
        )
        at = tail & mask
        self._requests[at * _SQE_BYTES : (at + 1) * _SQE_BYTES] = request
        self._set(self._sq[6] + 4 * at, at)
        self._set(self._sq[1], (tail + 1) & 0xFFFFFFFF)
        enter = _GETEVENTS | (_SQ_WAKEUP if self._flags & SQPOLL else 0)
        _call(_ENTER, self.fd, 1, 1, enter, None, 0)
        head = self._word(self._cq[0])
        place = self._cq[5] + (head & self._word(self._cq[2])) * _CQE_BYTES
        result, more_come = struct.unpack_from("=iI", self._rings, place + 8)
        self._set(self._cq[0], (head + 1) & 0xFFFFFFFF)
        if more_come & 2:  # IORING_CQE_F_MORE: a notification of SEND_ZC follows
            _call(_ENTER, self.fd, 0, 1, _GETEVENTS, None, 0)
            self._set(self._cq[0], (head + 2) & 0xFFFFFFFF)
        return int(result)

    def send(self, fd: int, data: bytes, to: tuple[str, int], flags: int = 0) -> int:
        """Send a datagram by sendmsg."""
        name, buffer = name_of(to), ctypes.create_string_buffer(data, len(data))
        vector = ctypes.create_string_buffer(
            struct.pack("=QQ", ctypes.addressof(buffer), len(data)), 16
        )
        message = _Message(ctypes.addressof(name), 16, ctypes.addressof(vector), 1)
        result = self.do(SENDMSG, fd, addr=message, length=1, flags=flags)
        del name, buffer, vector
        return result

    def set_option(self, fd: int, option: int, value: int, flags: int = 0) -> int:
        """Set a number as an option of UDP."""
        buffer = ctypes.create_string_buffer(struct.pack("=I", value), 4)
        where = struct.unpack("=Q", struct.pack("=II", socket.IPPROTO_UDP, option))[0]
        return self.do(URING_CMD, fd, off=SETSOCKOPT, addr=where, index=4, more=buffer, flags=flags)

    def _word(self, at: int) -> int:
        return int(struct.unpack_from("=I", self._rings, at)[0])

    def _set(self, at: int, value: int) -> None:
        struct.pack_into("=I", self._rings, at, value)


def _address(of: Optional[object]) -> int:
    if of is None:
        return 0
    return of if isinstance(of, int) else ctypes.addressof(of)  # type: ignore[arg-type]
