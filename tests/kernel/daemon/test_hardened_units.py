# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""The units of role and packages: what they close is not needed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import jinja2
import pytest

from distribution import units
from testing.box import Box, box
from testing.host import ROOT, TEMPLATES, wait_for
from tests.packages.test_deb import ECHO

#: Detaches the group's program, as a server outside of hooked cgroups may.
DETACH = """
import socket
sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
sock.bind(("0.0.0.0", 4433))
sock.setsockopt(socket.SOL_SOCKET, 68, 0)  # SO_DETACH_REUSEPORT_BPF
"""
#: The journal has what was logged before, and not only what it has read by now.
JOURNAL = "journalctl --sync && journalctl --quiet --output=cat"
WARNINGS = f"{JOURNAL} --unit=udpgrm --priority=warning"


@pytest.fixture(scope="module")
def host(own_network: None, cache: Path) -> Iterator[Box]:
    """Yield a host with the units, and an echo server in generation 1."""
    with box("units") as started:
        for name, text in units.rendered().items():
            started.run(f"cat > /etc/systemd/system/{name}", text=text)
        started.run(f"cp {ROOT}/examples/echo_server.py /opt")
        started.run("mkdir -p /etc/udpgrm/services.d /sys/fs/cgroup/udpgrm.slice /var/lib/textfile")
        # systemd waits 90 s for a start, and a compiler on a busy machine takes longer
        started.run(f"mkdir -p /var/cache/udpgrm && cp {TEMPLATES}/*.bpf /var/cache/udpgrm")
        started.run(f"systemctl set-environment PYTHONPATH={ROOT}")
        started.run(f"systemctl daemon-reload && systemctl start udpgrm\n{ECHO}")
        started.run("systemctl start udpgrm-first@echo")
        yield started


@pytest.fixture(scope="module")
def restarted(host: Box) -> Box:
    """Return the host with the server in generation 2; other tests may run in another worker."""
    host.run("udpgrm restart echo")
    return host


def test_restart(restarted: Box) -> None:
    states = restarted.run("systemctl is-active echo@1 echo@2 || true").split()
    assert states == ["inactive", "active"]
    assert restarted.run(WARNINGS) == ""


def test_fields(restarted: Box) -> None:
    end = f"{JOURNAL} UDPGRM_SERVICE=echo UDPGRM_OUTCOME=finished"
    first, second = restarted.run(end).splitlines()
    assert first.startswith("echo: finished: generation 1 is active")
    assert second.startswith("echo: finished: generation 2 is active")
    working = f"{JOURNAL} UDPGRM_GROUP=0.0.0.0:4433 UDPGRM_GENERATION=2"
    assert "Working gen app=0 2 0.0.0.0:4433" in restarted.run(working).splitlines()


def test_textfile(host: Box) -> None:
    template = (ROOT / "roles/udpgrm/templates/udpgrm-textfile.service.j2").read_text()
    unit = jinja2.Template(template).render(
        ansible_managed="a test", udpgrm_textfile_directory="/var/lib/textfile"
    )
    host.run("cat > /etc/systemd/system/udpgrm-textfile.service", text=unit)
    host.run("systemctl daemon-reload && systemctl start udpgrm-textfile")
    metrics = host.run("cat /var/lib/textfile/udpgrm.prom")
    assert "udpgrm_generation_connected_sockets{" in metrics


def test_a_program_is_attached_again(host: Box) -> None:
    # stopped, or it is done before doctor looks
    host.run("systemctl kill --signal=STOP udpgrm")
    host.run("python3 -", text=DETACH)
    assert "NOT steered" in host.run("udpgrm doctor || true")
    host.run("systemctl kill --signal=CONT udpgrm")
    wait_for(lambda: "is attached again" in host.run(WARNINGS), "the daemon to notice")
    assert "NOT steered" not in host.run("udpgrm doctor || true")


def test_a_service_ends_and_begins_again(host: Box) -> None:
    """Start an operator's unit by udpgrm-first@.service, which stays active."""

    def states() -> list[str]:
        first = "udpgrm-first@echo"
        asked = (
            f"systemctl is-enabled {first} || true; systemctl is-active {first} 'echo@*' || true"
        )
        return host.run(asked).split()

    host.run("systemctl enable udpgrm-first@echo && udpgrm service stop echo --lose-flows")
    assert states() == ["disabled", "inactive"]
    for _ in range(2):
        host.run("udpgrm service start echo")
        assert states() == ["enabled", "active", "active"]
    host.run("systemctl kill --signal=KILL 'echo@*'")
    wait_for(lambda: states() == ["enabled", "active", "failed"], "the end of the instance")
    host.run("systemctl reset-failed && udpgrm service start echo")
    assert states() == ["enabled", "active", "active"]
