# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors

"""Gates, windows, domains, approval and the brake: what keeps a batch from beginning."""

from __future__ import annotations

import contextlib
import datetime
import http.server
import json
import os
import pathlib
import subprocess
import tarfile
import threading
import time
import typing as t

from ..fake_services import FOREVER
from ..playbook import LIMIT_S, PLAYBOOKS, Ansible, both_versions, versions_in_turn
from .fleet import Fleet


def result(fleet: Fleet, ansible: Ansible) -> dict[str, t.Any]:
    """Return the result for machines."""
    found: dict[str, t.Any] = json.loads((ansible.directory / "report.json").read_text())
    return found


@both_versions
def test_a_shut_gate_stops_and_expedite_skips_it(ansible: Ansible) -> None:
    fleet = Fleet(ansible, [{}, {}])
    gate = {"name": "ready", "command": ["test", "-e", str(ansible.directory / "ready")]}
    status, output = fleet.run(udpgrm_gates=[gate])
    assert (status, fleet.working) == (2, [1, 1]), output
    assert "stopped: gate ready: exit status 1" in output
    assert result(fleet, ansible)["state"] == "stopped"
    status, output = fleet.run(udpgrm_gates=json.dumps([gate]), udpgrm_expedite="true")
    assert (status, fleet.working) == (0, [2, 2]), output
    note = "gates are skipped (udpgrm_expedite): ready"
    assert note in output
    assert note in fleet.report
    assert result(fleet, ansible)["notes"] == [note]


@versions_in_turn("canary", ["", "fl1"])
def test_a_gate_that_shuts_during_a_bake(ansible: Ansible, canary: str) -> None:
    """Roll back without waiting for the gate to open."""
    fleet = Fleet(ansible, [{"polls": FOREVER}, {}])
    services = fleet.hosts["fl1"].path / "services.json"
    gate = {"name": "old", "command": ["grep", "-q", '"working": 1', str(services)]}
    status, output = fleet.run(
        udpgrm_gates=[gate], udpgrm_bake=1, udpgrm_on_stop="rollback", udpgrm_canary=canary
    )
    assert (status, fleet.working) == (2, [1, 1]), output
    assert "stopped: gate old: exit status 1" in output
    assert "echo: 1 rolled back, 1 untouched" in output


def test_a_gate_that_shuts_during_the_last_bake(ansible: Ansible) -> None:
    fleet = Fleet(ansible, [{}])
    services = fleet.hosts["fl1"].path / "services.json"
    gate = {"name": "old", "command": ["grep", "-q", '"working": 1', str(services)]}
    status, output = fleet.run(udpgrm_gates=[gate])
    assert (status, fleet.working) == (2, [2]), output
    assert "all hosts were reached before the run was stopped: gate old: exit status 1" in output


def lines(run: subprocess.Popen[str], what: str) -> str:
    """Read until a line has a text, and return the output so far."""
    assert run.stdout is not None
    output = ""
    for line in run.stdout:
        output += line
        if what in line:
            return output
    raise AssertionError(output)


def start(ansible: Ansible, fleet: Fleet, **variables: t.Any) -> subprocess.Popen[str]:
    playbook = PLAYBOOKS / "rolling_restart.yml"
    return ansible.start(playbook, fleet.hosts, **fleet.given(**variables))


def test_the_brake_pauses_and_stops(ansible: Ansible) -> None:
    fleet = Fleet(ansible, [{}, {}])
    brake = ansible.directory / "brake"
    brake.touch()
    run = start(ansible, fleet, udpgrm_brake="brake", udpgrm_on_stop_tasks="")
    lines(run, f"waits: {brake} says pause; delete it to continue")
    assert fleet.working == [1, 1]
    brake.write_text("stop\n")
    output, _none = run.communicate(timeout=LIMIT_S)
    assert (run.returncode, fleet.working) == (2, [1, 1]), output
    assert f"stopped: {brake} says stop" in output
    brake.write_text("pause")
    run = start(ansible, fleet, udpgrm_brake="brake")
    lines(run, "says pause")
    brake.unlink()
    output, _none = run.communicate(timeout=LIMIT_S)
    assert (run.returncode, fleet.working) == (0, [2, 2]), output
    assert f"s: {brake} says pause" in result(fleet, ansible)["notes"][0]


@both_versions
def test_approval_of_each_further_batch(ansible: Ansible) -> None:
    fleet = Fleet(ansible, [{}, {}, {}])
    answer = ansible.directory / "answer"
    answer.write_text("yes")
    run = start(ansible, fleet, udpgrm_approval="answer", udpgrm_batches=[1])
    output = lines(run, f"Begin the batch of fl2? Write yes, all or no to {answer}")
    # with the table so far
    assert "fl1   updated" in output
    assert fleet.working == [2, 1, 1]
    answer.write_text("yes")
    lines(run, "Begin the batch of fl3?")
    answer.write_text("no")
    output, _none = run.communicate(timeout=LIMIT_S)
    assert (run.returncode, fleet.working) == (2, [2, 2, 1]), output
    assert "stopped: not approved" in output


def descendants(pid: int) -> t.Iterator[int]:
    """Return the processes that a process has begun, and those of them."""
    with contextlib.suppress(OSError):  # it has ended
        children = pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text()
        for child in map(int, children.split()):
            yield child
            yield from descendants(child)


def listens(pid: int) -> bool:
    """Return whether a process reads a terminal as Ansible does: without being blocked."""
    with contextlib.suppress(OSError):
        fields = pathlib.Path(f"/proc/{pid}/fdinfo/0").read_text().split()
        is_terminal = str(pathlib.Path(f"/proc/{pid}/fd/0").readlink()).startswith("/dev/pts/")
        return is_terminal and bool(int(fields[fields.index("flags:") + 1], 8) & os.O_NONBLOCK)
    return False


