# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""Real DNS servers in a network namespace and a hooked cgroup of our own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kernel.conftest import bare_host, cache, cgroup, host, own_host, own_network
from tests.servers import configurations
from tests.servers.instances import Instances, instances

__all__ = ["bare_host", "cache", "cgroup", "host", "own_host", "own_network"]

_ROWS = pytest.StashKey[list[str]]()


@pytest.fixture
def steered(cgroup: Path) -> Iterator[Instances]:
    """Where instances are started below hooks."""
    with instances(cgroup, "instance") as started:
        yield started


@pytest.fixture
def plain(cgroup: Path) -> Iterator[Instances]:
    """Where instances are started that no hook sees."""
    parent = cgroup.with_name(f"{cgroup.name}-plain")
    parent.mkdir()
    try:
        with instances(parent, "plain") as started:
            yield started
    finally:
        parent.rmdir()


@pytest.fixture(scope="session")
def upstream(cgroup: Path) -> Iterator[None]:
    """The server that those ask which only forward."""
    parent = cgroup.with_name(f"{cgroup.name}-upstream")
    parent.mkdir()
    try:
        with instances(parent, "upstream") as started:
            started.start(configurations.knot, configurations.UPSTREAM_PORT)
            yield
    finally:
        parent.rmdir()


@pytest.fixture
def figures(pytestconfig: pytest.Config) -> list[str]:
    """Lines to print when all is done."""
    return pytestconfig.stash.setdefault(_ROWS, [])


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the figures below the tests."""
    for row in terminalreporter.config.stash.get(_ROWS, []):
        terminalreporter.write_line(row)
