# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""udpgrm restart on a real daemon: real servers, in units of a stand-in for systemctl."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import udpgrm.client as grm
from testing.host import COMMAND, Command, client, plain_socket, wait_for
from testing.waiting import PATIENCE_S
from tests.kernel.restarts import (
    ALSO,
    FLOW_S,
    TO,
    UNTIL_NO_FLOWS,
    WHERE,
    Edge,
    Traffic,
    ask,
    serving_only,
    until,
)

pytest_plugins = ("tests.kernel.restart_fixtures",)
pytestmark = pytest.mark.daemon("shared")


def test_a_restart_under_traffic(serving: Edge) -> None:
    assert (serving.alive(), serving.working()) == ([1], 1)
    with Traffic() as traffic:
        command = serving.start("restart", "edge", "--json")
        serving.await_step("drain")
        time.sleep(FLOW_S + 0.5)  # longer than a flow lives that is not used
        assert (serving.alive(), serving.working()) == ([1, 2], 2)
        until(lambda: traffic.asked > 100, "enough questions")
    printed, errors = command.communicate(timeout=PATIENCE_S)
    assert command.returncode == 0, errors
    assert (traffic.lost, traffic.moved) == (0, 0)
    assert (serving.alive(), serving.working()) == ([2], 2)
    journal = json.loads(printed)
    assert journal["outcome"] == "finished"
    assert (journal["from_generation"], journal["to_generation"]) == (1, 2)
    assert journal["promotion_window_s"] > 0
    steps = {step["step"]: step["evidence"] for step in journal["steps"]}
    [canary] = steps["canary"]["probes"]
    assert (canary["received_generation"], canary["path"]) == (2, "steered")
    assert canary["replied_generation"] == 2
    [new] = steps["verify"]["probes"]
    assert (new["received_generation"], new["path"], new["replied_generation"]) == (2, "new", 2)
    [old] = steps["verify"]["old_flows"]
    assert (old["received_generation"], old["path"]) == (1, "existing")
    assert old["replied_generation"] == 1
    assert steps["drain"]["drained"] is True
    assert steps["drain"]["drain"]["flows_at_start"] >= 2


def test_the_probes_leave_no_flows(serving: Edge) -> None:
    serving.define(drain={**UNTIL_NO_FLOWS, "max_s": 0, "on_timeout": "fail"})
    done = serving.restart()
    assert done.returncode == 0, done.stdout


_COUNTING = """
from udpgrm.kernel import libbpf
load = libbpf.prog_load
def counted(kind, name, *rest):
    if name == "udpgrm_clock":
        print(name, file=sys.stderr)
    return load(kind, name, *rest)
libbpf.prog_load = counted
"""


def test_the_clock_is_loaded_once(serving: Edge) -> None:
    """Load the clock once for each opened set of maps.

    Samples, probes and the deletion of flows read it again and again.
    """
    command = Command(serving.host.directory, ("restart", "edge", "--foreground"), _COUNTING)
    _, errors = command.communicate(timeout=PATIENCE_S)
    assert command.returncode == 0, errors
    opened = 2  # the checks before the restart have maps of their own
    assert errors.count("udpgrm_clock") == 2 * opened


def test_a_first_deployment_with_two_groups(edge: Edge) -> None:
    edge.addresses = [WHERE, ALSO]
    edge.unit()
    edge.define()
    check = edge.host.json("restart", "edge", "--check")
    assert (check["from_generation"], check["to_generation"]) == (None, 1)
    assert edge.restart().returncode == 0
    assert [edge.working(where) for where in (WHERE, ALSO)] == [1, 1]
    assert edge.restart().returncode == 0
    assert [edge.working(where) for where in (WHERE, ALSO)] == [2, 2]
    assert edge.alive() == [2]


@pytest.mark.parametrize(
    ("wrong", "step", "reason"),
    [
        ("fails-2", "start", "Job for edge@2.service failed"),
        ("unenrolled-2", "enroll", "sockets in generation 2 after 1 s: 0 of 2 at 127.0.0.1:4433"),
        ("mute-2", "canary", "generation 2 got it as steered"),
    ],
)
def test_a_new_instance_that_is_no_good(serving: Edge, wrong: str, step: str, reason: str) -> None:
    serving.unit(wrong)
    serving.define(answer_s=0.5, timeouts={"enroll_s": 1})
    with Traffic() as traffic:
        done = serving.restart("--json")
    assert done.returncode == 1
    journal = json.loads(done.stdout)
    assert journal["outcome"] == "rolled_back"
    failed = next(item for item in journal["steps"] if item["result"] == "failed")
    assert failed["step"] == step
    assert reason in failed["reason"]
    assert (traffic.lost, traffic.moved) == (0, 0)
    assert serving_only(serving, 1)


