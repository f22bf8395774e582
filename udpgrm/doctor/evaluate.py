# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""Evaluation of facts to findings; pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Optional

from udpgrm import abi
from udpgrm.doctor import limits
from udpgrm.doctor.facts import Code, Diagnosis, Finding, Group, Host, Socket
from udpgrm.doctor.host import hooked_ancestor, is_pending, lacks_right, no_state
from udpgrm.state.second_groups import SecondGroup


def evaluate(host: Host, sockets: Sequence[Socket]) -> list[Diagnosis]:
    """Return a diagnosis for each socket."""
    return [_evaluate(host, sock, sockets) for sock in sockets]


def is_waiting(diagnoses: Iterable[Diagnosis]) -> bool:
    """Return whether a registration is under way, which may be complete a moment later."""
    return any(item.code is Code.WAITING for found in diagnoses for item in found.findings)


def _evaluate(host: Host, sock: Socket, sockets: Sequence[Socket]) -> Diagnosis:
    group = next((item for item in host.groups if item.group_id == sock.group_id), None)
    if group is None and sock.group_id is not None:  # between the two looks
        sock = replace(sock, group_id=None, generation=None, index=None, deleted=True)
    obstacle = (
        _of_the_application(sock)
        or _of_hooks(host, sock)
        or _of_registration(host, sock)
        or _of_index(host, sock)
    )
    if obstacle is not None or group is None:
        return Diagnosis(sock, False, [obstacle] if obstacle else [])
    if not group.has_program:
        return Diagnosis(sock, False, [_no_program(group)])
    if group.foreign_program:
        return Diagnosis(sock, False, [_foreign_program(group)])
    if any(_splits(sock, other) for other in sockets):
        return Diagnosis(sock, False, [_split(sock)])
    second = [] if group.second is None else [_second(group.second)]
    if group.second is not None and group.second.exists:
        return Diagnosis(sock, False, second)
    findings = [
        _of_lost_hooks(sock),
        *second,
        _of_generation(sock, group),
        _of_other_groups(host, group),
        *limits.of_filter(group),
        *limits.of_lookups(group),
        *limits.of_socket(sock),
        *limits.of_programs(group, sock),
        *limits.of_groups(host, group, sock),
    ]
    return Diagnosis(sock, True, [finding for finding in findings if finding is not None])


def _of_the_application(sock: Socket) -> Optional[Finding]:
    if sock.address is None:
        return Finding(
            Code.NOT_BOUND,
            "not bound",
            "a socket is in a reuseport group from bind() on",
            "set SO_REUSEPORT, then bind() it",
        )
    if not sock.reuseport:
        return Finding(
            Code.NO_REUSEPORT,
            "no SO_REUSEPORT",
            "alone at its address it gets every packet, and no second instance can bind",
            "set SO_REUSEPORT before bind() (a server may have an option for it), and restart it; "
            "or define a service with enrollment: adopted, for which the bind hooks set it",
        )
    return None


def _of_hooks(host: Host, sock: Socket) -> Optional[Finding]:
    if not host.has_state:
        return no_state(host, sock.hooked)
    if sock.index is not None:
        return None
    ancestor = hooked_ancestor(host, sock.cgroup)
    if not sock.hooked and ancestor is None:
        where = f"hooks are at {', '.join(host.cgroups)}" if host.cgroups else "none has hooks"
        return Finding(
            Code.NO_HOOKS,
            "no hooks",
            f"its process is in {sock.cgroup}, and {where}",
            f"run it in a hooked cgroup (Slice= of its unit), or udpgrm hooks add {sock.cgroup} "
            f"and then restart it, or {_enroll(sock)}",
        )
    if not sock.hooked:
        return Finding(
            Code.MADE_OUTSIDE,
            "made outside of the hooked cgroup",
            f"hooks are at {ancestor}, but a socket keeps the cgroup it was made in",
            "restart the process inside the hooked cgroup",
        )
    if not sock.known:
        why = "it was bound before the hooks came, or before SO_REUSEPORT was set"
        if ancestor is None:
            why += ", or the hooks are those of another --pin-dir"
        return Finding(
            Code.BOUND_BEFORE_HOOKS,
            "bound too early",
            why,
            f"restart the process, or {_enroll(sock)}",
        )
    return None


