# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""Template units made of packages' units: what they take over, change and refuse."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from tests.unit.services.support import text
from udpgrm.services import loader, unit_directives, unit_files, unit_from
from udpgrm.services.unit_files import UnitError
from udpgrm.services.unit_from import Unit

#: Like units that Debian has: of a server with a user, directories of its own, a sandbox.
NAMES = """\
[Unit]
Description=Names for 100%% of clients
After=network-online.target
[Service]
Type=notify
EnvironmentFile=-/etc/default/names
User=names
CapabilityBoundingSet=CAP_NET_BIND_SERVICE
CapabilityBoundingSet=~CAP_KILL
ExecStartPre=/usr/sbin/names --check
ExecStart=/usr/sbin/names -c /etc/names.conf
ExecReload=/bin/kill -HUP $MAINPID
LimitNOFILE=1048576
RuntimeDirectory=names
StateDirectory=names
LogsDirectory=names
ProtectSystem=strict
SystemCallFilter=~@mount @debug
[Install]
WantedBy=multi-user.target
"""
FORKING = """\
[Service]
Type=forking
PIDFile=/run/calls/pid/calls.pid
ExecStart=/usr/sbin/calls -P /run/calls/pid/calls.pid
RuntimeDirectory=calls
RuntimeDirectoryMode=0750
"""


def made(tmp_path: Path, unit: str = "", name: str = "srv.service", **changes: Any) -> Unit:
    (tmp_path / unit_files._template(name)).write_text(unit)
    content = text(**{"unit_from": name, **changes})
    service, problems = loader.parse("edge", content)
    assert service is not None, problems
    return unit_from.make(service, [tmp_path])


def lines(unit: Unit, *keys: str) -> list[str]:
    return [line for line in unit.text.split("\n") if line.partition("=")[0] in keys]


def test_what_is_taken_over(tmp_path: Path) -> None:
    unit = made(tmp_path, NAMES)
    assert unit.path == Path("/etc/systemd/system/edge@.service")
    body = unit.text[unit.text.index("[Unit]") :]
    assert (
        body
        == """\
[Unit]
Description=Names for 100%% of clients (udpgrm: edge, generation %i)
After=network-online.target
Wants=udpgrm.service
After=udpgrm.service

[Service]
Type=notify
EnvironmentFile=-/etc/default/names
User=names
CapabilityBoundingSet=CAP_NET_BIND_SERVICE
CapabilityBoundingSet=~CAP_KILL
ExecStartPre=/usr/sbin/names --check
ExecStart=/usr/sbin/names -c /etc/names.conf
ExecReload=/bin/kill -HUP $MAINPID
LimitNOFILE=1048576
RuntimeDirectory=edge-%i-names
StateDirectory=edge-%i-names
LogsDirectory=names
ProtectSystem=strict
SystemCallFilter=~@mount @debug
Slice=udpgrm.slice
BindPaths=/run/edge-%i-names:/run/names
BindPaths=/var/lib/edge-%i-names:/var/lib/names
"""
    )


def test_every_change_is_reported(tmp_path: Path) -> None:
    unit = made(tmp_path, NAMES)
    changes = [(one.directive, one.before, one.after) for one in unit.changes]
    assert changes == [
        ("RuntimeDirectory", "names", "edge-%i-names"),
        ("StateDirectory", "names", "edge-%i-names"),
        ("WantedBy", "multi-user.target", ""),
        ("BindPaths", "", "/run/edge-%i-names:/run/names"),
        ("BindPaths", "", "/var/lib/edge-%i-names:/var/lib/names"),
    ]
    assert unit.changes[0].where == f"{tmp_path}/srv.service:14"
    assert "begins empty" in unit.changes[1].reason
    for change in unit.changes:
        assert f"# {change.directive}={change.after}" in unit.text


def test_a_state_directory_that_instances_share(tmp_path: Path) -> None:
    unit = made(tmp_path, NAMES, instance_shares=["state"])
    assert lines(unit, "StateDirectory", "BindPaths") == [
        "StateDirectory=names",
        "BindPaths=/run/edge-%i-names:/run/names",
    ]


