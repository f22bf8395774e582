# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""Probes from another host: both ends of the session, with a stand-in for ssh alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from testing.waiting import PATIENCE_S
from tests import fake_ssh
from tests.unit.probes.servers import server
from udpgrm.probes import remote, specs

ECHO = specs.EchoProbe(from_host="there", timeout_s=60, retries=0)


@pytest.fixture(autouse=True)
def ssh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Let this host be the other host, which may be as slow as a busy machine is."""
    monkeypatch.setattr(remote, "_PATIENCE_S", PATIENCE_S)
    fake_ssh.install(tmp_path, monkeypatch, came_from="127.0.0.1")
    return tmp_path


def test_flows_are_held_apart() -> None:
    prober = remote.Prober("there")
    with server(lambda data, _: [data]) as there:
        one, two = prober.hold(ECHO, there.address), prober.hold(ECHO, there.address)
        results = [one.ask(), two.ask(), one.ask()]
        assert [result.passed for result in results] == [True] * 3
        assert [result.source for result in results] == [one.source, two.source, one.source]
        assert [peer for _, peer in there.seen] == [one.source, two.source, one.source]
        one.close()
        assert two.ask().passed
        with pytest.raises(remote.ProberError, match="from there: not understood"):
            one.ask()
    prober.close()


def test_what_the_service_does_is_a_result() -> None:
    spec = specs.DnsProbe(from_host="there", rcode="NOERROR", timeout_s=60)
    with server(lambda data, _: [data[:2] + b"\x81\x05" + data[4:]]) as there:
        result = remote.run(spec, there.address)
    assert not result.passed
    assert result.reason == "DNS REFUSED, NOERROR was expected"


def test_all_keys_go_over() -> None:
    spec = specs.RawProbe(from_host="there", payload="0102", expect="03??*", timeout_s=60)
    with server(lambda data, _: [b"\x03" + data]) as there:
        assert remote.run(spec, there.address).passed
        assert there.seen[0][0] == b"\1\2"


def test_a_wildcard_is_asked_where_ssh_came_from() -> None:
    with server(lambda data, _: [data]) as there:
        port = there.address.rpartition(":")[2]
        assert remote.run(ECHO, f"0.0.0.0:{port}").passed
        with pytest.raises(
            remote.ProberError, match=r"\[::\]:\d+ is a wildcard, and ssh came from 127"
        ):
            remote.run(ECHO, f"[::]:{port}")


def test_a_host_that_cannot_be_reached() -> None:
    spec = specs.EchoProbe(from_host="nowhere")
    with pytest.raises(
        remote.ProberError, match=r"^from nowhere: ssh: connect to host .* No route to host$"
    ):
        remote.run(spec, "127.0.0.1:9")


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("echo 'udpgrm: not found' >&2; exit 127", "udpgrm: not found"),
        ("exit 0", "the ssh session ended"),
        ("read line; echo welcome", "what answered is not an udpgrm prober"),
        ("read line; echo '[]'", "what answered is not an udpgrm prober"),
        ("read line; echo '{}'", "what answered is not an udpgrm prober"),
    ],
)
def test_a_host_that_cannot_probe(ssh: Path, script: str, reason: str) -> None:
    (ssh / "udpgrm").write_text(f"#!/bin/sh\n{script}\n")
    with pytest.raises(remote.ProberError, match=reason):
        remote.run(ECHO, "127.0.0.1:9")


def test_a_host_that_does_not_answer(ssh: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "_PATIENCE_S", 2.0)
    # ends with its input, as a prober does: nothing of the test stays
    (ssh / "udpgrm").write_text("#!/bin/sh\nwhile read line; do :; done\n")
    with pytest.raises(remote.ProberError, match="no answer in time"):
        remote.run(ECHO, "127.0.0.1:9")