def test_users_meet_nothing_of_a_canary(serving: Edge) -> None:
    serving.unit("mute-2")
    serving.define(answer_s=0.5)
    with Traffic() as traffic:
        assert serving.restart().returncode == 1
    assert traffic.lost == 0


def test_rollback_while_the_old_one_drains(serving: Edge) -> None:
    serving.define(drain=UNTIL_NO_FLOWS)
    with Traffic() as traffic, client() as late:
        command = serving.start("restart", "edge", "--json")
        serving.await_step("drain")
        with Traffic(1) as new:
            undo = serving.start("rollback", "edge", "--json")
            until(lambda: serving.steps()[-1] == "drain_new", "drain_new")
            # back, and the flows of the new one stay with it while it drains
            assert ask(late) == 1
            time.sleep(0.5)
            assert serving.alive() == [1, 2]
        assert (new.first, new.lost, new.moved) == (2, 0, 0)
    for process, status in ((command, 1), (undo, 0)):
        printed, errors = process.communicate(timeout=PATIENCE_S)
        assert process.returncode == status, errors
        assert json.loads(printed)["outcome"] == "rolled_back"
    assert (traffic.lost, traffic.moved) == (0, 0)
    assert serving_only(serving, 1)
    again = serving.host.run("rollback", "edge")
    assert again.returncode == 255
    assert "nothing to roll back" in again.stderr


def test_rollback_that_is_not_waited_for(serving: Edge) -> None:
    serving.define(drain=UNTIL_NO_FLOWS)
    with Traffic():
        command = serving.start("restart", "edge", "--json")
        serving.await_step("drain")
        with Traffic(1):  # whose flow keeps the new instance draining
            asked = serving.host.json("rollback", "edge", "--no-follow")
            assert asked == {"schema": 1, "service": "edge", "unit": None}
            assert serving.journal()["outcome"] is None
    assert command.wait(PATIENCE_S) == 1
    command.communicate()
    assert serving_only(serving, 1)


def test_the_second_of_two_is_refused(serving: Edge) -> None:
    serving.unit("unenrolled-2")
    command = serving.start("restart", "edge", "--json")
    serving.await_step("enroll")
    done = serving.restart()
    assert done.returncode == 255
    assert f"edge: a restart runs already: pid {command.pid} of root, since" in done.stderr
    assert serving.host.run("rollback", "edge").returncode == 0
    assert command.communicate(timeout=PATIENCE_S) and command.returncode == 1


def test_a_restart_is_followed(serving: Edge) -> None:
    serving.define(drain=UNTIL_NO_FLOWS)
    with Traffic(1):
        command = serving.start("restart", "edge", "--json")
        serving.await_step("drain")
        followed = serving.start("restart", "edge", "--follow", "--json")
        time.sleep(0.5)
    printed, _ = followed.communicate(timeout=PATIENCE_S)
    assert (followed.returncode, json.loads(printed)["outcome"]) == (0, "finished")
    command.communicate(timeout=PATIENCE_S)
    assert command.returncode == 0


def test_a_signal_while_it_drains_leaves_it_and_resume_ends_it(serving: Edge) -> None:
    serving.define(drain=UNTIL_NO_FLOWS)
    with Traffic(1):
        command = serving.start("restart", "edge")
        serving.await_step("drain")
        command.send_signal(signal.SIGTERM)
        _, errors = command.communicate(timeout=PATIENCE_S)
        assert command.returncode == 3
        assert "udpgrm restart edge --resume continues" in errors
        assert (serving.alive(), serving.working()) == ([1, 2], 2)
    assert serving.restart("--resume").returncode == 0
    assert serving_only(serving, 2)
    assert serving.restart("--resume").returncode == 0  # nothing to do


def test_a_reader_that_goes_away(serving: Edge) -> None:
    with Traffic(1):
        command = serving.start("restart", "edge", "--foreground")
        assert command.stdout is not None
        serving.await_step("drain")
        command.stdout.close()
        time.sleep(1)  # some samples
    assert command.wait(PATIENCE_S) == 0
    assert command.stderr is not None
    command.stderr.close()
    assert serving.journal()["outcome"] == "finished"
    assert serving_only(serving, 2)


@pytest.mark.parametrize("arguments", [(), ("--json",)])
def test_nowhere_to_print(serving: Edge, arguments: tuple[str, ...]) -> None:
    """Finish the restart, and exit with 0, though no output can be written."""
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [*COMMAND, f"--pin-dir={serving.host.directory}", "restart", "edge", *arguments],
            stdout=full,
            stderr=full,
            timeout=PATIENCE_S,
            check=False,
        )
    assert done.returncode == 0
    assert serving_only(serving, 2)


