# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""Sockets of tests' clients."""

from __future__ import annotations

import itertools

import pytest

from testing import host


def test_ports_in_use_are_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    with host.plain_socket() as server:
        server.bind(("127.0.0.1", 0))
        taken = server.getsockname()[1]
        monkeypatch.setattr(host, "_client_ports", itertools.cycle([taken, 0]))
        with host.client() as sock:
            assert sock.getsockname()[1] != taken
