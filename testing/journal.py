# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""Entries for systemd's journal, as a test reads them."""

from __future__ import annotations


def decoded(datagram: bytes) -> dict[str, str]:
    """Return the fields of an entry, as https://systemd.io/JOURNAL_NATIVE_PROTOCOL has them."""
    fields = {}
    while datagram:
        line, _, datagram = datagram.partition(b"\n")
        name, sign, value = line.partition(b"=")
        if not sign:
            size = int.from_bytes(datagram[:8], "little")
            value, end = datagram[8 : 8 + size], datagram[8 + size : 9 + size]
            assert end == b"\n", datagram
            datagram = datagram[9 + size :]
        assert name.decode() not in fields, name
        fields[name.decode()] = value.decode()
    return fields
