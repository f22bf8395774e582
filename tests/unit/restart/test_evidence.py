# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""Compare the kernel's evidence of a probe with the expected one."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

import pytest

from tests.unit.restart import fakes
from udpgrm.abi import DissectorType
from udpgrm.probes import runner, specs
from udpgrm.probes.runner import ProbeResult
from udpgrm.restart import evidence, unseen
from udpgrm.restart.evidence import KernelProber, evaluate
from udpgrm.restart.groups import Groups
from udpgrm.restart.prober import StepFailed
from udpgrm.services.definition import Group
from udpgrm.state.probing import Evidence

GOOD: dict[str, Any] = {
    "probe": "echo",
    "address": "127.0.0.1:4433",
    "source": "127.0.0.1:40000",
    "passed": True,
    "reason": "the nonce came back",
    "sent": "ab",
    "received": "ab",
    "received_generation": 5,
    "path": "steered",
    "replied_generation": 5,
}


def test_good() -> None:
    evaluate(GOOD, 5, "steered")
    # answered by a socket that is in no generation
    evaluate({**GOOD, "replied_generation": None}, 5, "steered")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"passed": False, "reason": "no reply within 1 s", "received": None},
            "echo probe of 127.0.0.1:4433 from 127.0.0.1:40000; failed: no reply within 1 s; "
            "sent ab; received nothing; generation 5 got it as steered; generation 5 answered",
        ),
        (
            {"received_generation": 4},
            "echo probe of 127.0.0.1:4433 from 127.0.0.1:40000; passed; sent ab; received ab; "
            "generation 4 got it as steered; generation 5 answered; "
            "wanted generation 5 to get it as steered",
        ),
        (
            {"received_generation": None, "path": None, "replied_generation": None},
            "echo probe of 127.0.0.1:4433 from 127.0.0.1:40000; passed; sent ab; received ab; "
            "no generation got it; wanted generation 5 to get it as steered",
        ),
        (
            {"path": "new"},
            "echo probe of 127.0.0.1:4433 from 127.0.0.1:40000; passed; sent ab; received ab; "
            "generation 5 got it as new; generation 5 answered; "
            "wanted generation 5 to get it as steered",
        ),
        (
            {"replied_generation": 4},
            "echo probe of 127.0.0.1:4433 from 127.0.0.1:40000; passed; sent ab; received ab; "
            "generation 5 got it as steered; generation 4 answered; "
            "generation 5 should have answered",
        ),
    ],
)
def test_bad(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(StepFailed) as caught:
        evaluate({**GOOD, **changes}, 5, "steered")
    assert str(caught.value) == message


OLD, NEW, FLOW_TIMEOUT_S = 4, 5, 1
SOURCE = ("127.0.0.1", 40000)


class Kernel:
    """A FLOW group whose kernel says what tests set, and a clock."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 100.0
        self.evidence: Callable[[tuple[str, int]], Evidence]
        view = SimpleNamespace(
            ip="127.0.0.1",
            port=4433,
            ifindex=0,
            group_id=0,
            name="flow",
            address="127.0.0.1:4433",
            tcp=False,
            dissector=DissectorType.FLOW,
            flow_timeout=FLOW_TIMEOUT_S,
            working=[OLD],
            generations=[SimpleNamespace(application=0, generation=OLD, alive=1)],
        )
        self.view = view
        groups = SimpleNamespace(maps=None, view=lambda _: view)
        service = fakes.service(groups=(Group(view.address, 1),), probes=(specs.EchoProbe(),))
        self.prober = KernelProber(service, cast(Groups, groups))
        monkeypatch.setattr(evidence, "time", SimpleNamespace(monotonic=lambda: self.now))
        monkeypatch.setattr(runner, "hold", lambda *_: self)
        monkeypatch.setattr(evidence, "Probing", lambda *_: contextlib.nullcontext(self))
        monkeypatch.setattr(evidence, "delete_flow", lambda *_: None)
        monkeypatch.setattr(evidence, "foreign", lambda *_: {})
        monkeypatch.setattr(unseen, "refuse", lambda *_: None)
        monkeypatch.setattr(self.prober, "_verify_programs", lambda: None)
        monkeypatch.setattr(self.prober, "_verify_new", lambda *_: None)

    #: Attributes and methods of the flow, and of what watches it.
    source = SOURCE

    def ask(self) -> ProbeResult:
        return ProbeResult("echo", "127.0.0.1:4433", True, "", "ab", "ab", SOURCE, 0.0, 1)

    def close(self) -> None:
        pass

    def watch(self, peer: tuple[str, int]) -> None:
        assert peer == SOURCE


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> Kernel:
    return Kernel(monkeypatch)


def test_an_old_one_without_sockets_holds_no_flow(kernel: Kernel) -> None:
    """Hold no flow of an old instance without sockets: the kernel would begin it elsewhere."""
    kernel.view.generations[0].alive = 0
    found: dict[str, Any] = {}
    with kernel.prober as prober:
        prober.hold(OLD, found)
        prober.verify(OLD, NEW, found)
    assert (found["held"], found["old_flows"]) == ([], [])


MOVED = Evidence(NEW, 2, "new", NEW, 2, 1, 1)


@pytest.mark.parametrize(
    ("later_s", "seen", "expired"),
    [
        (0.1, Evidence(OLD, 1, "existing", OLD, 1, 1, 1), False),
        # its server has sent to it meanwhile
        (5, Evidence(OLD, 1, "existing", OLD, 1, 1, 1), False),
        (FLOW_TIMEOUT_S, MOVED, True),
        # its second packet is one of a known flow
        (FLOW_TIMEOUT_S, Evidence(NEW, 2, "existing", NEW, 2, 2, 2), True),
    ],
)
def test_an_old_flow_that_is_in_order(
    kernel: Kernel, later_s: float, seen: Evidence, expired: bool
) -> None:
    found: dict[str, Any] = {}
    with kernel.prober as prober:
        prober.hold(OLD, found)
        kernel.now += later_s
        kernel.evidence = lambda _: seen
        prober.verify(OLD, NEW, found)
    assert [entry["expired"] for entry in found["old_flows"]] == [expired]


@pytest.mark.parametrize(
    ("later_s", "seen"),
    [
        (FLOW_TIMEOUT_S - 0.1, MOVED),
        # expired or not: a new flow is the new generation's
        (5, Evidence(OLD, 1, "new", OLD, 1, 1, 1)),
        (5, Evidence(None, None, None, None, None, 0, 0)),
        (5, Evidence(3, 1, "new", 3, 1, 1, 1)),
    ],
)
def test_an_old_flow_that_moved(kernel: Kernel, later_s: float, seen: Evidence) -> None:
    with kernel.prober as prober:
        prober.hold(OLD, {})
        kernel.now += later_s
        kernel.evidence = lambda _: seen
        with pytest.raises(StepFailed, match="wanted generation 4 to get it as existing"):
            prober.verify(OLD, NEW, {})