def test_a_rollback_that_was_asked_for_as_it_was_cut(serving: Edge) -> None:
    serving.define(drain=UNTIL_NO_FLOWS)
    with Traffic(1):
        command = serving.start("restart", "edge")
        serving.await_step("drain")
        command.kill()
        command.communicate()
        (serving.state / "edge.rollback").touch()
        assert serving.restart("--resume").returncode == 1
    assert serving.journal()["outcome"] == "rolled_back"
    assert serving_only(serving, 1)


def test_a_drain_that_may_fail(serving: Edge) -> None:
    serving.define(drain={**UNTIL_NO_FLOWS, "max_s": 0.1, "on_timeout": "fail"})
    with Traffic(1) as old:
        assert serving.restart().returncode == 2
        assert (serving.alive(), serving.working()) == ([1, 2], 2)
        assert serving.host.run("rollback", "edge").returncode == 0
    assert (old.lost, old.moved) == (0, 0)
    assert serving_only(serving, 1)


def test_running_out_is_refused_before_anything_starts(serving: Edge) -> None:
    others = grm.bind(WHERE, 31, flow_timeout=FLOW_S)
    for generation, sock in zip(range(2, 33), others):
        grm.enroll([sock], generation)
    before = serving.journal()
    done = serving.restart()
    assert done.returncode == 255
    assert "no generation is free: 32 of 32 of 127.0.0.1:4433" in done.stderr
    assert (serving.alive(), serving.journal()) == ([1], before)
    for sock in others:
        sock.close()


def test_check_changes_nothing(serving: Edge) -> None:
    before = serving.journal()
    plan = serving.host.json("restart", "edge", "--check")
    assert (plan["from_generation"], plan["to_generation"]) == (1, 2)
    assert (plan["instance"], plan["stops"]) == ("edge@2.service", "edge@1.service")
    assert (serving.alive(), serving.journal()) == ([1], before)


def test_ipv6(edge: Edge) -> None:
    edge.addresses = ["[::1]:4433"]
    edge.unit()
    edge.define()
    assert edge.restart().returncode == 0
    done = edge.restart("--json")
    assert done.returncode == 0, done.stdout
    verify = json.loads(done.stdout)["steps"][5]["evidence"]
    assert verify["probes"][0]["received_generation"] == 2
    assert verify["old_flows"][0]["received_generation"] == 1
    assert edge.working("[::1]:4433") == 2


def test_noop(edge: Edge) -> None:
    """End the drain by quiet, as no dissector counts flows."""
    edge.unit("noop")
    edge.define(drain={**UNTIL_NO_FLOWS, "until": {"flows": 0, "quiet_s": 0.5}})
    assert edge.restart().returncode == 0
    with Traffic() as traffic:
        done = edge.restart("--json")
    assert done.returncode == 0, done.stdout
    assert traffic.lost == 0
    steps = {step["step"]: step["evidence"] for step in json.loads(done.stdout)["steps"]}
    assert steps["verify"]["probes"][0]["path"] == "new"
    assert steps["verify"]["old_flows"] == []
    assert steps["drain"]["drained"] is True
    assert steps["drain"]["drain"]["flows"] is None
    assert serving_only(edge, 2)


def test_no_probes(serving: Edge) -> None:
    """Restart a service without probes by the kernel's evidence alone."""
    serving.define(probes=[])
    serving.unit("mute-2")
    done = serving.restart("--json")
    assert done.returncode == 0, done.stdout
    steps = {step["step"]: step["evidence"] for step in json.loads(done.stdout)["steps"]}
    assert steps["canary"]["probes"][0]["received_generation"] == 2
    assert steps["verify"]["probes"][0]["path"] == "new"


@contextlib.contextmanager
def few_ports(count: int) -> Iterator[list[int]]:
    """Let the kernel choose clients' ports among a few."""
    path = Path("/proc/sys/net/ipv4/ip_local_port_range")
    before = path.read_text()
    path.write_text(f"40000 {40000 + count - 1}")
    try:
        yield list(range(40000, 40000 + count))
    finally:
        path.write_text(before)


