# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""The Debian package on a host without udpgrm: each test begins where the last one ended."""

from __future__ import annotations

import os
import re
import subprocess
import time
from pathlib import Path

import pytest

from testbed import steady
from testing.processes import ROOT
from tests.packages.conftest import Machine, repacked

TUTORIAL = (ROOT / "docs/tutorial.md").read_text()
README = (ROOT / "README.md").read_text()
EXAMPLE = Path("/usr/share/doc/udpgrm/examples/echo_server.py")
ECHO = """
cat > /etc/systemd/system/echo@.service <<'END'
[Service]
Type=notify
Slice=udpgrm.slice
ExecStart=/usr/bin/python3 /opt/echo_server.py \
  --generation %i --address 0.0.0.0:4433 --sockets 2 --flow-timeout 3
END
cat > /etc/udpgrm/services.d/echo.yaml <<'END'
groups: [{address: "0.0.0.0:4433", sockets: 2}]
instances: {unit: "echo@.service"}
drain: {until: {flows: 0}, max_s: 60, on_timeout: stop}
END
systemctl daemon-reload
"""

#: Makes a flow, so that there is something to drain.
CLIENT = """
import socket
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
    sock.settimeout(10)
    sock.sendto(b"hello", ("127.0.0.1", 4433))
    assert sock.recv(100).endswith(b"hello")
"""


def blocks() -> list[tuple[str, bool]]:
    """Return the tutorial's commands, and whether they belong into a second terminal."""
    parts = re.split(r"```sh\n(.*?)```", TUTORIAL, flags=re.DOTALL)
    return [
        (code, "second terminal" in before.rstrip().rpartition("\n\n")[2])
        for before, code in zip(parts[::2], parts[1::2])
    ]


def await_status(machine: Machine, service: str, pattern: str) -> None:
    """Wait until the status of a service has a text."""
    deadline = time.monotonic() + 60
    while not re.search(pattern, output := machine.run(f"udpgrm status {service}").stdout):
        assert time.monotonic() < deadline, output
        time.sleep(0.2)


def test_tutorial(machine: Machine) -> None:
    began = time.monotonic()
    client = None
    output = ""
    terminal = ""
    for code, is_second in blocks():
        if is_second:
            client = machine.started(code)
            await_status(machine, "turn", r"[1-9]\d* flows")
            continue
        # hosts reach no registry
        code = code.replace("apt-get update\n", "").replace("./udpgrm", "/root/udpgrm")
        # a terminal keeps its variables
        variables = re.findall(r"^address=.*$", code, re.MULTILINE)
        output = machine.run(terminal + code).stdout
        terminal += "".join(f"{line}\n" for line in variables)
    assert output.splitlines()[-1] == "active"
    assert client is not None
    report, _ = client.communicate(timeout=120)
    assert "Total lost packets 0 (0.000000%)" in report
    assert machine.run("systemctl is-active coturn || true").stdout.strip() == "inactive"
    assert time.monotonic() - began < 600


def test_what_one_reads(machine: Machine) -> None:
    listed = machine.run("dpkg -L udpgrm").stdout.splitlines()
    for name in (
        *("/usr/share/man/man8/udpgrm-restart.8.gz", "/usr/share/man/man8/mmdecoy.8.gz"),
        "/usr/include/udpgrm.h",
        "/usr/share/bash-completion/completions/udpgrm",
        "/usr/share/zsh/vendor-completions/_udpgrm",
        "/usr/share/fish/vendor_completions.d/udpgrm.fish",
        "/usr/share/doc/udpgrm/docs/tutorial.md",
        "/usr/share/doc/udpgrm/bpf/dissectors/quic/README.md",
        "/usr/share/doc/udpgrm/examples/udpgrm.conf",
    ):
        assert name in listed
    assert not machine.run("ls /var/cache/udpgrm").stdout, "a template was compiled"


def test_boot(machine: Machine) -> None:
    machine.run("systemctl stop 'turn@*' && udpgrm delete 10.77.0.3:3478")
    machine.run("systemctl restart udpgrm-first@turn && systemctl is-active turn@1")