def _of_lost_hooks(sock: Socket) -> Optional[Finding]:
    if sock.hooked:
        return None
    return Finding(
        Code.HOOKS_REMOVED,
        "its hooks are gone",
        "they were taken off its cgroup: what it sends keeps no flow alive any more",
        f"udpgrm hooks add {sock.cgroup}",
    )


def _of_registration(host: Host, sock: Socket) -> Optional[Finding]:
    if sock.group_id is not None and sock.generation is not None:
        return None
    if sock.group_id is None and sock.deleted:
        return Finding(
            Code.GROUP_DELETED,
            "its group was deleted",
            "by udpgrm delete; its sockets are in no group until they register again",
            f"set UDP_GRM_SOCKET_GEN again, or {_enroll(sock)}",
        )
    if sock.group_id is None:
        at_address = [group for group in host.groups if group.address == sock.address]
        here = [group for group in at_address if group.netns == sock.netns]
        if at_address and not here:
            return Finding(
                Code.OTHER_NAMESPACE,
                "in another network namespace than the group",
                f"the group of {sock.address} is in namespace {at_address[0].netns}, "
                f"the socket in {sock.netns}",
                "start the process in the namespace of the others (NetworkNamespacePath=, "
                "ip netns exec), or register it as a group of its own",
            )
        for group in here:
            if group.ifindex == sock.ifindex and sock.uid not in (0, group.uid):
                return Finding(
                    Code.OTHER_OWNER,
                    "owned by another user than the group",
                    f"the group is that of uid {group.uid}, the socket that of uid {sock.uid}",
                    "run all instances as one user",
                )
    others = ""
    if sock.option_programs:
        others = f", or {', '.join(sock.option_programs)} answers that option itself"
    return Finding(
        Code.NOT_REGISTERED,
        "in no generation",
        f"UDP_GRM_SOCKET_GEN was not set on it{others}",
        f"let the server register its sockets (udpgrm.client.enroll), or {_enroll(sock)}",
    )


def _of_index(host: Host, sock: Socket) -> Optional[Finding]:
    if sock.full:
        return Finding(
            Code.GENERATION_FULL,
            "no room in its generation",
            f"generation {sock.generation} has {abi.SLOT_SOCKETS} sockets, the most there can be",
            f"let an instance have at most {abi.SLOT_SOCKETS} sockets on an address",
        )
    if not is_pending(sock):
        return None if sock.entered or sock.index is None else _not_in_group(sock)
    if sock.cookie in host.outside:
        return _not_in_group(sock)
    if host.daemon_lacks:
        return lacks_right(host)
    if host.daemon is None:
        return Finding(
            Code.DAEMON_DOWN,
            "registration pending",
            f"generation {sock.generation} was asked for, but no daemon runs",
            "start udpgrm --daemon (systemctl start udpgrm); it registers what was asked meanwhile",
        )
    if sock.locked:
        return Finding(
            Code.FILTER_LOCKED,
            "its filters are locked",
            "SO_LOCK_FILTER was set before the registration: the kernel refuses the steering "
            "program",
            "let the server lock its filters after its registration, or not at all; restart it",
        )
    refusal = ""
    if sock.option_programs:
        refusal = f", or {', '.join(sock.option_programs)} refuses SO_ATTACH_REUSEPORT_EBPF"
    return Finding(
        Code.WAITING,
        "registration pending",
        f"generation {sock.generation} was asked for, and the daemon (pid {host.daemon}) has "
        f"not answered: it compiles a dissector, is busy, or is stopped{refusal}",
        "try again; look at the daemon's log (journalctl -u udpgrm) and state",
    )


