# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""Findings about a host: its daemon, its hooks, and what could not be read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Optional

from udpgrm.doctor.facts import Code, Finding, Host, Socket, Unreachable


def about_host(host: Host, asked: str, sockets: Sequence[Socket]) -> list[Finding]:
    """Return the findings about the host.

    `asked` describes the sockets that were asked for; empty: all of hooked cgroups.
    """
    if not host.has_state:
        return [] if sockets else [no_state(host, answered=False)]
    findings = [_unreachable(host, item, sockets) for item in host.unreachable]
    if host.daemon_lacks:
        findings.append(lacks_right(host))
    if not host.cgroups:
        findings.append(
            Finding(
                Code.NO_HOOKED_CGROUP,
                "no cgroup has hooks",
                f"the daemon of {host.directory} was started without --install, or it is gone",
                "udpgrm hooks add CGROUP, of the services or above them",
            )
        )
    if host.daemon is None:
        findings.append(
            Finding(
                Code.DAEMON_DOWN,
                "no daemon runs",
                "sockets in a generation are steered all the same, new ones get no index",
                "start udpgrm --daemon (systemctl start udpgrm)",
                problem=any(is_pending(sock) for sock in sockets),
            )
        )
    if not sockets and not host.unreachable:
        findings.append(
            Finding(
                Code.NO_SOCKETS,
                f"no UDP socket {asked or 'with SO_REUSEPORT in a hooked cgroup'}",
                "there is none that is not connected to one peer",
                "see that the server is up, and where it binds (ss -ulnp)",
                problem=bool(asked),
            )
        )
    return findings


def concerns(host: Host, sock: Socket, netns: int) -> bool:
    """Return whether a socket that was not asked for matters in this network namespace.

    Other namespaces, as of containers, have their own servers at the same address.
    """
    return sock.netns == netns or hooked_ancestor(host, sock.cgroup) is not None


def hooked_ancestor(host: Host, cgroup: str) -> Optional[str]:
    """Return the nearest hooked cgroup that a cgroup is, or is below."""
    above = [path for path in host.cgroups if f"{cgroup}/".startswith(f"{path.rstrip('/')}/")]
    return max(above, key=len, default=None)


def is_pending(sock: Socket) -> bool:
    """Return whether a socket has asked for a generation and has no index yet."""
    asked = sock.group_id is not None and sock.generation is not None
    return asked and sock.index is None and not sock.full


def no_state(host: Host, answered: bool) -> Finding:
    """Return the finding of an empty pin directory; answered: hooks answer nevertheless."""
    why = host.unmounted or "it has never run there"
    if answered:
        why = "hooks answer, though: they are those of another --pin-dir"
    return Finding(
        Code.NO_STATE,
        f"no udpgrm in {host.directory}",
        why,
        "udpgrm --daemon --install=CGROUP, or name the --pin-dir of the daemon that runs",
    )


def lacks_right(host: Host) -> Finding:
    """Return the finding that the daemon may not duplicate sockets of other processes."""
    return Finding(
        Code.DAEMON_LACKS_RIGHT,
        "the daemon may not take sockets",
        f"process {host.daemon} registers them by pidfd_getfd(2), and may not: {host.daemon_lacks}",
        "give it the right and start it again; what was asked for meanwhile is registered then",
    )


def _unreachable(host: Host, item: Unreachable, sockets: Sequence[Socket]) -> Finding:
    # any host has a process that hangs for a while; where it could be the server, or have the
    # sockets that were not found, it matters
    concerned = item.cgroup is None or hooked_ancestor(host, item.cgroup) is not None
    return Finding(
        Code.UNREACHABLE,
        "not looked at",
        item.why,
        "see why (systemctl status of its unit, dmesg), give udpgrm doctor the right, or end it",
        problem=concerned or not sockets,
    )