def test_a_pid_file_below_a_runtime_directory(tmp_path: Path) -> None:
    unit = made(tmp_path, FORKING)
    assert lines(unit, "PIDFile", "RuntimeDirectory", "RuntimeDirectoryMode", "BindPaths") == [
        "RuntimeDirectory=edge-%i-calls",
        "RuntimeDirectoryMode=0750",
        "PIDFile=/run/edge-%i-calls/pid/calls.pid",
        "BindPaths=/run/edge-%i-calls:/run/calls",
    ]
    assert "-P /run/calls/pid/calls.pid" in unit.text  # as the instance sees it


@pytest.mark.parametrize(
    "pid", ["/run/vpn/a.pid", "vpn/a.pid", "%t/vpn/a.pid", "/var/run/vpn/a.pid"]
)
def test_a_pid_file_in_a_directory_of_its_own(tmp_path: Path, pid: str) -> None:
    unit = made(tmp_path, f"[Service]\nExecStart=/bin/a\nPIDFile={pid}\n")
    assert lines(unit, "PIDFile", "RuntimeDirectory", "BindPaths") == [
        "RuntimeDirectory=edge-%i-vpn",
        "PIDFile=/run/edge-%i-vpn/a.pid",
        "BindPaths=/run/edge-%i-vpn:/run/vpn",
    ]


@pytest.mark.parametrize("pid", ["/run/a.pid", "a.pid", "/tmp/x/a.pid", "/run/x/../a.pid"])
def test_a_pid_file_where_everybody_has_one(tmp_path: Path, pid: str) -> None:
    with pytest.raises(UnitError, match=r"srv.service:3: PIDFile=.*unit_settings"):
        made(tmp_path, f"[Service]\nExecStart=/bin/a\nPIDFile={pid}\n")


def test_a_directory_that_a_drop_in_takes_back(tmp_path: Path) -> None:
    unit = made(
        tmp_path,
        "[Service]\nExecStart=/bin/a\nRuntimeDirectory=a b\nRuntimeDirectory=\n"
        "RuntimeDirectory=c/d\n",
    )
    assert lines(unit, "RuntimeDirectory", "BindPaths") == [
        "RuntimeDirectory=edge-%i-a edge-%i-b",
        "RuntimeDirectory=",
        "RuntimeDirectory=edge-%i-c-d",
        "BindPaths=/run/edge-%i-c-d:/run/c/d",
    ]


def test_an_instance_of_a_template(tmp_path: Path) -> None:
    unit = made(
        tmp_path,
        "[Unit]\nDescription=VPN %I\n[Service]\n"
        "ExecStart=/bin/vpn --config %i.conf --name %n %p %% %H\n",
        name="vpn@office.service",
    )
    assert lines(unit, "ExecStart", "Description") == [
        "Description=VPN office (udpgrm: edge, generation %i)",
        "ExecStart=/bin/vpn --config office.conf --name vpn@office.service vpn %% %H",
    ]
    assert ("ExecStart", "written out: it named vpn@office.service") in [
        (one.directive, one.reason) for one in unit.changes
    ]


def test_an_escaped_instance(tmp_path: Path) -> None:
    name = "db@15-main\\x2da.service"
    unit = made(tmp_path, "[Service]\nExecStart=/bin/db %I %I\n", name=name)
    assert lines(unit, "ExecStart") == ["ExecStart=/bin/db 15/main-a 15/main-a"]
    # systemd would read the backslash of a command as an escape
    for line in ("%i", "%n"):
        with pytest.raises(UnitError, match=f"{line} of db.* which would have to be quoted"):
            made(tmp_path, f"[Service]\nExecStart=/bin/db {line}\n", name=name)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("Frobnicate=yes", "Frobnicate= is a directive that udpgrm does not know"),
        ("Type=oneshot", "Type=oneshot: instances are one of simple"),
        ("Type=dbus", "Type=dbus"),
        ("BusName=org.a", "one process at a time"),
        ("DynamicUser=yes", "set User="),
        ("RemainAfterExit=true", "would not see"),
        ("Sockets=a.socket", "the same sockets"),
        ("PrivateNetwork=1", "no address that clients reach"),
        ("RootDirectory=/srv", "another root's"),
        ("RuntimeDirectory=a:b", "a:b is no plain path"),
        ("StateDirectory=%N/x", ""),
        ("ExecStart=/bin/a %y", "udpgrm does not know %y"),
        ("ExecStart=/bin/a 100%", "udpgrm does not know %"),
        ("[Socket]\nListenStream=1", "[Socket] is a section that udpgrm does not know"),
        ("[Unit]\nSourcePath=/etc/init.d/a", "made of an init script"),
        ("[Unit]\nRequires=a.mount a.socket", "gives its sockets to the package's unit alone"),
    ],
)
def test_what_is_refused_has_its_line(tmp_path: Path, line: str, reason: str) -> None:
    unit = f"[Service]\nExecStart=/bin/a\n{line}\n"
    if not reason:
        assert lines(made(tmp_path, unit), "StateDirectory") == ["StateDirectory=edge-%i-srv-x"]
        return
    with pytest.raises(UnitError) as error:
        made(tmp_path, unit)
    number = 3 + line.count("\n")
    assert f"{tmp_path}/srv.service:{number}: " in str(error.value)
    assert reason in str(error.value)