def test_readme(machine: Machine) -> None:
    section = README.split("## A host\n")[1].split("\n## ")[0]
    [files] = re.findall(r"```ini\n(.*?)```", section, re.DOTALL)
    for path, text in re.findall(r"^# (/\S+)\n((?:(?!# ).*\n)+)", files, re.MULTILINE):
        machine.run(f"cat > {path} <<'END'\n{text}END")
    if machine.run(f"test -e {EXAMPLE}", check=False).returncode:  # hosts have no documentation
        machine.run(f"mkdir -p {EXAMPLE.parent}")
        machine.copy(ROOT / "examples/echo_server.py", to=str(EXAMPLE.parent))
    commands = [line.split(" # ")[0].strip() for line in re.findall(r"^    (.+)", section, re.M)]
    restart = commands.index("udpgrm restart edge")
    assert commands[restart + 1] == "udpgrm rollback edge"
    machine.run("\n".join(commands[: restart + 1]))
    machine.run(f"python3 -c '{CLIENT}'")
    machine.run(f"{commands[restart]} --no-follow")
    await_status(machine, "edge", "drain")
    machine.run(commands[restart + 1])
    await_status(machine, "edge", "rolled back")
    assert "working  edge@2.service" in machine.run("\n".join(commands[restart + 2 :])).stdout
    machine.run("systemctl disable --now udpgrm-first@edge && systemctl stop 'edge@*'")
    machine.run("udpgrm delete 0.0.0.0:4433 || true")  # unless the daemon has done so
    machine.run(f"rm -r {EXAMPLE.parents[1]}")


def test_upgrade_under_traffic(machine: Machine, package: Path, tmp_path: Path) -> None:
    machine.copy(ROOT / "examples/echo_server.py", to="/opt")
    machine.run(ECHO + "systemctl enable --now udpgrm-first@echo")
    new = repacked(package, tmp_path, "99.0")
    machine.copy(new, to="/root")
    with steady.traffic({"fl1": machine.address}, 4433) as seen:
        # the restart drains while its files are replaced
        machine.run("udpgrm restart echo --no-follow")
        await_status(machine, "echo", "drain")
        machine.run(f"apt-get install -y /root/{new.name}")
        assert 'version="99.0"' in machine.run("udpgrm metrics").stdout
        await_status(machine, "echo", "finished")
        machine.run("udpgrm restart echo")
    host = seen["fl1"]
    assert host.is_well, host
    assert host.generations == {1, 2, 3}


def test_removal(machine: Machine) -> None:
    refused = machine.run("apt-get remove -y udpgrm", check=False)
    assert refused.returncode != 0
    # dpkg has a terminal
    assert "0.0.0.0:4433" in refused.stdout
    assert machine.run("systemctl is-active udpgrm echo@3").stdout.split() == ["active"] * 2
    machine.run("systemctl disable udpgrm-first@echo && systemctl stop 'echo@*'")
    machine.run("udpgrm service stop turn --lose-flows && apt-get purge -y udpgrm")


@pytest.mark.parametrize(
    "command",
    [
        "find / /sys/fs/bpf /run -xdev -name '*udpgrm*' -not -path '/proc/*' -not -path '/root/*'",
        "systemctl list-units --all --plain --no-legend '*udpgrm*'",
        "systemctl list-units --failed --plain --no-legend",
    ],
)
def test_nothing_is_left(machine: Machine, command: str) -> None:
    assert machine.run(command).stdout == ""


def test_the_same_sources_give_the_same_bytes(package: Path, tmp_path: Path) -> None:
    """Build them in a checkout that is older than its commit."""
    checkout = tmp_path / "checkout"
    checkout.mkdir()
    for entry in ROOT.iterdir():
        if entry.name not in ("build", ".venv"):
            subprocess.run(["cp", "-a", str(entry), str(checkout)], check=True)
    for path in checkout.rglob("*"):
        os.utime(path, (0, 0), follow_symlinks=False)
    subprocess.run([str(checkout / "tools/build_deb"), str(tmp_path)], check=True)
    assert (tmp_path / package.name).read_bytes() == package.read_bytes()
