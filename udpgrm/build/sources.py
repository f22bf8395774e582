# SPDX-License-Identifier: Apache-2.0
"""Which programs there are, and where their sources lie."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from udpgrm.build import cbpf
from udpgrm.kernel import libbpf

#: Beside the package, in a checkout as on a host.
BPF_DIR = Path(__file__).resolve().parents[2] / "bpf"

#: Dissectors without parameters: their programs can be compiled beforehand.
PLAIN_DISSECTORS = ("flow", "noop")


@dataclass(frozen=True)
class Program:
    """A program to compile: a source below bpf/, perhaps for one dissector."""

    name: str
    source: str
    function: str
    dissector: str = ""
    filter: tuple[cbpf.Instruction, ...] = ()

    @classmethod
    def of(cls, fields: dict[str, Any]) -> Program:
        """A program from its fields, as dataclasses.asdict and JSON have left them."""
        filter_ = tuple(cbpf.Instruction(**item) for item in fields.pop("filter"))
        return cls(**fields, filter=filter_)


@dataclass(frozen=True)
class Hook:
    """A cgroup hook: where it attaches and with which program."""

    name: str
    program: Program
    prog_type: int
    attach_type: int


def _hook(name: str, source: str, prog_type: int, attach_type: int) -> Hook:
    program = Program(f"hook_{source}", f"hooks/{source}.c", f"hook_{source}")
    return Hook(name, program, prog_type, attach_type)


_ADDR, _OPT = libbpf.PROG_CGROUP_SOCK_ADDR, libbpf.PROG_CGROUP_SOCKOPT
HOOKS = (
    _hook("bind4", "bind", _ADDR, libbpf.CGROUP_INET4_BIND),
    _hook("bind6", "bind", _ADDR, libbpf.CGROUP_INET6_BIND),
    _hook("post_bind4", "post_bind4", libbpf.PROG_CGROUP_SOCK, libbpf.CGROUP_INET4_POST_BIND),
    _hook("post_bind6", "post_bind6", libbpf.PROG_CGROUP_SOCK, libbpf.CGROUP_INET6_POST_BIND),
    _hook("getsockopt", "getsockopt", _OPT, libbpf.CGROUP_GETSOCKOPT),
    _hook("setsockopt", "setsockopt", _OPT, libbpf.CGROUP_SETSOCKOPT),
    _hook("sendmsg4", "sendmsg4", _ADDR, libbpf.CGROUP_UDP4_SENDMSG),
    _hook("sendmsg6", "sendmsg6", _ADDR, libbpf.CGROUP_UDP6_SENDMSG),
)
SENDMSG_HOOKS = frozenset({"sendmsg4", "sendmsg6"})


def steering(dissector: str, filter_: tuple[cbpf.Instruction, ...] = ()) -> Program:
    """The steering program of a dissector; one for every filter of cbpf."""
    name = f"steer_{dissector}"
    if filter_:
        name += "_" + hashlib.sha256(repr(filter_).encode()).hexdigest()[:12]
    return Program(name, "steer.c.j2", "steer", dissector, filter_)


def all_programs() -> list[Program]:
    """Every program that any host needs, each once."""
    hooks = {hook.program.name: hook.program for hook in HOOKS}
    return [*hooks.values(), *(steering(name) for name in PLAIN_DISSECTORS)]


def render(program: Program) -> str:
    """The C text of a program; includes are left to the compiler."""
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
    return environment.get_template(program.source).render(
        dissector=program.dissector, statements=cbpf.statements(program.filter)
    )


@lru_cache(maxsize=1)
def sources_digest() -> str:
    """Hash of every file below bpf/: when one changes, templates are stale."""
    digest = hashlib.sha256()
    for path in sorted(BPF_DIR.rglob("*")):
        if path.is_file():
            digest.update(str(path.relative_to(BPF_DIR)).encode() + b"\0")
            digest.update(path.read_bytes() + b"\0")
    return digest.hexdigest()