def type_line(run: subprocess.Popen[str], text: str) -> None:
    """Type a line: Ansible discards what was typed before it listens, soon after the question."""
    assert run.stdin is not None
    deadline = time.monotonic() + LIMIT_S
    while not any(listens(pid) for pid in descendants(run.pid)):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    run.stdin.write(f"{text}\n")
    run.stdin.flush()


@both_versions
def test_approval_at_the_terminal(ansible: Ansible) -> None:
    fleet = Fleet(ansible, [{}, {}, {}])
    given = fleet.given(udpgrm_approval="terminal", udpgrm_batches=[1])
    playbook = PLAYBOOKS / "rolling_restart.yml"
    run = ansible.start(playbook, fleet.hosts, terminal=True, **given)
    try:
        lines(run, "Begin the batch of fl2? [yes/all/no]")
        assert fleet.working == [2, 1, 1]
        type_line(run, "y")
        lines(run, "Begin the batch of fl3? [yes/all/no]")
        type_line(run, "no")
        output = lines(run, "stopped: not approved")
        assert (run.wait(LIMIT_S), fleet.working) == (2, [2, 2, 1]), output
    finally:
        run.kill()
        run.communicate()


def test_no_terminal_is_refused_before_anything_begins(ansible: Ansible) -> None:
    fleet = Fleet(ansible, [{}])
    status, output = fleet.run(udpgrm_approval="terminal")
    assert (status != 0, fleet.working) == (True, [1]), output
    assert "udpgrm_approval: there is no terminal" in " ".join(output.split())


def test_nothing_begins_outside_of_windows(ansible: Ansible) -> None:
    fleet = Fleet(ansible, [{}])
    later = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(days=2)
    window = f"{later:%a} 00:00-24:00 UTC"
    status, output = fleet.run(udpgrm_windows=[window])
    assert (status, fleet.working) == (2, [1]), output
    assert f"stopped: outside of udpgrm_windows ({window})" in output


def add_domains(directory: pathlib.Path, domains: dict[str, str | int]) -> None:
    folder = directory / "host_vars"
    folder.mkdir()
    for host, domain in domains.items():
        (folder / f"{host}.json").write_text(json.dumps({"udpgrm_domain": domain}))


@both_versions
def test_no_two_domains_at_once(ansible: Ansible) -> None:
    fleet = Fleet(ansible, [{}, {}, {}, {"rolls_back": "dead"}])
    # a rack may be numbered from 0
    add_domains(ansible.directory, {"fl1": 0, "fl2": "west", "fl3": 0})
    status, output = fleet.run(udpgrm_max_domains=1)
    assert (status != 0, fleet.working) == (True, [1, 1, 1, 1]), output
    assert "udpgrm_domain: fl4 have none" in " ".join(output.split())
    (ansible.directory / "host_vars" / "fl4.json").write_text('{"udpgrm_domain": "west"}')
    status, output = fleet.run()
    assert (status, fleet.working) == (2, [1, 1, 1, 1]), output
    assert "udpgrm_domain: give udpgrm_max_domains with -e" in output
    # fl1 and fl3, then fl2 and fl4
    status, output = fleet.run(udpgrm_max_domains=1, udpgrm_batches=["100%"])
    assert (status, fleet.working) == (2, [2, 2, 2, 1]), output
    assert output.count("TASK [Restart the services]") == 2


class Receiver(http.server.BaseHTTPRequestHandler):
    """Keeps the events."""

    got: t.ClassVar[list[dict[str, t.Any]]] = []

    def do_POST(self) -> None:
        self.got.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_arguments: t.Any) -> None:
        """Log nothing."""


@both_versions
def test_notices(ansible: Ansible) -> None:
    Receiver.got.clear()
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    fleet = Fleet(ansible, [{}, {"rolls_back": "dead"}, {}, {}])
    url = f"http://127.0.0.1:{server.server_port}/"
    try:
        status, output = fleet.run(udpgrm_webhook=url, udpgrm_batches=[1])
    finally:
        server.shutdown()
        server.server_close()
    assert (status, fleet.working) == (2, [2, 1, 1, 1]), output
    events = [(event["event"], event["batch"]) for event in Receiver.got]
    assert events == [("begin", ["fl1"]), ("batch", ["fl2"]), ("stop", ["fl3"]), ("end", [])]
    assert "fl2 rolled back (canary: dead)" in Receiver.got[2]["text"]
    assert Receiver.got[3]["result"]["state"] == "stopped"


def test_the_support_bundle(ansible: Ansible) -> None:
    fleet = Fleet(ansible, [{}, {"rolls_back": "dead"}])
    fleet.gone = {"fl2"}
    status, output = fleet.run(udpgrm_support_bundle="true")
    assert (status, fleet.working) == (2, [2, 1]), output
    with tarfile.open(ansible.directory / "udpgrm-support.tar.gz") as archive:
        assert "udpgrm-support/fl2/failed.txt" in archive.getnames()
    fleet.gone = set()
    status, output = fleet.run(udpgrm_support_bundle="true")
    assert (status, fleet.working) == (2, [2, 1]), output
    assert f"support bundle: {ansible.directory / 'udpgrm-support.tar.gz'}" in output
    with tarfile.open(ansible.directory / "udpgrm-support.tar.gz") as archive:
        names = [name for name in archive.getnames() if "/fl" in name]
        assert {name.split("/")[1] for name in names} == {"fl2"}
        file = archive.extractfile("udpgrm-support/fl2/status.json")
        assert file is not None
        assert json.load(file)["services"][0]["name"] == "echo"
