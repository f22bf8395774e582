# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""Fixtures of tests that restart a service."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from testing.host import Host
from tests.kernel.restarts import Edge


@pytest.fixture
def edge(host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Edge]:
    """Yield a service that is defined, but not yet started."""
    edge = Edge(host, tmp_path, monkeypatch)
    yield edge
    edge.clean()


@pytest.fixture
def serving(edge: Edge) -> Edge:
    """Return the service, its generation 1 working."""
    done = edge.restart("--json")
    assert done.returncode == 0, done.stdout + done.stderr
    return edge
