# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""Service files: what they become, and every mistake by its key."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.unit.services.support import MINIMAL, one_group, text
from udpgrm.probes import specs
from udpgrm.services import definition as d
from udpgrm.services import loader

FULL = b"""
groups:
  - address: "0.0.0.0:4433"
    sockets: 2
    dissector: {name: flow, parameters: {flow_timeout: 60}}
  - address: "[0:0::0]:4433"
    sockets: 2.0
    application: 1
    dissector: {name: bespoke, parameters: {sni: {a.example: 1}, max_apps: 2}}
instances: {decoy: edge.service}
enrollment: adopted
probes:
  - {type: echo, address: "[::]:4433", timeout_s: 2, retries: 0}
  - {type: raw, payload: "00ff", expect: "?0*"}
  - {type: dns, name: example., query_type: TYPE99, rcode: REFUSED, identity: false}
  - {type: quic, handshake: true, server_name: a.example, alpn: [h3, doq]}
  - {type: stun}
  - {type: sip, uri: "sip:a@b.example"}
drain: {until: {flows: null, quiet_s: 5}, max_s: 60, on_timeout: fail}
flows_per_generation: 1024
budget: {dropped: 0}
timeouts: {verify_s: 1}
"""


def problems(content: bytes) -> list[tuple[str, str]]:
    service, found = loader.parse("edge", content)
    assert (service is None) == bool(found)
    return found


def test_everything_given() -> None:
    service, found = loader.parse("edge", FULL)
    assert found == []
    assert service == d.Service(
        name="edge",
        groups=(
            d.Group("0.0.0.0:4433", 2, 0, d.Dissector("flow", {"flow_timeout": 60})),
            d.Group(
                "[::]:4433", 2, 1, d.Dissector("bespoke", {"sni": {"a.example": 1}, "max_apps": 2})
            ),
        ),
        instances=d.Instances("decoy", "edge.service"),
        enrollment="adopted",
        probes=(
            specs.EchoProbe("[::]:4433", 2.0, 0),
            specs.RawProbe(payload="00ff", expect="?0*"),
            specs.DnsProbe(name="example.", query_type="TYPE99", rcode="REFUSED"),
            specs.QuicProbe(handshake=True, server_name="a.example", alpn=("h3", "doq")),
            specs.StunProbe(),
            specs.SipProbe(uri="sip:a@b.example"),
        ),
        drain=d.Drain(d.DrainUntil(None, 5.0), 60.0, "fail"),
        flows_per_generation=1024,
        budget=d.Budget(None, 0),
        timeouts=d.Timeouts(verify_s=1.0),
    )


def test_defaults_are_those_of_the_dataclasses() -> None:
    service, _ = loader.parse("edge", text())
    expected = d.Service(
        "edge", (d.Group("0.0.0.0:4433"),), d.Instances("template", "edge@.service")
    )
    assert service == expected


def test_numbers_have_their_declared_types() -> None:
    service, _ = loader.parse("edge", FULL)
    assert service is not None
    values = [*vars(service.groups[1]).values(), *vars(service.drain).values()]
    values += [*vars(service.drain.until).values(), *vars(service.timeouts).values()]
    assert {type(value) for value in values if value in (2, 1, 60, 5)} == {int, float}
    assert type(service.groups[1].sockets) is int
    assert type(service.drain.max_s) is float
    assert type(service.drain.until.quiet_s) is float
    assert type(service.timeouts.verify_s) is float
    assert type(service.probes[0].timeout_s) is float


def test_a_service_is_hashable_and_frozen() -> None:
    service, _ = loader.parse("edge", FULL)
    assert service is not None
    hash(service)
    with pytest.raises(dataclasses.FrozenInstanceError):
        service.name = "other"  # type: ignore[misc]


def test_units_of_generations() -> None:
    assert d.Instances("template", "edge@.service").unit_of(7) == "edge@7.service"
    assert d.Instances("decoy", "edge.service").unit_of(7) == "edge.service"


def test_probes_of_a_group() -> None:
    service, _ = loader.parse("edge", FULL)
    assert service is not None
    first, second = ([probe.type for probe in service.probes_of(g)] for g in service.groups)
    assert first == ["raw", "dns", "quic", "stun", "sip"]
    assert second == ["echo", *first]


def test_a_mapped_address_is_spelt_as_udpgrm_list_does() -> None:
    service, _ = loader.parse("edge", one_group(address="[::ffff:192.0.2.1]:53"))
    assert service is not None
    assert service.groups[0].address == "192.0.2.1:53"