def _not_in_group(sock: Socket) -> Finding:
    return Finding(
        Code.NOT_IN_GROUP,
        "taken out of its group by the kernel",
        f"generation {sock.generation} was asked for, but no packet can be given to it: "
        "connect(2), AF_UNSPEC included, takes a socket out of its reuseport group, for good when "
        "it was bound to a wildcard address; SO_BINDTODEVICE after bind(2) does so, too",
        "let the server connect other sockets than those it serves all peers with, and set devices "
        "before bind(2); restart it",
    )


def _foreign_program(group: Group) -> Finding:
    return Finding(
        Code.FOREIGN_PROGRAM,
        "another program steers its group",
        f"all packets to {group.address} are given out by {group.foreign_program}, which a process "
        "outside of hooked cgroups has attached instead of udpgrm's",
        "turn it off in that server; the daemon puts its own back within a minute (docs/limits.md)",
    )


def _second(second: SecondGroup) -> Finding:
    return Finding(Code.SECOND_KERNEL_GROUP, second.what, second.why, second.do)


def _no_program(group: Group) -> Finding:
    return Finding(
        Code.NO_PROGRAM,
        "its group has no steering program",
        "its filter or dissector could not be compiled or loaded; the kernel spreads packets",
        "see 'no steering for "
        f"{group.address}' in the daemon's log (journalctl -u udpgrm), and fix the filter",
    )


def _splits(sock: Socket, other: Socket) -> bool:
    """Return whether a group of udpgrm is two reuseport groups to the kernel."""
    mine, others = ((item.family, item.v6only) for item in (sock, other))
    return sock.group_id is not None and sock.group_id == other.group_id and mine != others


def _split(sock: Socket) -> Finding:
    return Finding(
        Code.TWO_KERNEL_GROUPS,
        "beside sockets of another kind",
        "IPV6_V6ONLY, or the address family, differs within its group: the kernel keeps them "
        "apart, and one half gets no packet of the other",
        "make all sockets of the address alike (AF_INET or AF_INET6, IPV6_V6ONLY)",
    )


def _of_generation(sock: Socket, group: Group) -> Optional[Finding]:
    assert sock.generation is not None
    working = group.working[sock.application]
    working_slot = abi.slot_of(group.max_apps, sock.application, working)
    slot = abi.slot_of(group.max_apps, sock.application, sock.generation)
    if not group.alive.get(working_slot):
        alternative = f"udpgrm working-gen {group.address} {sock.generation}"
        if group.max_apps > 1:
            alternative += f" --app={sock.application}"
        return Finding(
            Code.WORKING_GENERATION_EMPTY,
            "the working generation has no socket",
            f"generation {working} is active, but no living socket is registered in it: "
            "new flows go to the newest other generation that has one",
            f"register sockets in generation {working}, or {alternative}",
        )
    if slot == working_slot:
        return None
    if abi.is_from(working, sock.generation):
        return Finding(
            Code.NOT_PROMOTED,
            "no new flows yet",
            f"they go to generation {working}",
            f"when it is ready: udpgrm working-gen {group.address} {sock.generation}",
            problem=False,
        )
    return Finding(
        Code.DRAINING,
        "draining",
        f"new flows go to generation {working}",
        "stop its process once its flows are gone (udpgrm list)",
        problem=False,
    )


def _of_other_groups(host: Host, group: Group) -> Optional[Finding]:
    others = [
        item
        for item in host.groups
        if (item.address, item.netns) == (group.address, group.netns)
        and item.group_id != group.group_id
    ]
    if not others:
        return None
    devices = ", ".join(_device(item) for item in others)
    return Finding(
        Code.TWO_GROUPS,
        "not the only group at its address",
        f"this one is {_device(group)}, the other {devices}; each has its own generations",
        "if that is not meant, bind all sockets alike (SO_BINDTODEVICE, address family)",
        problem=False,
    )


def _device(group: Group) -> str:
    return f"of device {group.ifindex}" if group.ifindex else f"of no device, family {group.family}"


def _enroll(sock: Socket) -> str:
    return f"udpgrm enroll {sock.address} --cgroup={sock.cgroup}"
