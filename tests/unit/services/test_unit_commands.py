# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""Find commands of units that may harm another instance, in packages' units and adopted ones."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Optional

import pytest

from tests.unit.services.test_unit_from import lines, made
from udpgrm.restart import migration, systemd
from udpgrm.restart.plan import Refused
from udpgrm.services import unit_commands
from udpgrm.services.unit_files import UnitError

OWN = ["/run/srv"]
COMMANDS = [
    ("-/usr/bin/killall srv", "ends processes by name (killall srv), so it may stop another"),
    ("/bin/sh -c 'pkill -x srv; true'", "ends processes by name (pkill -x srv), so"),
    ("/usr/bin/pkill -F /run/srv/pid", None),
    ("/bin/kill $MAINPID", None),
    ("-/bin/rm -f /run/srv.pid", "removes /run/srv.pid, which another instance may need"),
    ("+rm -f '/run/srv/pid' /run/other", "removes /run/other, which"),
    ("/bin/sh -c 'cd /; rm -f %t/srv.sock'", "removes /run/srv.sock, which"),
    ("/bin/rm -rf /run/srv /run/srv/socket %t/srv/pid", None),
    ("/bin/rm -f ${RUNTIME_DIRECTORY}/pid", None),
    ("/usr/bin/podman run --rm image /srv", None),
    ("/usr/sbin/form /run/other", None),
    (
        "/sbin/iptables -t nat -F",
        "changes the host's network (iptables -t nat -F), which another instance needs",
    ),
    ("/usr/sbin/nft flush ruleset", "changes the host's network (nft flush ruleset), which"),
    ("/sbin/ip link del tun0", "changes the host's network (ip link del tun0), which"),
    ("/sbin/iptables -A INPUT -p udp -j ACCEPT", None),
    ("/sbin/ip link set tun0 up", None),
]


@pytest.mark.parametrize(("command", "expected"), COMMANDS)
def test_the_harm_of_a_command(command: str, expected: Optional[str]) -> None:
    found = unit_commands.harm("ExecStopPost", command, OWN)
    assert (found is None) == (expected is None), found
    assert found is None or expected is None or found.startswith(expected)


@pytest.mark.parametrize("key", ["ExecStartPre", "ExecStartPost", "ExecStop", "ExecStopPost"])
def test_a_packages_command_that_may_harm_another_instance(tmp_path: Path, key: str) -> None:
    """Refuse it with file and line; accept what the operator sets, and what a reset deletes."""
    command = "/bin/sh -c 'rm -f /run/srv.pid; kill $MAINPID'"
    unit = f"[Service]\nExecStart=/bin/a\n{key}={command}\n"
    expected = f"{tmp_path}/srv.service:3: {key}={command}: removes /run/srv.pid, which another"
    with pytest.raises(UnitError, match=re.escape(expected)):
        made(tmp_path, unit)
    assert lines(made(tmp_path, unit, unit_settings={key: command}), key) == [f"{key}={command}"]
    made(tmp_path, f"{unit}{key}=\n")


def test_a_command_that_removes_a_file_of_its_instance(tmp_path: Path) -> None:
    unit = (
        "[Service]\nExecStart=/bin/a\nRuntimeDirectory=srv\nExecStartPre=/bin/rm -f /run/srv/pid\n"
        "ExecStopPost=/bin/rm -rf /run/other\nPIDFile=/run/other/pid\n"
    )
    made(tmp_path, unit)


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        ("/bin/rm -f /run/srv.sock", "removes /run/srv.sock, which another instance may need"),
        ("/bin/sh -c true ; killall srv", "ends processes by name (killall srv), so it may stop"),
        ("/bin/rm -f /run/srv/sock /run/pids/pid", None),
    ],
)
def test_what_an_adopted_unit_runs_once_it_has_stopped(
    monkeypatch: pytest.MonkeyPatch, command: str, reason: Optional[str]
) -> None:
    """Refuse to adopt a unit whose last command would reach the instance that has replaced it."""
    properties = {
        "ExecStopPost": f"{{ path=/bin/x ; argv[]={command} ; ignore_errors=no ; pid=0 }}",
        "RuntimeDirectory": "srv",
        "PIDFile": "/run/pids/pid",
    }
    monkeypatch.setattr(systemd, "property_of", lambda _, name: properties.get(name, ""))
    if reason is None:
        migration.refuse_stop("srv.service")
        return
    with pytest.raises(Refused) as caught:
        migration.refuse_stop("srv.service")
    assert str(caught.value).startswith(f"srv.service: ExecStopPost={command} {reason}")
    assert "set ExecStopPost= in a drop-in (systemctl edit srv.service)" in str(caught.value)
