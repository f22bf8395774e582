# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""Profiles of servers: definitions that are valid at any address, and their pages."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.unit.services.support import text
from udpgrm.services import instance_files, loader, profiles

DOCS = Path(__file__).resolve().parents[3] / "docs"
ADDRESSES = ["192.0.2.1:4000", "[2001:db8::1]:4000"]
#: Files that templates take apart.
ORIGINALS = {
    "/etc/freeradius/3.0/sites-enabled/default": "server a {\nlisten { }\n\nauthorize {\n}\n}\n",
    "/etc/wireguard/wg0.conf": "[Interface]\nAddress = 10.8.0.1/24, fd00::1/64 # here\nPostUp = x\n"
    "[Peer]\nAllowedIPs=10.8.0.2/32\n",
}
#: Listen at all addresses.
EVERYWHERE = ("wireguard-go",)


@pytest.mark.parametrize("name", profiles.names())
def test_a_definition_of_it_is_valid(name: str) -> None:
    profile = profiles.load(name)
    service, problems = loader.parse("edge", profiles.new(name, "edge", ADDRESSES).encode())
    assert service is not None, problems
    assert [group.address for group in service.groups if group.dissector] == ADDRESSES
    assert service.instances.unit == "edge@.service"
    assert service.enrollment == "adopted"
    # None: the package has an init script
    assert service.unit_from in (profile.unit, None)


def test_those_whose_clients_lose_something() -> None:
    found = [name for name in profiles.names() if profiles.load(name).losses]
    assert found == ["mumble-server", "openvpn", "wireguard-go"]


@pytest.mark.parametrize("name", profiles.names())
def test_its_files_name_the_address(name: str, tmp_path: Path) -> None:
    service, _ = loader.parse("edge", profiles.new(name, "edge", ADDRESSES[:1]).encode())
    assert service is not None
    here = []
    for path, template in service.instance_files:
        original = tmp_path / path.replace("/", "-")
        original.write_text(ORIGINALS.get(path, "x = y\n"))
        here.append((str(original), template))
    files = instance_files.render(replace(service, instance_files=tuple(here)), 7)
    rendered = "\n".join(files.values())
    assert "4000" in rendered
    assert ("192.0.2.1" in rendered) == (name not in EVERYWHERE)
    assert "{{" not in rendered and "{%" not in rendered


def test_settings_of_wg_quick(tmp_path: Path) -> None:
    service, _ = loader.parse("edge", profiles.new("wireguard-go", "edge", ["[::]:4000"]).encode())
    assert service is not None
    [(path, template)] = service.instance_files
    original = tmp_path / "wg0.conf"
    original.write_text(ORIGINALS[path])
    here = replace(service, instance_files=((str(original), template),))
    assert instance_files.render(here, 7)[str(original)].splitlines() == [
        "[Interface]",
        "ListenPort = 4000",
        "#ip address replace 10.8.0.1/24",
        "#ip address replace fd00::1/64",
        "[Peer]",
        "AllowedIPs=10.8.0.2/32",
        "#ip route replace 10.8.0.2/32",
    ]


@pytest.mark.parametrize(("name", "dissector"), [("coturn", "flow"), ("kamailio", "sip")])
def test_another_flow_timeout(name: str, dissector: str) -> None:
    service, _ = loader.parse("edge", profiles.new(name, "edge", ADDRESSES, 7).encode())
    assert service is not None
    found = [group.dissector for group in service.groups if group.dissector]
    assert [(one.name, one.parameters["flow_timeout"]) for one in found] == [(dissector, 7)] * 2


def test_no_flow_timeout() -> None:
    with pytest.raises(profiles.ProfileError, match="the profile knot has no flow_timeout"):
        profiles.new("knot", "edge", ADDRESSES, 7)


def test_tcp_beside_udp(tmp_path: Path) -> None:
    groups = [{"address": ADDRESSES[0]}, {"address": ADDRESSES[0], "protocol": "tcp"}]
    service, problems = loader.parse("edge", text(profile="nsd", groups=groups, probes=[]))
    assert service is not None, problems
    assert [group.dissector is None for group in service.groups] == [False, True]
    [(_, template)] = service.instance_files
    original = tmp_path / "nsd.conf"
    original.write_text("")
    here = replace(service, instance_files=((str(original), template),))
    [rendered] = instance_files.render(here, 7).values()
    assert rendered.count("ip-address: 192.0.2.1@4000") == 1


def test_a_definition_is_before_its_profile() -> None:
    content = text(
        profile="coturn",
        groups=[{"address": ADDRESSES[0], "sockets": 7}, {"address": ADDRESSES[1]}],
        drain={"max_s": 60},
    )
    service, problems = loader.parse("edge", content)
    assert service is not None, problems
    assert [group.sockets for group in service.groups] == [7, 2]
    assert {group.dissector.name for group in service.groups if group.dissector} == {"flow"}
    assert (service.drain.max_s, service.drain.until.quiet_s) == (60, None)
    assert (service.profile, service.probes[0].type) == ("coturn", "stun")


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"profile": 1}, "profile"),
        ({"profile": "x"}, "profile"),
        ({"profile": "coturn", "groups": 1}, "groups"),
        ({"profile": "coturn", "groups": [1]}, "groups.0"),
        ({"profile": "coturn", "groups": [{}]}, "groups.0.address"),
        ({"profile": "coturn", "groups": None}, "groups"),
    ],
)
def test_mistakes(changes: dict[str, Any], key: str) -> None:
    service, problems = loader.parse("edge", text(**changes))
    assert service is None
    assert [found for found, _ in problems] == [key]


def test_no_such_profile() -> None:
    with pytest.raises(profiles.ProfileError, match=r"no profile 'x' \(there are aiocoap, caddy"):
        profiles.load("x")


def test_the_table_in_the_documentation_has_each() -> None:
    page = (DOCS / "servers.md").read_text()
    for name in profiles.names():
        losses = profiles.load(name).losses
        assert losses is None or losses.what in page
    assert [name for name in profiles.names() if f"\n| `{name}` |" not in page] == []
    [example] = re.findall(r"```yaml\n(profile: .*?)```", page, re.DOTALL)
    assert loader.parse("turn", example.encode())[1] == []
