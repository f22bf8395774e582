# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""The reference's socket options as an application in C makes them: by number and bytes."""

from __future__ import annotations

import ctypes
import os
import socket
import struct
import subprocess
from typing import Optional

from testing.host import wait_for

WORKING_GEN, SOCKET_GEN, DISSECTOR, FLOW_ASSURE, SOCKET_APP = range(200, 205)
FLOW, CBPF, BESPOKE, NOOP, VERBOSE = 0, 1, 3, 4, 0x8000
UNREGISTERED = 0xFFFFFFFF
#: A classic BPF instruction: code, jt, jf, k.
Instruction = tuple[int, int, int, int]
#: `ldh [0]; ret a`: the cookie is the payload's first two bytes.
COOKIE_FIRST: tuple[Instruction, ...] = ((0x28, 0, 0, 0), (0x16, 0, 0, 0))
_libc = ctypes.CDLL(None, use_errno=True)


def u32(value: int) -> bytes:
    return struct.pack("=I", value)


def put(sock: socket.socket, option: int, value: bytes) -> None:
    sock.setsockopt(socket.IPPROTO_UDP, option, value)


def put_error(sock: socket.socket, option: int, value: bytes) -> Optional[int]:
    """Return the errno of a set, None when it succeeds."""
    try:
        put(sock, option, value)
    except OSError as error:
        return error.errno
    return None


def get(sock: socket.socket, option: int, size: int = 4) -> tuple[bytes, int]:
    """Return what getsockopt(2) has written, and the optlen it gave back."""
    value = ctypes.create_string_buffer(b"\xaa" * size, size)
    length = ctypes.c_uint32(size)
    if _libc.getsockopt(sock.fileno(), socket.IPPROTO_UDP, option, value, ctypes.byref(length)):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return value.raw, length.value


def get_error(sock: socket.socket, option: int, size: int = 4) -> Optional[int]:
    """Return the errno of a get, None when it succeeds."""
    try:
        get(sock, option, size)
    except OSError as error:
        return error.errno
    return None


def get_u32(sock: socket.socket, option: int) -> int:
    (value,) = struct.unpack("=I", get(sock, option)[0])
    return int(value)


def socket_gen(sock: socket.socket) -> tuple[int, int, int]:
    """Return generation, index and udpgrm cookie."""
    generation, index, cookie, _ = struct.unpack("=IIHH", get(sock, SOCKET_GEN, 12)[0])
    return generation, index, cookie


def so_cookie(sock: socket.socket) -> int:
    """Return the kernel's own cookie: SO_COOKIE."""
    return int.from_bytes(sock.getsockopt(socket.SOL_SOCKET, 57, 8), "little")


def ss_cookie(port: int) -> list[str]:
    """Return what `ss -e` shows of the sockets at a port, as sk:."""
    lines = subprocess.run(
        ["ss", "-Huane", f"sport = {port}"], check=True, capture_output=True, text=True
    ).stdout.splitlines()
    return [word[3:] for line in lines for word in line.split() if word.startswith("sk:")]


def cookie_of(slot: int, index: int) -> int:
    """Return the udpgrm cookie, by the formula of the reference."""
    index &= 0xFF
    c = 0xD ^ (index >> 4 & 0xF) ^ (index & 0xF) ^ (slot >> 4 & 0xF) ^ (slot & 0xF)
    return index << 8 | ((c & 7) ^ (c >> 3 & 1)) << 5 | slot


def dissector(
    kind: int = FLOW,
    timeout: int = 0,
    apps: int = 0,
    digest: int = 0,
    label: bytes = b"",
    rest: bytes = b"",
) -> bytes:
    """Return struct dissector, 632 bytes; rest: what its union holds."""
    return (struct.pack("=4I100s", kind, timeout, apps, digest, label) + rest).ljust(632, b"\0")


def filter_of(*instructions: Instruction) -> bytes:
    """Return the union of a CBPF dissector."""
    return u32(len(instructions)) + b"".join(
        struct.pack("=HBBI", *instruction) for instruction in instructions
    )


def names_of(*names: tuple[int, bytes]) -> bytes:
    """Return the union of a BESPOKE dissector: application and hostname."""
    return u32(len(names)) + b"".join(struct.pack("=BB62s", app, 0, name) for app, name in names)


def sockaddr(host: str, port: int) -> bytes:
    """Return sockaddr_in or sockaddr_in6."""
    if ":" in host:
        packed = socket.inet_pton(socket.AF_INET6, host)
        return struct.pack("=H", socket.AF_INET6) + struct.pack("!HI16sI", port, 0, packed, 0)
    return struct.pack("=H", socket.AF_INET) + struct.pack("!H4s8x", port, socket.inet_aton(host))


def udp(host: str = "127.0.0.1", port: int = 4433, reuseport: bool = True) -> socket.socket:
    """Return a bound UDP socket."""
    sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, int(reuseport))
    sock.bind((host, port))
    return sock


def register(sock: socket.socket, generation: int) -> int:
    """Put a socket into its first generation as applications do; return its index."""
    put(sock, SOCKET_GEN, u32(generation))
    wait_for(lambda: socket_gen(sock)[1] != UNREGISTERED, "the index")
    return socket_gen(sock)[1]
