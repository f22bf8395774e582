# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors

"""Modules as Ansible runs them: a process of their own, with a udpgrm command in PATH."""

from __future__ import annotations

import pathlib
import typing as t

import pytest

from ..fake_host import group
from .machine import Machine

ADDRESS = "0.0.0.0:4433"


@pytest.mark.parametrize("check", [False, True])
def test_info(machine: Machine, check: bool) -> None:
    result = machine.run("udpgrm_info", {}, check)
    assert result["changed"] is False
    assert (result["schema"], result["version"], result["daemon"]["pid"]) == (1, "1.0.0", 412)
    assert [g["address"] for g in result["groups"]] == [ADDRESS, "[2001:db8::1]:53"]


@pytest.mark.parametrize(
    "address, found",
    [
        (ADDRESS, [ADDRESS]),
        (["[2001:DB8:0::1]:53", "192.0.2.1:1"], ["[2001:db8::1]:53"]),
        ([], []),
    ],
)
def test_info_filter(machine: Machine, address: str | list[str], found: list[str]) -> None:
    result = machine.run("udpgrm_info", {"address": address})
    assert [g["address"] for g in result["groups"]] == found


def test_group_switches_once(machine: Machine) -> None:
    task = {"address": ADDRESS, "working_gen": "newest", "dissector": {"type": "flow"}}
    predicted = machine.run("udpgrm_group", task, check=True)
    done = machine.run("udpgrm_group", task)
    for result in predicted, done:
        assert result["changed"] is True
        assert (result["before"]["working_gen"], result["after"]["working_gen"]) == (1, 2)
        assert result["diff"] == {"before": result["before"], "after": result["after"]}
        assert result["started_at"] <= result["finished_at"]
    assert [call for call in machine.calls if not call.startswith("list")] == [
        f"working-gen {ADDRESS} newest --app 0 --check --json",
        f"working-gen {ADDRESS} newest --app 0 --json",
    ]
    assert machine.run("udpgrm_group", task)["changed"] is False


def test_group_absent(machine: Machine) -> None:
    task = {"address": ADDRESS, "state": "absent"}
    planned = [machine.run("udpgrm_group", task, check=True) for _repeat in range(2)]
    done = machine.run("udpgrm_group", task)
    for result in *planned, done:
        assert result["changed"] is True
        assert result["diff"]["before"]["state"] == "present"
        assert result["diff"]["before"]["working_gen"] == 1
        assert result["diff"]["after"] == {"state": "absent"}
    again = machine.run("udpgrm_group", task)
    assert again["changed"] is False
    assert again["diff"]["before"] == again["diff"]["after"] == {"state": "absent"}


@pytest.mark.parametrize(
    "task, message",
    [
        ({"working_gen": "latest"}, "not a generation: 'latest'"),
        ({"application": 4}, "value of application must be one of"),
        ({"state": "gone"}, "value of state must be one of"),
        ({"dissector": {"type": "magic"}}, "value of type must be one of"),
        ({"dissector": {"timeout": 1}}, "Unsupported parameters"),
        (
            {"state": "absent", "working_gen": "1"},
            "working_gen and dissector are not allowed with state=absent",
        ),
    ],
)
def test_group_refuses_before_anything_runs(
    machine: Machine, task: dict[str, t.Any], message: str
) -> None:
    result = machine.run("udpgrm_group", {"address": ADDRESS, **task})
    assert result["failed"] is True
    assert message in result["msg"]
    assert machine.calls == []


def test_group_knows_every_dissector(machine: Machine) -> None:
    wanted = {"type": "named", "name": "quic"}
    result = machine.run("udpgrm_group", {"address": ADDRESS, "dissector": wanted})
    assert (
        "name: expected 'quic', found 'flow'; type: expected 'named', found 'flow'" in result["msg"]
    )


@pytest.mark.parametrize(
    "module, arguments",
    [
        ("udpgrm_info", {"address": [ADDRESS, "nowhere"]}),
        ("udpgrm_group", {"address": "nowhere", "working_gen": "2"}),
        ("udpgrm_probe", {"address": "nowhere"}),
        ("udpgrm_drain", {"address": "nowhere", "generation": 2}),
    ],
)
def test_what_is_no_address(machine: Machine, module: str, arguments: dict[str, t.Any]) -> None:
    """Fail with the host's message, and ask the host nothing else."""
    result = machine.run(module, arguments)
    assert result["failed"] is True
    assert ": not an ADDRESS:PORT: 'nowhere' (as 192.0.2.1:443 or " in result["msg"]
    assert len(machine.calls) == 1