def test_a_probe_from_a_port_that_had_a_flow(serving: Edge) -> None:
    """Let a probe get a port whose earlier client has left a flow with the old instance."""
    ended = threading.Event()

    def come_and_go(ports: list[int]) -> None:
        while not ended.is_set():
            for port in ports:
                with contextlib.suppress(OSError), plain_socket() as sock:  # a probe may have it
                    sock.bind(("127.0.0.1", port))
                    ask(sock)

    with few_ports(8) as ports:
        thread = threading.Thread(target=come_and_go, args=(ports,))
        thread.start()
        command = serving.start("restart", "edge", "--json")
        try:
            serving.await_step("drain")
        finally:
            ended.set()
            thread.join()
    printed, _ = command.communicate(timeout=PATIENCE_S)
    assert command.returncode == 0, printed
    steps = {step["step"]: step["evidence"] for step in json.loads(printed)["steps"]}
    [new] = steps["verify"]["probes"]
    assert (new["source"].partition(":")[2], new["path"]) in [(str(port), "new") for port in ports]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("restart", "nobody"), "no service 'nobody'"),
        (("restart", "../edge"), "no service name"),
        (("restart", "edge", "--resume"), "there was no restart"),
        (("rollback", "edge"), "there was no restart"),
        (("restart", "edge", "--follow"), "there was no restart"),
        (("restart", "edge", "--check", "--follow"), "do not combine"),
        (("restart",), "an operand is missing"),
        (("drain", WHERE, "1"), "no group at"),
    ],
)
def test_misuse(edge: Edge, arguments: tuple[str, ...], message: str) -> None:
    done = edge.host.run(*arguments)
    assert (done.returncode, done.stdout) == (255, "")
    assert message in done.stderr and len(done.stderr.splitlines()) == 1


def test_no_daemon(edge: Edge) -> None:
    (edge.units / "edge@.service").unlink()
    assert "systemd has no unit edge@.service: write it" in edge.restart().stderr


def test_drain_alone(serving: Edge) -> None:
    serving.define(drain={**UNTIL_NO_FLOWS, "max_s": 0, "on_timeout": "keep"})
    with Traffic(1):
        assert serving.restart().returncode == 0
        assert serving.alive() == [1, 2]
        working = serving.host.run("drain", WHERE, "2")
        assert (working.returncode, "is the working one" in working.stderr) == (255, True)
        late = serving.host.run("drain", WHERE, "1", "--flows=0", "--max=0", "--json")
        assert late.returncode == 1
        assert json.loads(late.stdout)["flows"] == 1
    wait_for(lambda: serving.host.run("drain", WHERE, "1", "--flows=0").returncode == 0, "drain")


def test_a_kept_instance_is_never_met_by_the_next(serving: Edge) -> None:
    """Skip the number of a rolled back generation that still runs; several overlap."""
    serving.define(drain={**UNTIL_NO_FLOWS, "max_s": 0, "on_timeout": "keep"})
    with contextlib.ExitStack() as stack:
        clients = []
        for _ in range(3):
            clients.append(stack.enter_context(Traffic(1)))
            assert serving.restart().returncode == 0
        assert serving.alive() == [1, 2, 3, 4]
    assert [(one.first, one.lost, one.moved) for one in clients] == [
        (1, 0, 0),
        (2, 0, 0),
        (3, 0, 0),
    ]


@pytest.mark.daemon("own")
def test_an_unmodified_server_is_adopted(edge: Edge) -> None:
    edge.run_plain_server()
    done = edge.restart("--json")
    assert done.returncode == 0, done.stdout + done.stderr
    with Traffic() as traffic:
        command = edge.start("restart", "edge", "--json")
        edge.await_step("drain")
    printed, errors = command.communicate(timeout=PATIENCE_S)
    assert command.returncode == 0, printed + errors
    assert (traffic.lost, traffic.moved) == (0, 0)
    assert serving_only(edge, 2)


def test_the_budget(serving: Edge) -> None:
    """Roll back when packets that a stalled instance drops exceed the budget."""
    serving.define(budget={"dropped": 0})
    with Traffic(1) as old:
        command = serving.start("restart", "edge", "--json")
        serving.await_step("drain")
        [pid] = (serving.host.cgroup / "edge@2.service/cgroup.procs").read_text().split()
        os.kill(int(pid), signal.SIGSTOP)
        with client() as flood:
            for _ in range(3000):
                flood.sendto(bytes(500), TO)
        until(lambda: "demote" in serving.steps(), "the way back")
        os.kill(int(pid), signal.SIGCONT)
        printed, _ = command.communicate(timeout=PATIENCE_S)
    assert command.returncode == 1
    reasons = [step["reason"] for step in json.loads(printed)["steps"]]
    assert any("packets dropped, the budget is 0" in reason for reason in reasons)
    assert (old.lost, old.moved) == (0, 0)
    assert serving_only(serving, 1)