def test_listeners_of_tcp_beside_udp() -> None:
    groups = [{"address": "192.0.2.1:53"}, {"address": "192.0.2.1:53", "protocol": "tcp"}]
    probes = [
        {"type": "dns"},
        {"type": "raw", "payload": "00"},
        {"type": "connect", "address": "192.0.2.1:53/tcp"},
    ]
    service, found = loader.parse("edge", text(groups=groups, probes=probes))
    assert service is not None, found
    assert [group.address for group in service.groups] == ["192.0.2.1:53", "192.0.2.1:53/tcp"]
    asked = [[probe.type for probe in service.probes_of(group)] for group in service.groups]
    assert asked == [["dns", "raw"], ["dns", "connect"]]


CBPF = {"name": "cbpf", "parameters": {"filter": [[6, 0, 0, 0]], "max_apps": 2}}
SNI = {f"{number}.example": 0 for number in range(9)}


@pytest.mark.parametrize(
    ("content", "key", "reason"),
    [
        (b"[]", "", "[] is not of type object"),
        (b"{}", "groups", "missing"),
        (text(groups=[]), "groups", "has 0 entries, at least 1 are wanted"),
        (
            text(groups=[{"address": f"[::1]:{n}"} for n in range(1, 1026)]),
            "groups",
            "at most 1024",
        ),
        (text(group=1), "group", "no such key (there are groups, instances,"),
        (one_group(sockets=0), "groups.0.sockets", "0 is not a number of 1..256"),
        (one_group(sockets=257), "groups.0.sockets", "257 is not a number of 1..256"),
        (one_group(sockets=True), "groups.0.sockets", "true is not of type integer"),
        (one_group(sockets=1.5), "groups.0.sockets", "1.5 is not of type integer"),
        (one_group(application=4), "groups.0.application", "4 is not a number of 0..3"),
        (one_group(address="0.0.0.0"), "groups.0.address", "not an ADDRESS:PORT: '0.0.0.0'"),
        (one_group(address="::1:53"), "groups.0.address", "not an ADDRESS:PORT: '::1:53'"),
        (one_group(address="host:53"), "groups.0.address", "not an ADDRESS:PORT"),
        (one_group(address="0.0.0.0:65536"), "groups.0.address", "not an ADDRESS:PORT"),
        (one_group(address="[fe80::1]:53"), "groups.0.address", "is link-local: name its device"),
        (
            one_group(address="[fe80::1%]:53"),
            "groups.0.address",
            "not the name of a network device",
        ),
        (one_group(address="[fe80::1%a/b]:53"), "groups.0.address", "not the name of a network"),
        (one_group(address="239.1.1.1:53"), "groups.0.address", "copies such packets to every"),
        (
            one_group(address="[ff15::1%eth0]:53"),
            "groups.0.address",
            "copies such packets to every",
        ),
        (one_group(address="255.255.255.255:53"), "groups.0.address", "copies such packets to"),
        (one_group(dissector="flow"), "groups.0.dissector", '"flow" is not of type object'),
        (one_group(dissector={}), "groups.0.dissector.name", "missing"),
        (
            one_group(dissector={"name": "../x"}),
            "groups.0.dissector.name",
            '"../x" is not a dissector\'s name',
        ),
        (
            one_group(dissector={"name": "flow", "parameters": {"timeout": 1}}),
            "groups.0.dissector.parameters.timeout",
            "no such key (there are flow_timeout)",
        ),
        (
            one_group(dissector={"name": "noop", "parameters": {"x": 1}}),
            "groups.0.dissector.parameters.x",
            "no such key",
        ),
        (one_group(dissector={"name": "cbpf"}), "groups.0.dissector.parameters", "missing"),
        (
            one_group(dissector={"name": "cbpf", "parameters": {"filter": [[1, 2, 3]]}}),
            "groups.0.dissector.parameters.filter.0",
            "has 3 entries, at least 4 are wanted",
        ),
        (
            one_group(dissector={"name": "cbpf", "parameters": {"filter": [[6, 0, 256, 0]]}}),
            "groups.0.dissector.parameters.filter.0.2",
            "256 is not a number of 0..255",
        ),
        (
            one_group(dissector={"name": "bespoke", "parameters": {"sni": {"a" * 62: 0}}}),
            "groups.0.dissector.parameters.sni",
            "is not a host name of at most 61 characters",
        ),
        (
            one_group(dissector={"name": "bespoke", "parameters": {"sni": SNI}}),
            "groups.0.dissector.parameters.sni",
            "has 9 entries, at most 8 are wanted",
        ),
        (
            one_group(application=2, dissector=CBPF),
            "groups.0.application",
            "2 is not below max_apps, 2",
        ),
        (
            one_group(application=1, dissector={"name": "flow"}),
            "groups.0.application",
            "1, but flow knows only application 0",
        ),
        (
            one_group(dissector={"name": "bespoke", "parameters": {"sni": {"a.example": 1}}}),
            "groups.0.dissector.parameters.sni.a.example",
            "1 is not below max_apps, 1",
        ),
        (text(groups=MINIMAL["groups"] * 2), "groups.1.address", "is groups.0's already"),  # type: ignore[operator]
        (text(instances={}), "instances", "has 0 entries, at least 1 are wanted"),
        (text(instances={"unit": "e@.service", "decoy": "e.service"}), "instances", "at most 1"),
        (text(instances={"unit": "e.service"}), "instances.unit", "is not a template unit"),
        (text(instances={"unit": "e@1.service"}), "instances.unit", "is not a template unit"),
        (text(instances={"unit": "e@.service\n"}), "instances.unit", "is not a template unit"),
        (text(instances={"decoy": "e@.service"}), "instances.decoy", "is not a unit to run"),
        (
            text(enrollment="magic"),
            "enrollment",
            '"magic" is not one of socket_api, store, adopted',
        ),
        (text(probes=[{}]), "probes.0.type", "missing"),
        (text(probes=[{"type": "http"}]), "probes.0.type", '"http" is not one of echo, raw,'),
        (text(probes=[{"type": "stun", "name": "x"}]), "probes.0.name", "no such key (there are"),
        (text(probes=[{"type": "raw"}]), "probes.0.payload", "missing"),
        (text(probes=[{"type": "raw", "payload": "0"}]), "probes.0.payload", "is not hex"),
        (text(probes=[{"type": "dns", "name": "a..b"}]), "probes.0.name", "is not a domain name"),
        (text(probes=[{"type": "echo", "timeout_s": 0}]), "probes.0.timeout_s", "0.01..60"),
        (
            text(probes=[{"type": "echo", "address": "0.0.0.0:1"}]),
            "probes.0.address",
            "0.0.0.0:1 is none of the groups (0.0.0.0:4433)",
        ),
        (one_group(protocol="sctp"), "groups.0.protocol", '"sctp" is not one of udp, tcp'),
        (
            one_group(address="0.0.0.0:4433/tcp"),
            "groups.0.address",
            "write 0.0.0.0:4433 here, and protocol: tcp beside it",
        ),
        (
            one_group(protocol="tcp", dissector={"name": "flow"}),
            "groups.0.dissector",
            "of TCP only new connections are steered",
        ),
        (
            one_group(protocol="tcp", application=1),
            "groups.0.application",
            "listeners of TCP have no applications",
        ),
        (
            text(groups=[{"address": "0.0.0.0:53", "protocol": "tcp"}], enrollment="store"),
            "groups.0.protocol",
            "stores sockets of UDP only",
        ),
        (text(probes=[{"type": "connect"}]), "probes.0.type", "connect is over tcp"),
        (text(drain={"until": {}}), "drain.until", "has 0 entries, at least 1 are wanted"),
        (
            text(drain={"until": {"flows": None, "quiet_s": None}}),
            "drain.until",
            "one of flows and quiet_s must be a number",
        ),
        (text(drain={"on_timeout": "panic"}), "drain.on_timeout", "is not one of stop, keep, fail"),
        (
            text(flows_per_generation=63),
            "flows_per_generation",
            "63 is not a number of 64..16777216",
        ),
        (text(budget={"lost": 1}), "budget.lost", "no such key (there are misdirected, dropped)"),
        (text(timeouts={"start_s": "30"}), "timeouts.start_s", '"30" is not of type number'),
        (text(timeouts={"start_s": 1e300}), "timeouts.start_s", "is not a number of 0.1..3600"),
    ],
)
def test_mistakes(content: bytes, key: str, reason: str) -> None:
    found = problems(content)
    assert key in [place for place, _ in found]
    assert any(place == key and reason in why for place, why in found), found


