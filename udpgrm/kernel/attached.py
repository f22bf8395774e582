# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""Programs that are attached to a cgroup: BPF_PROG_QUERY of bpf(2)."""

from __future__ import annotations

import ctypes
import errno
import os
from pathlib import Path

from udpgrm.kernel import loaded

_ALLOW_OVERRIDE = 1
_ALLOW_MULTI = 2
#: As many as the kernel allows a cgroup (BPF_CGROUP_MAX_PROGS).
_MOST = 64
_QUERY_EFFECTIVE = 1
#: BPF_SK_LOOKUP of enum bpf_attach_type.
_SK_LOOKUP = 36
_OWN_NAMESPACE = Path("/proc/thread-self/ns/net")
#: The most programs that a message names.
_NAMED = 3
#: The names of udpgrm's hooks begin with it.
_OURS = "udpgrm_"

_lib = ctypes.CDLL("libbpf.so.1", use_errno=True)
_lib.bpf_prog_query.argtypes = [
    ctypes.c_int,
    ctypes.c_int,
    ctypes.c_uint32,
    ctypes.c_void_p,
    ctypes.c_void_p,
    ctypes.c_void_p,
]


class Taken(OSError):
    """Raised when another program prevents the attachment; the message names it."""

    def __str__(self) -> str:
        """Return the message alone: the errno means nothing to an operator."""
        return str(self.strerror)


def explain(error: OSError, cgroup: Path, attach_type: int, what: str) -> OSError:
    """Return the error of an attachment, with the programs that prevent it, if any."""
    if error.errno == errno.EPERM:
        for path in (cgroup, *cgroup.parents):
            flags, programs = query(path, attach_type)
            # below a cgroup with BPF_F_ALLOW_MULTI nothing above it counts
            if flags & _ALLOW_MULTI and programs:
                break
            if programs and (path == cgroup or not flags & _ALLOW_OVERRIDE):
                return Taken(
                    errno.EBUSY,
                    f"cannot attach {what} to {cgroup}: {_listed(programs)} is attached to {path} "
                    "and allows no other beside it (BPF_F_ALLOW_MULTI): detach it (bpftool cgroup "
                    "detach), have its owner set that flag, or hook another cgroup",
                )
    if error.errno == errno.E2BIG:
        _, programs = query(cgroup, attach_type)
        return Taken(
            errno.E2BIG,
            f"cannot attach {what} to {cgroup}: it has {len(programs)} programs already, as many "
            f"as the kernel allows: {_listed(programs)}",
        )
    return error


def refuse_override(cgroup: Path, attach_type: int, what: str) -> None:
    """Raise Taken if a program of another would end for a cgroup as ours is attached to it.

    Programs above that were attached with BPF_F_ALLOW_OVERRIDE run until one is attached below.
    """
    for path in (cgroup, *cgroup.parents):
        flags, programs = query(path, attach_type)
        if not programs:
            continue
        if path != cgroup and not flags & _ALLOW_MULTI and flags & _ALLOW_OVERRIDE:
            raise Taken(
                errno.EBUSY,
                f"cannot attach {what} to {cgroup}: {_listed(programs)} of {path} would not run "
                "for it any longer (BPF_F_ALLOW_OVERRIDE): have its owner attach it with "
                "BPF_F_ALLOW_MULTI, or hook another cgroup",
            )
        return


def of_others(cgroup: Path, attach_type: int, after_ours: bool = False) -> list[str]:
    """Return the programs of others that run for the processes of a cgroup, described.

    after_ours: only those that run after udpgrm's; none if udpgrm has none there.
    """
    _, running = query(cgroup, attach_type, _QUERY_EFFECTIVE)
    is_ours = [loaded.program(number)[0].startswith(_OURS) for number in running]
    first = 0
    if after_ours:
        first = len(running) - is_ours[::-1].index(True) if True in is_ours else len(running)
    return [
        f"{_described(program)} of {_place(cgroup, attach_type, program)}"
        for program, ours in list(zip(running, is_ours))[first:]
        if not ours
    ]


def _place(cgroup: Path, attach_type: int, program: int) -> Path:
    """Return the cgroup that a program is attached to: this one, or one above it."""
    for path in (cgroup, *cgroup.parents):
        if program in query(path, attach_type)[1]:
            return path
    return cgroup


def of_own_namespace() -> list[str]:
    """Return the programs of this thread's network namespace that look sockets up, described."""
    return [_described(program) for program in query(_OWN_NAMESPACE, _SK_LOOKUP)[1]]


def query(target: Path, attach_type: int, asked: int = 0) -> tuple[int, list[int]]:
    """Return (flags, ids) of the programs that are attached to a cgroup itself, or a namespace.

    asked: flags of the question.
    """
    flags, count = ctypes.c_uint32(), ctypes.c_uint32(_MOST)
    ids = (ctypes.c_uint32 * _MOST)()
    try:
        fd = os.open(target, os.O_RDONLY)
    except OSError:
        return 0, []
    try:
        failed = _lib.bpf_prog_query(
            fd, attach_type, asked, ctypes.byref(flags), ids, ctypes.byref(count)
        )
    finally:
        os.close(fd)
    return (0, []) if failed else (flags.value, list(ids[: min(count.value, _MOST)]))


def _listed(programs: list[int]) -> str:
    """Return some programs, described, and how many more there are."""
    more = len(programs) - _NAMED
    named = ", ".join(map(_described, programs[:_NAMED]))
    return f"{named} and {more} more" if more > 0 else named


def _described(program: int) -> str:
    return f"program {program} ({loaded.program(program)[0] or 'without a name'})"
