# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""Packets of dtls_cid for tests."""

from __future__ import annotations

from testing.dissectors import Case

CASES = {
    "dtls_cid": Case(
        "dtls_cid",
        {"cid_length": 4, "offset": 1},
        [
            lambda cookie: b"\x19\xfe\xfd\0\1\0\0\0\0\0\1a" + cookie + b"b\0\1x",
            lambda cookie: b"\x3fa" + cookie + b"b\0\1\0\1x",
            lambda cookie: b"\x30a" + cookie + b"b\1x",
        ],
        fresh=[
            b"\x16\xfe\xfd" + bytes(60),  # a handshake
            b"\x17\xfe\xfd\0\1\0\0\0\0\0\1" + bytes(8),  # a record of a connection without ID
            b"\x2e" + bytes(20),  # the same of DTLS 1.3
        ],
        short=[b"", b"\x19\xfe\xfd\0\1\0\0\0\0\0\1abc", b"\x30abc"],
    ),
}
