# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""From facts to findings; reads nothing itself."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Optional

from udpgrm import abi
from udpgrm.doctor.facts import Diagnosis, Finding, Group, Host, Socket


def judge(host: Host, sockets: Sequence[Socket]) -> list[Diagnosis]:
    """A diagnosis for each socket."""
    return [_judge(host, sock, sockets) for sock in sockets]


def about_host(host: Host, asked: str, sockets: Sequence[Socket]) -> list[Finding]:
    """What there is to say of the host.

    `asked` says in words which sockets were looked for; empty: those of hooked cgroups.
    """
    if not host.has_state:
        return [] if sockets else [_no_state(host, answered=False)]
    findings = []
    if not host.cgroups:
        findings.append(
            Finding(
                "no_hooked_cgroup",
                "no cgroup has hooks",
                f"the daemon of {host.directory} was started without --install, or it is gone",
                "udpgrm hooks add CGROUP, of the services or above them",
            )
        )
    if host.daemon is None:
        findings.append(
            Finding(
                "daemon_down",
                "no daemon runs",
                "sockets in a generation are steered all the same, new ones get no index",
                "start udpgrm --daemon (systemctl start udpgrm)",
                problem=any(_is_waiting(sock) for sock in sockets),
            )
        )
    if not sockets:
        findings.append(
            Finding(
                "no_sockets",
                f"no UDP socket {asked or 'with SO_REUSEPORT in a hooked cgroup'}",
                "there is none that is not connected to one peer",
                "see that the server is up, and where it binds (ss -ulnp)",
                problem=bool(asked),
            )
        )
    return findings


def is_waiting(diagnoses: Iterable[Diagnosis]) -> bool:
    """Whether a registration is on its way, which may be over a moment later."""
    return any(item.code == "waiting" for found in diagnoses for item in found.findings)


def concerns(host: Host, sock: Socket, netns: int) -> bool:
    """Whether a socket that nobody has named matters to someone in this network namespace.

    Others have their own servers at the same address, as containers do.
    """
    return sock.netns == netns or hooked_ancestor(host, sock.cgroup) is not None


def hooked_ancestor(host: Host, cgroup: str) -> Optional[str]:
    """The nearest cgroup with hooks that a cgroup is, or is below."""
    above = [path for path in host.cgroups if f"{cgroup}/".startswith(f"{path.rstrip('/')}/")]
    return max(above, key=len, default=None)


def _judge(host: Host, sock: Socket, sockets: Sequence[Socket]) -> Diagnosis:
    group = next((item for item in host.groups if item.number == sock.group), None)
    if group is None and sock.group is not None:  # between the two looks
        sock = replace(sock, group=None, generation=None, index=None, forgotten=True)
    obstacle = (
        _of_the_application(sock)
        or _of_hooks(host, sock)
        or _of_registration(host, sock)
        or _of_place(host, sock)
    )
    if obstacle is not None or group is None:
        return Diagnosis(sock, False, [obstacle] if obstacle else [])
    if not group.has_program:
        return Diagnosis(sock, False, [_no_program(group)])
    if any(_splits(sock, other) for other in sockets):
        return Diagnosis(sock, False, [_split(sock)])
    findings = [
        _of_lost_hooks(sock),
        _of_generation(sock, group),
        _of_other_groups(host, group),
    ]
    return Diagnosis(sock, True, [finding for finding in findings if finding is not None])


def _of_the_application(sock: Socket) -> Optional[Finding]:
    if sock.address is None:
        return Finding(
            "not_bound",
            "not bound",
            "a socket is in a reuseport group from bind() on",
            "set SO_REUSEPORT, then bind() it",
        )
    if not sock.reuseport:
        return Finding(
            "no_reuseport",
            "no SO_REUSEPORT",
            "alone at its address it gets every packet, and no second instance can bind",
            "set SO_REUSEPORT before bind() (a server may have an option for it), and restart it",
        )
    return None


def _of_hooks(host: Host, sock: Socket) -> Optional[Finding]:
    if not host.has_state:
        return _no_state(host, sock.hooked)
    if sock.index is not None:
        return None
    ancestor = hooked_ancestor(host, sock.cgroup)
    if not sock.hooked and ancestor is None:
        where = f"hooks are at {', '.join(host.cgroups)}" if host.cgroups else "none has hooks"
        return Finding(
            "no_hooks",
            "no hooks",
            f"its process is in {sock.cgroup}, and {where}",
            f"run it in a hooked cgroup (Slice= of its unit), or udpgrm hooks add {sock.cgroup} "
            f"and then restart it, or {_enroll(sock)}",
        )
    if not sock.hooked:
        return Finding(
            "made_outside",
            "made outside of the hooked cgroup",
            f"hooks are at {ancestor}, but a socket keeps the cgroup it was made in",
            "restart the process inside the hooked cgroup",
        )
    if not sock.known:
        why = "it was bound before the hooks came, or before SO_REUSEPORT was set"
        if ancestor is None:
            why += ", or the hooks are those of another --pin-dir"
        return Finding(
            "bound_before_hooks",
            "bound too early",
            why,
            f"restart the process, or {_enroll(sock)}",
        )
    return None