@pytest.mark.parametrize(
    "module, arguments",
    [
        ("udpgrm_info", {}),
        ("udpgrm_group", {"working_gen": "2"}),
        ("udpgrm_probe", {}),
        ("udpgrm_drain", {"generation": 2, "timeout": 0}),
    ],
)
def test_every_spelling_of_an_address(
    machine: Machine, module: str, arguments: dict[str, t.Any]
) -> None:
    """Take an IPv4-mapped IPv6 address for the IPv4 address."""
    for address in (ADDRESS, "[::ffff:0.0.0.0]:4433", "[::FFFF:0:0]:4433"):
        result = machine.run(module, {**arguments, "address": address}, check=True)
        assert not result.get("failed"), result
        # where a result names an address, it does so in the usual way
        assert result.get("address", ADDRESS) == ADDRESS
        assert [item["address"] for item in result.get("groups", [])] in ([], [ADDRESS])
        assert ("groups" in result) == (module == "udpgrm_info")


def test_group_failure_is_one_line(machine: Machine) -> None:
    result = machine.run("udpgrm_group", {"address": "192.0.2.1:1", "working_gen": "newest"})
    assert result["failed"] is True
    assert result["msg"].startswith("no group at 192.0.2.1:1: ")
    assert "\n" not in result["msg"]


@pytest.mark.parametrize(
    "module, arguments",
    [
        ("udpgrm_info", {}),
        ("udpgrm_group", {"address": ADDRESS}),
        ("udpgrm_probe", {"address": ADDRESS}),
        ("udpgrm_drain", {"service": "echo"}),
        ("udpgrm_restart", {"service": "echo"}),
        ("udpgrm_service", {"name": "echo", "definition": {}}),
        ("udpgrm_service_info", {}),
        ("udpgrm_hooks", {"cgroup": "/sys/fs/cgroup"}),
        ("udpgrm_dissector", {"name": "quic"}),
        ("udpgrm_instances", {"services": ["echo"], "state": "ended"}),
    ],
)
def test_without_the_command(machine: Machine, module: str, arguments: dict[str, t.Any]) -> None:
    (machine.path / "udpgrm").unlink()
    result = machine.run(module, arguments)
    assert (result["failed"], result["msg"]) == (
        True,
        "udpgrm is not installed on this host; the playbook udpgrm.fleet.site installs it",
    )
    assert machine.calls == []


def test_hooks(empty: Machine) -> None:
    task = {"cgroup": "/sys/fs/cgroup/edge.slice"}
    assert empty.run("udpgrm_hooks", {**task, "state": "absent"})["changed"] is False
    planned = empty.run("udpgrm_hooks", task, check=True)
    done = empty.run("udpgrm_hooks", task)
    assert planned["changed"] is done["changed"] is True
    states = [done["diff"][side]["state"] for side in ("before", "after")]
    assert states == ["absent", "present"]
    assert empty.run("udpgrm_hooks", task)["changed"] is False
    gone = {**task, "state": "absent"}
    for check in (True, True, False):
        result = empty.run("udpgrm_hooks", gone, check=check)
        assert result["changed"] is True
        assert [result["diff"][side]["state"] for side in ("before", "after")] == [
            "present",
            "absent",
        ]
    assert empty.run("udpgrm_hooks", gone)["changed"] is False


def test_probe(machine: Machine) -> None:
    task = {"address": ADDRESS, "count": 3, "generation": 1}
    for check in (False, True):
        result = machine.run("udpgrm_probe", task, check=check)
        assert (result["changed"], result["sent"], result["received"]) == (False, 3, 3)
    other = machine.run("udpgrm_probe", {"address": ADDRESS, "generation": 2})
    assert (other["failed"], other["msg"]) == (
        True,
        f"{ADDRESS}: generation 1 is active, not 2",
    )


def test_probe_that_did_not_arrive(tmp_path: pathlib.Path) -> None:
    machine = Machine(tmp_path, [group(ADDRESS, 1, [1], ifindex=3)])
    result = machine.run("udpgrm_probe", {"address": ADDRESS})
    assert result["failed"] is True
    assert "of 8 packets generation 1 received 0" in result["msg"]


