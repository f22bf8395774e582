# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""Real DNS servers in a network namespace and a hooked cgroup of our own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.kernel.conftest import bare_host, cache, cgroup, host, own_host, own_network
from tests.servers import configurations
from tests.servers.box import Box
from tests.servers.instances import Instances, instances

__all__ = ["bare_host", "cache", "cgroup", "host", "own_host", "own_network"]

_FIGURE = "figure"
#: Tests that last for minutes, so that none of them may begin last.
_LONGEST = ("coturn", "caddy", "mumble-server", "interrupted_briefly", "hypercorn", "coap-server")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Let a short run restart less often."""
    parser.addoption("--restarts", type=int, default=20, help="restarts of each server")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the longest, each before a short one: a worker is given two tests at first."""
    longest = [
        item
        for name in _LONGEST
        for item in items
        if name in item.name and ("lose_nothing" in item.name or "tunnel" in item.name)
    ]
    short = [item for item in items if item.path.stem == "test_way_in" or "reuseport" in item.name]
    pairs = [item for pair in zip(longest, short) for item in pair]
    profiles = [i for i in items if i.path.stem == "test_profiles" and i not in pairs]
    items[:] = [*pairs, *profiles, *(i for i in items if i not in pairs and i not in profiles)]


@pytest.fixture
def restarts(pytestconfig: pytest.Config) -> int:
    """Return how often a server is restarted."""
    count: int = pytestconfig.getoption("restarts")
    return count


@pytest.fixture
def steered(cgroup: Path) -> Iterator[Instances]:
    """Return what starts instances below hooks."""
    with instances(cgroup, "instance") as started:
        yield started


@pytest.fixture
def plain(cgroup: Path) -> Iterator[Instances]:
    """Return what starts instances that no hook sees."""
    parent = cgroup.with_name(f"{cgroup.name}-plain")
    parent.mkdir()
    try:
        with instances(parent, "plain") as started:
            yield started
    finally:
        parent.rmdir()


@pytest.fixture(scope="session")
def upstream(cgroup: Path) -> Iterator[None]:
    """Yield the server that forwarding servers ask."""
    parent = cgroup.with_name(f"{cgroup.name}-upstream")
    parent.mkdir()
    try:
        with instances(parent, "upstream") as started:
            started.start(configurations.knot, configurations.UPSTREAM_PORT)
            yield
    finally:
        parent.rmdir()


@pytest.fixture
def box(cache: Path) -> Iterator[Box]:
    """Yield a host on which nothing was set up yet."""
    box = Box()
    yield box
    box.close()


@pytest.fixture
def figure(request: pytest.FixtureRequest) -> Callable[[str], None]:
    """Note a line that is printed when all is done."""
    properties: list[tuple[str, object]] = request.node.user_properties
    return lambda line: properties.append((_FIGURE, line))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the figures below the tests."""
    reports = terminalreporter.getreports("passed") + terminalreporter.getreports("failed")
    lines = {value for one in reports for key, value in one.user_properties if key == _FIGURE}
    for line in sorted(lines):
        terminalreporter.write_line(line)
