# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""Compile functions.c as a library and as a program with sanitizers; values for both."""

from __future__ import annotations

import ctypes
import struct
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from tests.unit.bpf.support import compile_c
from udpgrm import abi
from udpgrm.build import quic_tables

BYTES = 2048
UDP_HEADER = bytes(8)


class Connection(ctypes.Structure):
    """struct connection."""

    _fields_ = [
        ("is_initial", ctypes.c_bool),
        ("is_ours", ctypes.c_bool),
        ("cookie", ctypes.c_uint32),
        ("app", ctypes.c_uint32),
    ]


@dataclass(frozen=True)
class Opened:
    """The result of an Initial packet; app is None when it is garbled."""

    app: int | None
    payload: bytes
    stream: bytes
    present: bytes
    calls: int


def dissector(names: Iterable[tuple[bytes, int]], max_apps: int = 4) -> abi.Dissector:
    """Return a value of UDP_GRM_DISSECTOR for these names."""
    value = abi.Dissector(type=abi.DissectorType.BESPOKE, digest=0xDEAD, max_apps=max_apps)
    for position, (name, app) in enumerate(names):
        value.sni[position] = abi.SniEntry(app=app, hostname=name)
        value.sni_count = position + 1
    return value


def _words(data: bytes) -> ctypes.Array[ctypes.c_uint32]:
    """Big-endian words of a block, key or state, in native order."""
    count = len(data) // 4
    return (ctypes.c_uint32 * count)(*struct.unpack(f">{count}I", data))


def _bytes(words: ctypes.Array[ctypes.c_uint32]) -> bytes:
    return struct.pack(f">{len(words)}I", *words)


class Code:
    """The compiled functions."""

    def __init__(self, scratch: Path) -> None:
        here = Path(__file__).with_name("functions.c")
        options = ["-shared", "-fPIC", "-Wall", "-Wno-unused-function", "-Wno-unknown-pragmas"]
        self._library = ctypes.CDLL(str(compile_c(here, scratch / "functions.so", *options)))
        self.prepare(dissector([]))

    def prepare(self, value: abi.Dissector) -> None:
        """Fresh memory, and these names."""
        self._library.test_prepare(quic_tables.contents(), bytes(value))

    def sha256_block(self, state: bytes, block: bytes) -> bytes:
        result = _words(bytes(32))
        self._library.test_sha256_block(_words(state), _words(block), result)
        return _bytes(result)

    def aes128(self, key: bytes, block: bytes) -> tuple[bytes, bytes]:
        """(round keys, encrypted block)."""
        keys, result = _words(bytes(176)), _words(bytes(16))
        self._library.test_aes128(_words(key), _words(block), keys, result)
        return _bytes(keys), _bytes(result)

    def keys(self, dcid: bytes) -> tuple[bytes, bytes, bytes]:
        """(key, iv, hp)."""
        key, iv, hp = _words(bytes(16)), _words(bytes(12)), _words(bytes(16))
        self._library.test_keys(dcid, len(dcid), key, iv, hp)
        return _bytes(key), _bytes(iv), _bytes(hp)

    def connection(self, payload: bytes, linear: int | None = None) -> Connection | None:
        """Return what a UDP payload's header contains; None: it is too short."""
        data, found = UDP_HEADER + payload, Connection()
        size = len(data) if linear is None else linear
        failed = self._library.test_connection(data, len(data), size, ctypes.byref(found))
        return None if failed else found

    def initial(self, payload: bytes) -> Opened:
        data, there, calls = UDP_HEADER + payload, ctypes.c_uint32(), ctypes.c_uint32()
        out = [ctypes.create_string_buffer(BYTES) for _ in range(3)]
        app = self._library.test_initial(
            data, len(data), out[0], ctypes.byref(there), out[1], out[2], ctypes.byref(calls)
        )
        return Opened(
            None if app < 0 else app, out[0].raw[: there.value], out[1].raw, out[2].raw, calls.value
        )


class Sanitized:
    """A program of the functions that ends where a packet makes it do what C leaves undefined.

    What is read of an integer's size at any address is what BPF may do: alignment is not checked.
    """

    def __init__(self, scratch: Path) -> None:
        options = ["-g", "-Wall", "-Wno-unused-function", "-Wno-unknown-pragmas"]
        options += ["-fsanitize=address,undefined", "-fno-sanitize=alignment"]
        options += ["-fno-sanitize-recover=all"]
        source = Path(__file__).with_name("sanitized.c")
        self._program = compile_c(source, scratch / "sanitized", *options)

    def initial(self, value: abi.Dissector, packets: Iterable[bytes]) -> list[Opened]:
        """Open Initial packets one after the other."""
        datagrams = [UDP_HEADER + packet for packet in packets]
        sized = b"".join(len(data).to_bytes(4, sys.byteorder) + data for data in datagrams)
        done = subprocess.run(
            [str(self._program)],
            input=quic_tables.contents() + bytes(value) + sized,
            capture_output=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr.decode()
        answers = list(struct.iter_unpack(f"=i{BYTES}s{BYTES}s", done.stdout))
        assert len(answers) == len(datagrams)
        return [
            Opened(None if app < 0 else app, b"", stream, present, 0)
            for app, stream, present in answers
        ]