def test_what_is_switched_off_is_no_reason(tmp_path: Path) -> None:
    unit = made(tmp_path, "[Service]\nExecStart=/bin/a\nDynamicUser=no\nStandardInput=null\n")
    assert lines(unit, "DynamicUser", "StandardInput") == []


def test_settings_replace_those_of_the_package(tmp_path: Path) -> None:
    unit = made(
        tmp_path,
        NAMES,
        unit_settings={
            "ExecStart": "/usr/sbin/names -x",
            "Environment": ["A=1", "B=2"],
            "RuntimeDirectory": "names other",
            "ExecReload": "",
        },
    )
    assert lines(unit, "ExecStart", "Environment", "RuntimeDirectory", "ExecReload") == [
        "Environment=A=1",
        "Environment=B=2",
        "ExecReload=",
        "ExecStart=/usr/sbin/names -x",
        "RuntimeDirectory=edge-%i-names edge-%i-other",
    ]
    with pytest.raises(UnitError, match=r"^unit_settings.Bogus: Bogus= is a directive"):
        made(tmp_path, NAMES, unit_settings={"Bogus": "1"})


def test_specifiers_of_settings_are_those_of_the_instance(tmp_path: Path) -> None:
    settings = {"ExecStart": "/bin/vpn tun-%i %p %n 100%%"}
    unit = made(
        tmp_path,
        "[Service]\nExecStart=/bin/vpn %i\nEnvironment=A=%i\n",
        name="vpn@office.service",
        unit_settings=settings,
    )
    assert lines(unit, "ExecStart", "Environment") == [
        "Environment=A=office",
        "ExecStart=/bin/vpn tun-%i %p %n 100%%",
    ]


def test_settings_alone(tmp_path: Path) -> None:
    """Make a unit without unit_from, for servers whose package has an init script, or no unit."""
    unit = made(tmp_path, unit_from=None, unit_settings={"ExecStart": "/bin/a", "User": "a"})
    assert "# Made by `udpgrm service unit edge` of its definition: do not" in unit.text
    assert lines(unit, "Description", "ExecStart", "User", "Slice") == [
        "Description=edge (udpgrm: edge, generation %i)",
        "ExecStart=/bin/a",
        "User=a",
        "Slice=udpgrm.slice",
    ]
    with pytest.raises(UnitError, match=r"edge: has no ExecStart=: set it in unit_settings"):
        made(tmp_path, unit_from=None, unit_settings={"User": "a"})


def test_the_init_script_of_a_package(tmp_path: Path) -> None:
    generated = "[Unit]\nSourcePath=/etc/init.d/a\n[Service]\nRemainAfterExit=yes\nExecStart=/x\n"
    unit = made(tmp_path, generated, unit_settings={"ExecStart": "/bin/a", "RemainAfterExit": "no"})
    assert lines(unit, "ExecStart", "RemainAfterExit", "SourcePath") == ["ExecStart=/bin/a"]


