# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""The memory that is left for one more instance."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.unit.restart.fakes import FakeGroups, FakeInstances, service
from udpgrm.restart import memory, prepare, systemd
from udpgrm.restart.plan import Generations, Refused
from udpgrm.restart.systemd import SystemdError
from udpgrm.services.definition import Drain

OLD, NEW = 4, 5
MIB = 1 << 20


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a host with 300 MiB, whose process 1 uses 100, and 2 has just ended."""
    (tmp_path / "1").mkdir()
    (tmp_path / "1/smaps_rollup").write_text("Rss: 999999 kB\nPss:    102400 kB\nPss_Dirty: 9 kB\n")
    (tmp_path / "meminfo").write_text("MemTotal: 9999999 kB\nMemAvailable: 307200 kB\n")
    monkeypatch.setattr(memory, "_PROC", tmp_path)
    monkeypatch.setattr(FakeInstances, "processes", lambda *_: [1, 2])
    monkeypatch.setattr(systemd, "property_of", lambda unit, name: "udpgrm.slice")
    monkeypatch.setattr(systemd, "cgroup_of", lambda name: tmp_path / "outer.slice" / name)
    return tmp_path


def limit(cgroup: Path, most: str, current: int, cached: int) -> None:
    cgroup.mkdir(parents=True, exist_ok=True)
    (cgroup / "memory.max").write_text(f"{most}\n")
    (cgroup / "memory.current").write_text(f"{current * MIB}\n")
    (cgroup / "memory.stat").write_text(f"anon 5\ninactive_file {cached * MIB}\n")


def decide(factor: float) -> Generations:
    what = service(drain=Drain(min_memory=factor))
    instances = FakeInstances({OLD})
    groups = FakeGroups(what.groups, instances, OLD)
    return prepare.check(what, groups, instances)  # type: ignore[arg-type]


def test_the_host_has_too_little(here: Path) -> None:
    assert decide(3) == Generations(OLD, NEW)
    reason = rf"the host has 300 MiB left, but edge@{OLD}.service uses 100 MiB, and .* is 3.1:"
    with pytest.raises(Refused, match=reason):
        decide(3.1)


def test_a_slice_has_too_little(here: Path) -> None:
    limit(here / "outer.slice", str(250 * MIB), current=150, cached=20)
    limit(here / "outer.slice/udpgrm.slice", "max", current=999, cached=0)
    assert decide(1.2) == Generations(OLD, NEW)
    with pytest.raises(Refused, match=r"outer.slice has 120 MiB left"):
        decide(1.3)


def test_systemd_does_not_answer(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def silent(*_: str) -> str:
        raise SystemdError("no answer")

    monkeypatch.setattr(systemd, "property_of", silent)
    with pytest.raises(Refused, match="the host has 300 MiB left"):
        decide(100)


def test_the_memory_of_a_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Measure a process's memory as the kernel counts it: more by what it touches."""
    before = memory.in_use([os.getpid()])
    held = bytearray(os.urandom(1 << 10) * (64 << 10))
    grown = memory.in_use([os.getpid()]) - before
    assert 0.9 * len(held) < grown < 1.5 * len(held)
    [(left, where)] = memory.available(Path("/nowhere"))
    assert (left > MIB, where) == (True, "the host")