def test_drain_samples_for_the_given_time(machine: Machine) -> None:
    task = {"address": ADDRESS, "generation": 2, "timeout": 4, "flows": 1}
    first = machine.run("udpgrm_drain", task)
    assert (first["drained"], first["flows"], first["changed"]) == (False, 2, False)
    assert machine.run("udpgrm_drain", task)["drained"] is True
    assert machine.calls[0] == f"drain {ADDRESS} 2 --app 0 --max 4 --flows 1 --json"


def test_drain_wants_one_of_two(machine: Machine) -> None:
    for task in ({}, {"service": "echo", "address": ADDRESS}, {"address": ADDRESS}):
        assert machine.run("udpgrm_drain", task)["failed"] is True
    assert machine.calls == []


def test_dissector_is_tried_before_it_is_chosen(empty: Machine) -> None:
    task = {"name": "quic", "parameters": {"cid_length": 8, "fixed_bit": True}}
    tried = empty.run("udpgrm_dissector", task)
    assert (tried["changed"], tried["loaded"]) == (False, True)
    chosen = {**task, "address": "192.0.2.1:443"}
    planned = empty.run("udpgrm_dissector", chosen, check=True)
    done = empty.run("udpgrm_dissector", chosen)
    for result in planned, done:
        assert result["changed"] is True
        assert result["before"] is None
        assert result["diff"]["before"] == {"dissector": None}
        assert result["diff"]["after"]["parameters"] == {"cid_length": "8", "fixed_bit": "true"}
        assert "the body of quic" in result["diff"]["after"]["source"]
    assert empty.run("udpgrm_dissector", chosen)["changed"] is False
    gone = {"address": "192.0.2.1:443", "state": "absent"}
    assert empty.run("udpgrm_dissector", gone)["changed"] is True
    assert empty.run("udpgrm_dissector", gone)["changed"] is False


def test_dissector_that_a_definition_has_set_can_be_unset(empty: Machine) -> None:
    assert empty.run("udpgrm_dissector", {"name": "bespoke", "address": "192.0.2.1:443"})["changed"]
    gone = empty.run("udpgrm_dissector", {"address": "192.0.2.1:443", "state": "absent"})
    assert (gone["changed"], gone["after"]) == (True, None)
    assert gone["diff"]["before"]["dissector"] == "bespoke"


def test_dissector_that_does_not_load_is_not_chosen(empty: Machine) -> None:
    result = empty.run("udpgrm_dissector", {"name": "broken", "address": ADDRESS})
    assert (result["failed"], result["loaded"]) == (True, False)
    assert result["msg"] == "dissector broken does not load: the verifier says no"
    assert [call.split()[1] for call in empty.calls] == ["check"]


def test_service_is_validated_and_replaced(empty: Machine) -> None:
    place = empty.path / "services.d" / "edge.yaml"
    task = {"name": "edge", "definition": {"groups": [{"address": ADDRESS}]}}
    planned = empty.run("udpgrm_service", task, check=True)
    assert not place.exists()
    done = empty.run("udpgrm_service", task)
    for result in planned, done:
        assert result["changed"] is True
        assert result["diff"]["before"] == ""
        assert ADDRESS in result["diff"]["after"]
    assert place.read_text() == done["diff"]["after"]
    assert (place.stat().st_mode & 0o777, done["path"]) == (0o644, str(place))
    assert empty.run("udpgrm_service", task)["changed"] is False
    gone = {"name": "edge", "state": "absent"}
    assert [empty.run("udpgrm_service", gone)["changed"] for _repeat in range(2)] == [True, False]
    assert not place.exists()


def test_services_are_defined_at_once(empty: Machine) -> None:
    place = empty.path / "services.d"
    task: dict[str, t.Any] = {"definitions": {"edge": {"x": 1}, "dns": {"x": 2}}}
    planned = empty.run("udpgrm_service", task, check=True)
    assert list(place.iterdir()) == []
    done = empty.run("udpgrm_service", task)
    paths = [str(place / "edge.yaml"), str(place / "dns.yaml")]
    for result in planned, done:
        assert (result["changed"], result["paths"]) == (True, paths)
        assert [part["after_header"] for part in result["diff"]] == paths
    task["definitions"]["dns"] = {"x": 3}
    assert empty.run("udpgrm_service", task)["paths"] == paths[1:]
    again = empty.run("udpgrm_service", task)
    assert (again["changed"], again["paths"]) == (False, [])
    task["definitions"]["edge"] = {"x": "bad"}
    result = empty.run("udpgrm_service", task)
    assert result["msg"] == "the definition is not valid: edge.yaml: groups.0: is bad"
    for key, value in (("state", "absent"), ("name", "edge"), ("definition", {})):
        assert empty.run("udpgrm_service", {**task, key: value})["failed"]
    assert empty.run("udpgrm_service", {"name": "edge"})["failed"]