def test_all_mistakes_are_named_at_once() -> None:
    found = problems(text(enrollment="x", groups=[{"sockets": 0}], more=1, timeouts={"start_s": 0}))
    assert {key for key, _ in found} == {
        "enrollment",
        "groups.0.address",
        "groups.0.sockets",
        "more",
        "timeouts.start_s",
    }


def test_two_missing_keys_are_two_problems() -> None:
    assert problems(b"{}") == [("groups", "missing"), ("instances", "missing")]


def write(directory: Path, name: str, **changes: object) -> None:
    (directory / f"{name}.yaml").write_bytes(text(**changes))


def between(directory: Path) -> list[str]:
    prefix = f"{directory}/"
    return [str(p)[len(prefix) :] for p in loader.read_directory(directory).problems]


def test_one_address_in_two_services(tmp_path: Path) -> None:
    write(tmp_path, "a")
    write(tmp_path, "b", groups=[{"address": "[::]:1"}, {"address": "0.0.0.0:4433"}])
    assert between(tmp_path) == ["b.yaml: groups.1.address: 0.0.0.0:4433 is service a's already"]
    assert loader.load("a", tmp_path).name == "a"
    with pytest.raises(loader.DefinitionError, match=r"b\.yaml: groups\.1\.address"):
        loader.load("b", tmp_path)