def _of_lost_hooks(sock: Socket) -> Optional[Finding]:
    if sock.hooked:
        return None
    return Finding(
        "hooks_removed",
        "its hooks are gone",
        "they were taken off its cgroup: what it sends keeps no flow alive any more",
        f"udpgrm hooks add {sock.cgroup}",
    )


def _no_state(host: Host, answered: bool) -> Finding:
    why = "it has never run there"
    if answered:
        why = "hooks answer, though: they are those of another --pin-dir"
    return Finding(
        "no_state",
        f"no udpgrm in {host.directory}",
        why,
        "udpgrm --daemon --install=CGROUP, or name the --pin-dir of the daemon that runs",
    )


def _of_registration(host: Host, sock: Socket) -> Optional[Finding]:
    if sock.group is not None and sock.generation is not None:
        return None
    if sock.group is None and sock.forgotten:
        return Finding(
            "group_forgotten",
            "its group was forgotten",
            "by udpgrm delete; its sockets are in no group until they register again",
            f"set UDP_GRM_SOCKET_GEN again, or {_enroll(sock)}",
        )
    if sock.group is None:
        at_address = [group for group in host.groups if group.address == sock.address]
        here = [group for group in at_address if group.netns == sock.netns]
        if at_address and not here:
            return Finding(
                "other_namespace",
                "in another network namespace than the group",
                f"the group of {sock.address} is in namespace {at_address[0].netns}, "
                f"the socket in {sock.netns}",
                "start the process in the namespace of the others (NetworkNamespacePath=, "
                "ip netns exec), or register it as a group of its own",
            )
        for group in here:
            if group.ifindex == sock.ifindex and sock.uid not in (0, group.uid):
                return Finding(
                    "other_owner",
                    "owned by another user than the group",
                    f"the group is that of uid {group.uid}, the socket that of uid {sock.uid}",
                    "run all instances as one user",
                )
    return Finding(
        "not_registered",
        "in no generation",
        "nobody has set UDP_GRM_SOCKET_GEN on it",
        f"let the server register its sockets (udpgrm.client.enroll), or {_enroll(sock)}",
    )


def _is_waiting(sock: Socket) -> bool:
    asked = sock.group is not None and sock.generation is not None
    return asked and sock.index is None and not sock.crowded


def _of_place(host: Host, sock: Socket) -> Optional[Finding]:
    if sock.crowded:
        return Finding(
            "generation_full",
            "no room in its generation",
            f"generation {sock.generation} has {abi.SLOT_SOCKETS} sockets, the most there can be",
            f"let an instance have at most {abi.SLOT_SOCKETS} sockets on an address",
        )
    if not _is_waiting(sock):
        return None
    if host.daemon is None:
        return Finding(
            "daemon_down",
            "registration pending",
            f"generation {sock.generation} was asked for, but no daemon runs",
            "start udpgrm --daemon (systemctl start udpgrm); it registers what was asked meanwhile",
        )
    return Finding(
        "waiting",
        "registration pending",
        f"generation {sock.generation} was asked for, and the daemon (pid {host.daemon}) has "
        "not answered: it compiles a filter, is busy, or is stopped",
        "try again; look at the daemon's log (journalctl -u udpgrm) and state",
    )


def _no_program(group: Group) -> Finding:
    return Finding(
        "no_program",
        "its group has no steering program",
        "its filter or dissector could not be compiled or loaded; the kernel spreads packets",
        "see 'no steering for "
        f"{group.address}' in the daemon's log (journalctl -u udpgrm), and fix the filter",
    )


def _splits(sock: Socket, other: Socket) -> bool:
    """To the kernel these are two reuseport groups, although udpgrm has them as one."""
    mine, others = ((item.family, item.v6only) for item in (sock, other))
    return sock.group is not None and sock.group == other.group and mine != others


def _split(sock: Socket) -> Finding:
    return Finding(
        "two_kernel_groups",
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
            "working_generation_empty",
            "the working generation has no socket",
            f"generation {working} works, but no living socket is registered in it: "
            "the kernel spreads new flows over all sockets",
            f"register sockets in generation {working}, or {alternative}",
        )
    if slot == working_slot:
        return None
    if abi.is_from(working, sock.generation):
        return Finding(
            "not_promoted",
            "no new flows yet",
            f"they go to generation {working}",
            f"when it is ready: udpgrm working-gen {group.address} {sock.generation}",
            problem=False,
        )
    return Finding(
        "draining",
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
        and item.number != group.number
    ]
    if not others:
        return None
    devices = ", ".join(_device(item) for item in others)
    return Finding(
        "two_groups",
        "not the only group at its address",
        f"this one is {_device(group)}, the other {devices}; each has its own generations",
        "if that is not meant, bind all sockets alike (SO_BINDTODEVICE, address family)",
        problem=False,
    )


def _device(group: Group) -> str:
    return f"of device {group.ifindex}" if group.ifindex else f"of no device, family {group.family}"


def _enroll(sock: Socket) -> str:
    return f"udpgrm enroll {sock.address} --cgroup={sock.cgroup}"