def test_service_is_readable_whatever_the_umask(empty: Machine) -> None:
    place = empty.path / "services.d" / "edge.yaml"
    task = {"name": "edge", "definition": {"groups": [{"address": ADDRESS}]}}
    empty.run("udpgrm_service", task)
    place.chmod(0o600)
    planned = empty.run("udpgrm_service", task, check=True)
    assert (planned["changed"], place.stat().st_mode & 0o777) == (True, 0o600)
    assert planned["diff"]["before"].startswith("# mode: 0600\n")
    assert empty.run("udpgrm_service", task)["changed"] is True
    assert place.stat().st_mode & 0o777 == 0o644
    assert empty.run("udpgrm_service", task)["changed"] is False


@pytest.mark.parametrize("check", [False, True])
def test_service_that_is_wrong_replaces_nothing(empty: Machine, check: bool) -> None:
    there = empty.path / "services.d"
    (there / "edge.yaml").write_text("good\n")
    (there / "other.yaml").write_text("port\n")
    (there / "broken.yaml").write_text("bad\n")
    for definition, reason in (
        ({"x": "bad"}, "edge.yaml: groups.0: is bad"),
        # the problem is the other file's, and this one made it
        ({"x": "port"}, "other.yaml: groups.0.address: is another's already"),
    ):
        task = {"name": "edge", "definition": definition}
        result = empty.run("udpgrm_service", task, check=check)
        assert (result["failed"], result["msg"]) == (
            True,
            f"the definition is not valid: {reason}",
        )
    assert (there / "edge.yaml").read_text() == "good\n"
    assert sorted(path.name for path in there.iterdir()) == [
        "broken.yaml",
        "edge.yaml",
        "other.yaml",
    ]


def test_service_that_goes_where_the_command_is_gone(empty: Machine) -> None:
    (empty.path / "services.d" / "edge.yaml").write_text("good\n")
    (empty.path / "udpgrm").unlink()
    assert empty.run("udpgrm_service", {"name": "edge", "state": "absent"})["changed"] is True
    assert not (empty.path / "services.d" / "edge.yaml").exists()


def test_service_beside_a_broken_one(empty: Machine) -> None:
    (empty.path / "services.d" / "broken.yaml").write_text("bad\n")
    assert empty.run("udpgrm_service", {"name": "edge", "definition": {"x": 1}})["changed"] is True


def test_service_beside_what_is_no_file(empty: Machine) -> None:
    there = empty.path / "services.d"
    (there / "directory.yaml").mkdir()
    (there / "dangling.yaml").symlink_to("nowhere")
    assert empty.run("udpgrm_service", {"name": "edge", "definition": {"x": 1}})["changed"] is True


@pytest.mark.parametrize(
    "module, arguments",
    [
        ("udpgrm_service", {"definition": {}}),
        ("udpgrm_service_info", {}),
        ("udpgrm_restart", {}),
        ("udpgrm_drain", {}),
    ],
)
@pytest.mark.parametrize("name", ["../edge", "--help", "Edge", "e" * 65, ""])
def test_service_names(empty: Machine, module: str, arguments: dict[str, t.Any], name: str) -> None:
    key = "name" if module == "udpgrm_service" else "service"
    result = empty.run(module, {key: name, **arguments})
    assert "not a name of a service" in result["msg"]
    assert empty.calls == []


def test_service_info(machine: Machine) -> None:
    result = machine.run("udpgrm_service_info", {"service": "echo"})
    [found] = result["services"]
    assert (result["changed"], found["name"], found["release"]) == (False, "echo", None)
    assert found["measured"]["flows"] == {"1": 3}
    missing = machine.run("udpgrm_service_info", {"service": "none"})
    assert (missing["failed"], missing["msg"]) == (
        True,
        "udpgrm status: no service 'none' in /etc/udpgrm/services.d",
    )