def test_services_share_a_group_as_its_applications(tmp_path: Path) -> None:
    group = {"address": "0.0.0.0:443", "dissector": CBPF}
    write(tmp_path, "a", groups=[group])
    write(tmp_path, "b", groups=[{**group, "application": 1}])
    assert between(tmp_path) == []
    write(tmp_path, "b", groups=[{"address": "0.0.0.0:443", "application": 1}])
    expected = "b.yaml: groups.0.dissector: 0.0.0.0:443 has another dissector in service a"
    assert between(tmp_path) == [expected]


def test_names_of_files(tmp_path: Path) -> None:
    for name in ("Edge", "-edge", "a.b"):
        write(tmp_path, name)
    (tmp_path / "other.yml").write_bytes(text())
    (tmp_path / ".hidden.yaml").write_text("[")
    (tmp_path / "README").write_text("[")
    assert [line.partition(":")[0] for line in between(tmp_path)] == [
        "-edge.yaml",
        "Edge.yaml",
        "a.b.yaml",
        "other.yml",
    ]
    assert loader.read_directory(tmp_path).services == []


def test_load(tmp_path: Path) -> None:
    write(tmp_path, "edge")
    (tmp_path / "broken.yaml").write_text("[")
    (tmp_path / "wrong.yaml").write_text("{}")
    assert loader.load("edge", tmp_path).groups[0].address == "0.0.0.0:4433"
    with pytest.raises(
        loader.DefinitionError,
        match=r"^no service 'nothing' in .*; did you mean broken or edge or wrong\?",
    ):
        loader.load("nothing", tmp_path)
    with pytest.raises(loader.DefinitionError, match=r"; did you mean edge\?$"):
        loader.load("edgy", tmp_path)
    with pytest.raises(loader.DefinitionError, match=r"/none; it has none$"):
        loader.load("edge", tmp_path / "none")
    with pytest.raises(loader.DefinitionError, match=r"^no service '\.\./edge' in "):
        loader.load("../edge", tmp_path)
    with pytest.raises(
        loader.DefinitionError, match=r"wrong.yaml: groups: missing \(and 1 more: udpgrm check\)$"
    ):
        loader.load("wrong", tmp_path)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=12,
)


@st.composite
def mutated(draw: st.DrawFn) -> object:
    """Return the full example, with one value anywhere replaced or added."""
    root = yaml.safe_load(FULL)
    places: list[tuple[dict[object, object] | list[object], object]] = []
    stack = [root]
    while stack:
        item = stack.pop()
        entries = item.items() if isinstance(item, dict) else enumerate(item)
        for key, value in entries:
            places.append((item, key))
            if isinstance(value, (dict, list)):
                stack.append(value)
    container, key = draw(st.sampled_from(places))
    container[key] = draw(JSON)  # type: ignore[call-overload]
    return root


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(JSON | mutated())
def test_any_data_gives_a_service_or_problems(data: object) -> None:
    content = yaml.safe_dump(data, allow_unicode=True).encode("utf-8", "surrogatepass")
    service, found = loader.parse("edge", content)
    assert (service is None) == bool(found)
    for key, reason in found:
        assert isinstance(key, str)
        assert reason
