# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""Schedules that violated an invariant, until restarts (or the invariant) were changed."""

from __future__ import annotations

from tests.simulation.schedules import At, Config, Fault, Schedule, Server

GOOD = Server.GOOD


def one(config: Config, *faults: tuple[str, str, str, int], seed: int = 0) -> Schedule:
    """Return a schedule of (fault, step, call, number)."""
    given = tuple(Fault(kind, At(step, call, number)) for kind, step, call, number in faults)
    return Schedule(config, given, seed)


SHORT = Config(servers=(GOOD, GOOD, Server.SHORT), every_s=60.0)
#: Its drains run out of time.
KEEPS = Config(on_timeout="keep", max_s=1.0, every_s=0.1)
HOLDS = Config(hold_s=4.0, flows=2, max_s=20.0)
NOTIFIES = Config(notifies=True, every_s=0.1)
FOUND = {
    "an empty journal after a power cut": one(
        Config(every_s=0.1), ("reboot", "drain", "sleep", 1), seed=4
    ),
    "resumed in stop, the new instance is dead": one(SHORT, ("kill", "stop", "systemctl stop", 1)),
    "kept, but active again": one(KEEPS, ("operator promotes old", "drain", "delete", 2)),
    # a fault of the simulation: that is the operator's own after the last look
    "kept, and then made active and stopped by hand": one(
        KEEPS,
        ("operator promotes old", "drain", "delete", 7),
        ("operator stops old", "drain", "create", 7),
        seed=20261130,
    ),
    "a rollback that was undone by hand keeps both": one(
        Config(on_timeout="keep", max_s=1.0),
        ("full disk", "promote", "held", 1),
        ("operator promotes old", "verify", "delete", 1),
        ("operator promotes new", "drain_new", "working", 1),
        seed=202,
    ),
    "the new one is stopped as the old one is kept": one(
        Config(on_timeout="keep", max_s=1.0),
        ("operator restarts", "promote", "systemctl", 1),
        ("operator stops new", "drain", "facts", 1),
        seed=202,
    ),
    "promoted by hand, and then the canary fails": one(
        Config(servers=(GOOD, GOOD, Server.MUTE)), ("operator promotes new", "canary", "sync", 1)
    ),
    "promoted by hand, and dead before the canary": one(
        Config(servers=(GOOD, Server.MUTE, Server.SHORT)),
        ("operator promotes new", "canary", "rename", 1),
        ("kill", "canary", "probe", 1),
        seed=5717639,
    ),
    "the old one was active for a while before its stop": one(
        Config(), ("operator promotes old", "drain", "exists", 1), seed=18
    ),
    "the old one is active as its drain is resumed, and got a notice": one(
        NOTIFIES,
        ("operator promotes old", "drain", "read", 2),
        ("kill", "drain", "create", 2),
    ),
    "the old one is made active as systemd is asked before its notice": one(
        NOTIFIES,
        ("operator promotes old", "drain", "read", 3),
        ("silent systemd", "drain", "systemctl", 3),
    ),
    "the new one was active for a while before its stop": one(
        Config(servers=(GOOD, GOOD, Server.FADES)),
        ("operator promotes new", "drain_new", "write", 1),
        seed=18,
    ),
    "the new one is made active as it is stopped": one(
        Config(servers=(GOOD, GOOD, Server.FEW_SOCKETS)),
        ("operator promotes new", "stop_new", "read", 1),
        seed=21,
    ),
    "the old one has crashed, and systemd starts it again": one(
        Config(restarts=True), ("crash of new", "", "flock", 1), seed=18
    ),
    "active again, and an earlier restart is to stop it": one(
        Config(every_s=0.1),
        ("operator restarts", "drain", "sleep", 2),
        ("operator promotes old", "drain", "open", 1),
        seed=18,
    ),
    "active again, the next restart is refused, and then it is stopped": one(
        Config(every_s=0.1),
        ("operator restarts", "drain", "sleep", 2),
        ("operator promotes old", "drain", "facts", 1),
        ("operator stops old", "drain", "write", 10),
        seed=202,
    ),
    "the new one is stopped before the next restart has begun": one(
        Config(every_s=0.1),
        ("operator restarts", "drain", "sleep", 2),
        ("operator stops new", "drain", "delete", 5),
        seed=202,
    ),
    "the last restart waits for a decision, and what drains serves meanwhile": one(
        Config(every_s=0.1),
        ("operator restarts", "drain", "sleep", 2),
        ("crash of old", "canary", "exists", 3),
        ("operator rolls back", "canary", "write", 4),
        seed=202,
    ),
    "the last restart is interrupted and can go back, so what drains does not serve": one(
        Config(every_s=0.1),
        ("operator restarts", "drain", "sleep", 2),
        ("signal", "verify", "probe", 3),
        ("operator stops new", "verify", "write", 4),
        seed=515,
    ),
    "promoted by hand and never ready, and the old one is dead": one(
        Config(servers=(GOOD, GOOD, Server.NEVER_READY)),
        ("operator promotes new", "start", "poll", 40),
        ("crash of old", "start", "read", 4),
        seed=515,
    ),
    "both are dead as the last restart is resumed, and what drains serves again": one(
        Config(every_s=0.1),
        ("operator restarts", "drain", "sleep", 2),
        ("operator stops new", "canary", "delete", 4),
        ("operator stops old", "promote", "delete", 6),
        ("signal", "verify", "exists", 2),
        seed=77,
    ),
    "made active by hand and dead, so that a rollback is refused": one(
        Config(on_timeout="fail", max_s=1.0, every_s=0.1),
        ("operator promotes old", "drain", "read", 11),
        ("operator stops old", "drain", "systemctl", 11),
        seed=4077,
    ),
    "the new one is made active while systemd does not answer, before its stop": one(
        Config(servers=(GOOD, GOOD, Server.FADES)),
        ("silent systemd", "stop_new", "fsync", 1),
        ("operator promotes new", "stop_new", "systemctl", 39),
        seed=4077,
    ),
    "the only one crashes, and systemd starts it again after its demotion": one(
        Config(servers=(GOOD, Server.SHORT, GOOD), restarts=True),
        ("crash of new", "verify", "working", 1),
        ("operator restarts", "demote", "rename", 2),
        seed=4077,
    ),
    "the old one is made active while systemd does not answer, before its stop": one(
        Config(restarts=True),
        ("silent systemd", "promote", "setsockopt", 1),
        ("operator promotes old", "stop", "systemctl", 53),
        seed=909,
    ),
    "the old one is active until its drain's time is over": one(
        Config(),
        ("operator promotes old", "drain", "sync", 1),
        ("operator promotes new", "stop", "delete", 1),
        seed=909,
    ),
    "the old one is active for a while between a stop that fails and its resume": one(
        Config(restarts=True),
        ("silent systemd", "drain", "write", 1),
        ("operator promotes old", "stop", "rename", 2),
        seed=909,
    ),
    "the old one is active for a while as it is held": one(
        HOLDS,
        ("operator promotes old", "drain", "sleep", 2),
        ("operator promotes new", "drain", "sleep", 11),
    ),
    "the new one is active for a while before its start fails": one(
        Config(servers=(GOOD, GOOD, Server.NEVER_READY)),
        ("operator promotes new", "start", "exists", 21),
        ("operator promotes old", "start", "exists", 40),
        seed=77,
    ),
    "the old one is made active as it is stopped": one(
        Config(), ("operator promotes old", "stop", "read", 1)
    ),
    "stop fails for ever, as the new one is dead": one(
        SHORT, ("operator promotes old", "stop", "create", 1)
    ),
    "the old one is being started again as flows are to go back to it": one(
        Config(restarts=True), ("crash of old", "promote", "setsockopt", 2)
    ),
    "the old one dies, and the new one is never ready": one(
        Config(servers=(GOOD, GOOD, Server.NEVER_READY), every_s=0.1),
        ("crash of old", "start", "exists", 11),
    ),
    "the old one dies, and a signal ends the canary": one(
        Config(servers=(GOOD, GOOD, Server.SLOW), every_s=60.0),
        ("crash of old", "start", "exists", 2),
        ("signal", "canary", "probe", 1),
    ),
    "the old one is started again, and the new one has got flows meanwhile": one(
        Config(servers=(GOOD, GOOD, Server.FEW_SOCKETS), restarts=True, every_s=0.1),
        ("crash of old", "enroll", "sleep", 3),
    ),
    # a fault of the simulation: the new one drained for max_s
    "the new one is rolled back with a flow from before its promotion": one(
        Config(restarts=True),
        ("crash of old", "start", "working", 3),
        ("silent systemd", "enroll", "sync", 1),
        seed=987654321,
    ),
    # a fault of the simulation: groups that an operator has divided are refused
    "addresses are divided by hand as the new one is kept": one(
        KEEPS,
        ("operator partly promotes old", "drain", "rename", 5),
        ("operator partly promotes new", "drain_new", "delete", 8),
        seed=987654321,
    ),
    "the old one is made active for a while as a stop waits for systemd": one(
        Config(on_timeout="fail", max_s=1.0, every_s=0.1),
        ("silent systemd", "stop", "create", 1),
        ("operator partly promotes old", "stop", "systemctl", 38),
        ("operator promotes new", "stop", "sleep", 40),
        seed=987654321,
    ),
    "the old one is kept as the new one has been stopped, and systemd is silent": one(
        KEEPS,
        ("silent systemd", "drain", "sleep", 3),
        ("operator stops new", "drain", "sleep", 37),
        seed=987654321,
    ),
    "nothing serves, and clients knock between reading and promotion": one(
        Config(servers=(GOOD, GOOD, Server.NO_SOCKETS)),
        ("crash of old", "", "read", 1),
        seed=1020507360,
    ),
}
