# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""udpgrm probe --type: what its arguments mean, and which are refused."""

from __future__ import annotations

import json

import pytest

from tests.unit.probes.servers import server
from udpgrm.cli.main import main
from udpgrm.probes import reach


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--type=ping"], "type"),
        (["--type=echo", "payload"], "'payload' is not KEY=VALUE"),
        (["--type=echo", "size=1"], "size: no such key"),
        (["--type=echo", "timeout_s=soon"], 'timeout_s: "soon" is not of type number'),
        (["--type=echo", "retries=["], "probe: retries: line 1: "),
        (["--type=echo", "retries="], "probe: retries: empty"),
        (["--type=echo", 'timeout_s=!!int ""'], "timeout_s: a value does not fit its tag"),
        (["--type=echo", "timeout_s=" + "[" * 3000], "timeout_s: nested deeper than 16"),
        (["--type=echo", "timeout_s=.nan"], "timeout_s: .nan is not a value here"),
        (["--type=echo", "retries=\udcff"], "retries: not UTF-8 at byte 0"),
        (["--type=raw", "payload=["], 'payload: "[" is not hex'),
        (["--type=raw", "payload=123"], 'payload: "123" is not hex'),
        (["--type=raw", "payload=\udcff"], "payload: not UTF-8 at byte 0"),
        (["--type=raw", "payload='00"], "probe: payload: line 1: "),
        (["--type=dns", "name="], 'name: "" is not a domain name'),
        (["--type=echo", "type=dns"], "probe: type is given twice"),
        (["--type=echo", "retries=1", "retries=2"], "probe: retries is given twice"),
        (["--type=echo", "--from=a", "from=b"], "probe: from is given twice"),
        (["--type=echo", "--count=3"], "--count and --type do not combine"),
        (["--type=echo", "--timeout=3"], "--timeout and --type do not combine"),
        (["--from=a"], "--from goes with --type"),
        (["--at=a"], "--at goes with --type"),
    ],
)
def test_what_makes_no_sense(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["probe", "192.0.2.1:443", *arguments]) == 255
    [line] = capsys.readouterr().err.splitlines()
    assert message in line


@pytest.mark.parametrize(
    ("listed", "asked"),
    [
        ("0.0.0.0:53", "127.0.0.1:53"),
        ("[::]:53", "[::1]:53"),
        ("0.0.0.0:53/tcp", "127.0.0.1:53/tcp"),
        ("192.0.2.1:53", "192.0.2.1:53"),
        ("[fe80::1%eth77]:53", "[fe80::1]:53"),
        ("0.0.0.0%eth77:53", "127.0.0.1:53"),
    ],
)
def test_an_address_of_another_host(listed: str, asked: str) -> None:
    host = "::1" if listed.startswith("[") else "127.0.0.1"
    assert reach.of_host(listed, host) == asked


def test_a_probe_at_another_host(capsys: pytest.CaptureFixture[str]) -> None:
    with server(lambda data, _: [data]) as there:
        listed = there.address.replace("127.0.0.1", "0.0.0.0%eth77")
        assert main(["probe", listed, "--type=echo", "--at=127.0.0.1", "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["address"] == there.address
    assert main(["probe", "0.0.0.0:53", "--type=dns", "--at=no.such.invalid"]) == 255
    assert capsys.readouterr().err.startswith("udpgrm: probe: --at=no.such.invalid: Name ")


def test_an_echo(capsys: pytest.CaptureFixture[str]) -> None:
    with server(lambda data, _: [data]) as there:
        assert main(["probe", there.address, "--type=echo", "timeout_s=5", "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["passed"] is True
    with server(lambda data, _: []) as there:
        arguments = ["--type=echo", "timeout_s=0.05", "retries=0"]
        assert main(["probe", there.address, *arguments]) == 1
        assert "failed" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("payload", "expect"), [("00", "01"), ("1234", "1235"), ('"0016"', "'0017'"), ("0e", "*")]
)
def test_digits_are_no_numbers(payload: str, expect: str) -> None:
    """Take a text parameter, like hex, as it stands or in YAML's quotes."""
    sent = bytes.fromhex(payload.strip('"'))
    with server(lambda data, _: [data[:-1] + bytes([data[-1] + 1])]) as there:
        arguments = [f"payload={payload}", f"expect={expect}", "timeout_s=5"]
        assert main(["probe", there.address, "--type=raw", *arguments]) == 0
        assert [data for data, _ in there.seen] == [sent]
