# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""The RPM package on a host of Debian, whose rpm knows no other package."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from testing.box import Box, box
from testing.processes import ROOT
from tests.kernel.conftest import own_network
from tests.packages.test_deb import ECHO

__all__ = ["own_network"]

#: Where the RHEL 9 family has its Python, and Debian has not.
MODULES = "/usr/lib/python3.9/site-packages"
EXPORT = f"export PYTHONPATH={MODULES}\n"
LEFT = "find /etc /usr /var /run /sys/fs/bpf -xdev -name '*udpgrm*' -not -path '/var/cache/man/*'"


@pytest.fixture(scope="module")
def host(own_network: None) -> Iterator[Box]:
    with box("rpm") as started:
        started.run("rm -r /usr/bin/udpgrm /var/cache/udpgrm || true")  # left by the checkout
        started.run(f"systemctl set-environment PYTHONPATH={MODULES}")
        yield started


@pytest.fixture(scope="module")
def before(host: Box) -> set[str]:
    """Return the machine's own paths with udpgrm in their name."""
    return set(host.run(LEFT).splitlines())


def test_installed(host: Box, before: set[str]) -> None:
    [package] = (ROOT / "build").glob("udpgrm-*.rpm")
    host.run(f"rpm --install --nodeps {package}")
    assert host.run("systemctl is-active udpgrm") == "active\n"
    assert host.run("rpm --verify --nodeps udpgrm") == ""
    assert set(host.run(LEFT).splitlines()) > before


@pytest.mark.parametrize(
    "name",
    [
        "/usr/bin/mmdecoy",
        "/usr/include/udpgrm.h",
        "/usr/share/bash-completion/completions/udpgrm",
        "/usr/share/zsh/site-functions/_udpgrm",
        "/usr/share/fish/vendor_completions.d/udpgrm.fish",
    ],
)
def test_files(host: Box, name: str) -> None:
    assert name in host.run("rpm --query --list udpgrm").splitlines()


@pytest.mark.parametrize("page", ["udpgrm-restart", "udpgrm_activate", "mmdecoy"])
def test_pages(host: Box, page: str) -> None:
    assert "udpgrm" in host.run(f"man --pager=cat 8 {page}")


def test_restart(host: Box) -> None:
    host.run(f"cp {ROOT}/examples/echo_server.py /opt")
    host.run(f"{EXPORT}{ECHO}systemctl start udpgrm-first@echo && udpgrm restart echo")
    assert host.run("systemctl is-active echo@1 echo@2 || true").split() == ["inactive", "active"]
    assert not host.run("ls /var/cache/udpgrm"), "a template was compiled"


def test_removal_is_refused(host: Box) -> None:
    refused = host.run(f"{EXPORT}rpm --erase udpgrm", status=1)
    assert "sockets at 0.0.0.0:4433 would no longer be steered" in refused
    assert host.run("systemctl is-active udpgrm echo@2").split() == ["active"] * 2


def test_removal(host: Box, before: set[str]) -> None:
    host.run(f"{EXPORT}systemctl stop 'echo@*' && rpm --erase udpgrm")
    kept = {"/etc/udpgrm", "/var/lib/udpgrm", "/var/cache/udpgrm"}
    assert set(host.run(LEFT).splitlines()) - before <= kept
    assert host.run("systemctl list-units --all --plain --no-legend '*udpgrm*'") == ""