def test_files_of_instances(tmp_path: Path) -> None:
    unit = made(
        tmp_path,
        "[Service]\nExecStartPre=/bin/first\nExecStartPre=\nExecStart=/bin/a\n"
        "ExecStopPost=/bin/last\nSlice=other.slice\n",
        instance_files={"/etc/a/b.conf": "x", "/etc/c": "y"},
    )
    # a reset would have deleted the command that renders
    assert lines(unit, "ExecStartPre", "ExecStopPost", "BindReadOnlyPaths", "Slice") == [
        "ExecStartPre=+/usr/bin/udpgrm service render edge %i",
        "ExecStopPost=/bin/last",
        "Slice=udpgrm.slice",
        "ExecStopPost=+/usr/bin/rm -rf -- /run/udpgrm/instances/edge-%i",
        "BindReadOnlyPaths=-/run/udpgrm/instances/edge-%i/etc/a/b.conf:/etc/a/b.conf",
        "BindReadOnlyPaths=-/run/udpgrm/instances/edge-%i/etc/c:/etc/c",
    ]
    assert ("Slice", "other.slice") in [(one.directive, one.before) for one in unit.changes]


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"instance_files": {"/etc/a": "x"}}, "instance_files"),
        ({"instance_shares": ["state"]}, "instance_shares"),
        ({"unit_from": "a.service", "instances": {"decoy": "edge.service"}}, "unit_from"),
        ({"unit_from": "a@.service"}, "unit_from"),
        ({"unit_from": "a.socket"}, "unit_from"),
        ({"unit_settings": {"User": "a\nb"}}, "unit_settings.User"),
        ({"unit_settings": {"User": "a\\"}}, "unit_settings.User"),
        ({"unit_settings": {"Environment": ["A=1", "B=\n2"]}}, "unit_settings.Environment.1"),
        ({"unit_settings": {"User=": "a"}}, "unit_settings"),
        ({"unit_from": "a.service", "instance_files": {"/etc/../a": "x"}}, "instance_files"),
        ({"unit_from": "a.service", "instance_files": {"etc/a": "x"}}, "instance_files"),
        ({"unit_from": "a.service", "instance_files": {"/etc/a:b": "x"}}, "instance_files"),
        ({"unit_from": "a.service", "instance_shares": ["runtime"]}, "instance_shares.0"),
    ],
)
def test_mistakes_in_a_definition(changes: dict[str, Any], key: str) -> None:
    service, problems = loader.parse("edge", text(**changes))
    assert service is None
    assert [found for found, _ in problems] == [key]


def test_no_directive_is_in_two_tables() -> None:
    for section, kept in unit_directives.KEPT.items():
        changed = unit_directives.CHANGED.get(section, frozenset())
        refused = unit_directives.REFUSED.get(section, {}).keys()
        assert not kept & changed and not kept & refused and not changed & refused


_STOPS = "names neither $MAINPID nor a directory of the instance"


@pytest.mark.parametrize(
    "stop", ["/bin/kill -QUIT $MAINPID", "/bin/ask ${MAINPID}", "/usr/bin/ctl -s /run/srv/ctl stop"]
)
def test_a_stop_that_reaches_its_own_instance(tmp_path: Path, stop: str) -> None:
    unit = f"[Service]\nExecStart=/bin/a\nExecStop={stop}\nRuntimeDirectory=srv\n"
    assert lines(made(tmp_path, unit), "ExecStop") == [f"ExecStop={stop}"]


def test_a_stop_that_may_reach_another_instance(tmp_path: Path) -> None:
    """Refuse an ExecStop= that asks at a port which both instances share, as rndc does."""
    unit = "[Service]\nExecStart=/bin/a\nExecStop=/bin/rndc stop\n"
    with pytest.raises(UnitError, match=re.escape(_STOPS)) as error:
        made(tmp_path, unit)
    assert f"{tmp_path}/srv.service:3: " in str(error.value)
    for own in ("", "/bin/rndc -p 95%i stop"):  # as the operator says
        found = made(tmp_path, unit, unit_settings={"ExecStop": own})
        assert lines(found, "ExecStop") == [f"ExecStop={own}"]
    reset = f"{unit}ExecStop=\nExecStop=-/bin/kill $MAINPID\n"
    assert lines(made(tmp_path, reset), "ExecStop")[1:] == [
        "ExecStop=",
        "ExecStop=-/bin/kill $MAINPID",
    ]
