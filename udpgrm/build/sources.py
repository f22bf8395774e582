# SPDX-License-Identifier: Apache-2.0
"""The programs and their sources."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

from udpgrm.dissectors import kinds, library
from udpgrm.dissectors.kind import Kind
from udpgrm.files import BPF_DIR, DISSECTORS_DIR
from udpgrm.kernel import libbpf

#: Suffixes of programs' sources; pages and test packets of dissectors are in the same folders.
SUFFIXES = (".c", ".h", ".j2", ".json")


@dataclass(frozen=True)
class Program:
    """A program to compile: a source below bpf/, perhaps for one dissector.

    folder: of the operator's named dissector, "" for one below bpf/.
    """

    name: str
    source: str
    function: str
    dissector: str = ""
    folder: str = ""


@dataclass(frozen=True)
class Hook:
    """A cgroup hook: its attach type and its program."""

    name: str
    program: Program
    prog_type: int
    attach_type: int


def _hook(name: str, source: str, prog_type: int, attach_type: int) -> Hook:
    program = Program(f"hook_{source}", f"hooks/{source}.c", f"hook_{source}")
    return Hook(name, program, prog_type, attach_type)


_ADDR, _OPT = libbpf.PROG_CGROUP_SOCK_ADDR, libbpf.PROG_CGROUP_SOCKOPT
HOOKS = (
    _hook("bind4", "bind4", _ADDR, libbpf.CGROUP_INET4_BIND),
    _hook("bind6", "bind6", _ADDR, libbpf.CGROUP_INET6_BIND),
    _hook("post_bind4", "post_bind4", libbpf.PROG_CGROUP_SOCK, libbpf.CGROUP_INET4_POST_BIND),
    _hook("post_bind6", "post_bind6", libbpf.PROG_CGROUP_SOCK, libbpf.CGROUP_INET6_POST_BIND),
    _hook("connect4", "connect", _ADDR, libbpf.CGROUP_INET4_CONNECT),
    _hook("connect6", "connect", _ADDR, libbpf.CGROUP_INET6_CONNECT),
    _hook("release", "release", libbpf.PROG_CGROUP_SOCK, libbpf.CGROUP_INET_SOCK_RELEASE),
    _hook("getsockopt", "getsockopt", _OPT, libbpf.CGROUP_GETSOCKOPT),
    _hook("setsockopt", "setsockopt", _OPT, libbpf.CGROUP_SETSOCKOPT),
    _hook("sendmsg4", "sendmsg4", _ADDR, libbpf.CGROUP_UDP4_SENDMSG),
    _hook("sendmsg6", "sendmsg6", _ADDR, libbpf.CGROUP_UDP6_SENDMSG),
)
#: Attached only while a group's flows are keyed by what packets have.
EGRESS = _hook("egress", "egress", libbpf.PROG_CGROUP_SKB, libbpf.CGROUP_INET_EGRESS)
_LISTED = Program("iterate_listed", "iterators/listed.c", "list_sockets")
_CONNECTED = Program("iterate_connected", "iterators/connected.c", "count_connected")
_ACCEPTED = Program("iterate_accepted", "iterators/accepted.c", "count_accepted")
_HOLDERS = Program("iterate_holders", "iterators/holders.c", "list_holders")
_ORDERED = Program("iterate_ordered", "iterators/ordered.c", "list_order")
#: Iterators over sockets and descriptors, by the name of their pin: what the kernel iterates over,
#: and the program.
ITERATORS = {
    "connected": ("bpf_iter_udp", _CONNECTED),
    "accepted": ("bpf_iter_tcp", _ACCEPTED),
    "listed": ("bpf_iter_udp", _LISTED),
    "listening": ("bpf_iter_tcp", _LISTED),
    "holders": ("bpf_iter_task_file", _HOLDERS),
    "ordered": ("bpf_iter_udp", _ORDERED),
}
#: Each once: one program lists the sockets of both protocols.
ITERATOR_PROGRAMS = (_CONNECTED, _ACCEPTED, _LISTED, _HOLDERS, _ORDERED)
#: Programs at tracepoints, by the name of their pin: which control groups are services'.
TRACEPOINTS = {
    "cgroup_mkdir": Program("cgroup_made", "units/made.c", "cgroup_made"),
    "cgroup_rmdir": Program("cgroup_removed", "units/removed.c", "cgroup_removed"),
}
#: Programs that steering programs of all groups continue in, in the order of enum steer_stage.
STAGES = tuple(
    Program(f"steer_{name}", f"stages/{name}.c", f"steer_{name}") for name in ("search", "another")
)
SENDMSG_HOOKS = frozenset({"sendmsg4", "sendmsg6"})


def steering(dissector: str) -> Program:
    """Return the steering program of a dissector."""
    return Program(f"steer_{dissector}", "steer.c.j2", "steer", dissector)


def stages(program: Program) -> list[Program]:
    """Return the programs that a steering program calls, which all groups of its kind share."""
    kind = kinds.find(program.dissector)
    return [
        Program(f"quic_{name}", f"dissectors/{kind.name}/{name}.c", f"quic_{name}")
        for name in kind.stages
    ]


def parts(program: Program) -> list[Program]:
    """Return a steering program and the programs that it calls."""
    return [program, *stages(program)]


def steering_of(kind: Kind) -> Program:
    """Return the steering program of a kind.

    Raises DissectorError for a named dissector that does not exist.
    """
    return named(kind.source()) if kind.in_library else steering(kind.name)


def named(dissector: library.Dissector) -> Program:
    """Return the steering program of a named dissector, for any parameters."""
    program = steering(dissector.name)
    if not dissector.digest:
        return program
    # no prebuilt template fits a folder that has changed
    name = f"{program.name}_{dissector.digest[:12]}"
    return replace(program, name=name, folder=str(dissector.folder))


def all_programs() -> list[Program]:
    """Return every program that any host needs, each once."""
    hooks = {hook.program.name: hook.program for hook in HOOKS}
    return [
        *hooks.values(),
        EGRESS.program,
        *ITERATOR_PROGRAMS,
        *TRACEPOINTS.values(),
        *STAGES,
        *(part for kind in kinds.BUILT_IN for part in parts(steering(kind.name))),
    ]


def shipped_named() -> list[Program]:
    """Return the programs of the shipped named dissectors: needed if a group names one."""
    folders = sorted(path.parent for path in DISSECTORS_DIR.glob("*/parameters.json"))
    return [steering(folder.name) for folder in folders]


def render(program: Program) -> str:
    """Return the C text of a program; the compiler resolves includes."""
    if not program.dissector:
        return (BPF_DIR / program.source).read_text()
    # only a compiler's process needs it
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(BPF_DIR),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        keep_trailing_newline=True,
    )
    below = f"dissectors/{program.dissector}"
    folder = Path(program.folder) if program.folder else BPF_DIR / below
    positions: Mapping[str, int] = {}
    if (folder / "parameters.json").exists():
        positions = library.read_schema(folder).positions
    return environment.get_template(program.source).render(
        dissector=program.dissector,
        folder=program.folder or below,
        positions=positions,
    )


@lru_cache(maxsize=1)
def sources_digest() -> str:
    """Return a hash of every source below bpf/: when one changes, templates are stale."""
    import hashlib

    digest = hashlib.sha256()
    for path in sorted(BPF_DIR.rglob("*")):
        if path.suffix in SUFFIXES:
            digest.update(str(path.relative_to(BPF_DIR)).encode() + b"\0")
            digest.update(path.read_bytes() + b"\0")
    return digest.hexdigest()
