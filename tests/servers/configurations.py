# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""Write the servers' configurations, as docs/servers.md tells operators to.

Each function writes the configuration of one instance into a directory of the
instance's own and returns the command that runs it. Every kind has two UDP
sockets and answers `whoami.example. TXT` with the instance's name. Nothing
is shared between instances but the address.
"""

from __future__ import annotations

from pathlib import Path
from typing import Callable

SOCKETS = 2
#: The port at which forwarding servers find one that knows the answers.
UPSTREAM_PORT = 5301

_ZONE = """\
$ORIGIN example.
$TTL 0
@ SOA ns hostmaster 1 3600 600 86400 60
@ NS ns
ns A 127.0.0.1
www A 192.0.2.1
whoami TXT "{name}"
"""

_KNOT = """\
server:
    rundir: "{directory}"
    pidfile: "{directory}/knot.pid"
    listen: 127.0.0.1@{port}
    udp-workers: {sockets}
    tcp-workers: 1
    tcp-reuseport: on
    background-workers: 1
control:
    listen: "{directory}/knot.sock"
database:
    storage: "{directory}"
log:
  - target: stderr
    any: warning
zone:
  - domain: example
    file: "{directory}/example.zone"
"""

_NSD = """\
server:
    ip-address: 127.0.0.1
    port: {port}
    server-count: {sockets}
    reuseport: yes
    rrl-ratelimit: 0
    username: ""
    chroot: ""
    zonesdir: "{directory}"
    pidfile: "{directory}/nsd.pid"
    database: ""
    zonelistfile: "{directory}/zone.list"
    xfrdfile: "{directory}/xfrd.state"
    xfrdir: "{directory}"
remote-control:
    control-enable: no
zone:
    name: example
    zonefile: example.zone
"""

_UNBOUND = """\
server:
    directory: "{directory}"
    interface: 127.0.0.1
    port: {port}
    num-threads: {sockets}
    so-reuseport: yes
    username: ""
    chroot: ""
    pidfile: ""
    use-syslog: no
    module-config: "iterator"
    do-not-query-localhost: no
    local-data: 'whoami.example. 0 IN TXT "{name}"'
remote-control:
    control-enable: no
stub-zone:
    name: "example."
    stub-addr: 127.0.0.1@{upstream}
"""

_DNSDIST = """\
for _ = 1, {sockets} do
  addLocal("127.0.0.1:{port}", {{reusePort=true}})
end
newServer({{address="127.0.0.1:{upstream}", checkName="www.example."}})
addAction(QNameRule("whoami.example."), SpoofRawAction("{length}{name}"))
setSecurityPollSuffix("")
-- before 1.7.4 dnsdist miscounts them, and closes connections that it has just accepted
setMaxTCPQueuedConnections(0)
"""


def _write(directory: Path, template: str, port: int) -> Path:
    name = directory.name
    text = template.format(
        directory=directory,
        name=name,
        length=f"\\{len(name):03}",
        port=port,
        sockets=SOCKETS,
        upstream=UPSTREAM_PORT,
    )
    (directory / "example.zone").write_text(_ZONE.format(name=name))
    path = directory / "configuration"
    path.write_text(text)
    return path


def knot(directory: Path, port: int) -> list[str]:
    """Authoritative; SO_REUSEPORT is always on, one socket for each of udp-workers."""
    return ["/usr/sbin/knotd", "-c", str(_write(directory, _KNOT, port))]


def nsd(directory: Path, port: int) -> list[str]:
    """Authoritative; its processes share all sockets, of which it makes one for each."""
    return ["/usr/sbin/nsd", "-d", "-P", "", "-c", str(_write(directory, _NSD, port))]


def unbound(directory: Path, port: int) -> list[str]:
    """Recursive; one socket for each thread, and others towards the upstream servers."""
    return ["/usr/sbin/unbound", "-d", "-p", "-c", str(_write(directory, _UNBOUND, port))]


def dnsdist(directory: Path, port: int) -> list[str]:
    """Configure dnsdist, which forwards, with one thread and socket for each addLocal."""
    path = _write(directory, _DNSDIST, port)
    return ["/usr/bin/dnsdist", "--supervised", "--disable-syslog", "-C", str(path)]


Kind = Callable[[Path, int], list[str]]
KINDS: dict[str, Kind] = {"knot": knot, "nsd": nsd, "unbound": unbound, "dnsdist": dnsdist}
