# SPDX-License-Identifier: Apache-2.0
"""Loading of programs from templates: hooks, and the steering program of each group."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import hashlib
import os
import platform
import socket
import struct
import sys
from collections.abc import Callable, Sequence

from udpgrm import abi
from udpgrm.abi import Relocation
from udpgrm.build import cache, quic_tables, sources
from udpgrm.build.link import link
from udpgrm.dissectors import kinds
from udpgrm.dissectors.parameters import DissectorError
from udpgrm.kernel import btf, libbpf, pidfd, sockopt
from udpgrm.state import connected, layout
from udpgrm.state.layout import Limits
from udpgrm.state.maps import Maps, index

_libc = ctypes.CDLL(None, use_errno=True)
_HELPER_NS_PID = 120
#: Where the entry code stores the first argument of a system call in pt_regs.
_SYSCALL_ARG0 = {"x86_64": 112, "aarch64": 0}


def _pid_namespace() -> tuple[int, int]:
    """Return (device, inode) for bpf_get_ns_current_pid_tgid; zeroes: do not call it."""
    if pidfd.sees_all_pids():
        return 0, 0
    if not libbpf.has_helper(libbpf.PROG_CGROUP_SOCKOPT, _HELPER_NS_PID):
        return 0, 0
    info = os.stat("/proc/self/ns/pid")
    # the kernel's internal encoding of a device number
    return os.major(info.st_dev) << 20 | os.minor(info.st_dev), info.st_ino


def steering_of(dissector: abi.Dissector) -> sources.Program:
    """Return the steering program of a group with this dissector.

    Raises BuildError for a named dissector that does not exist.
    """
    try:
        return sources.steering_of(kinds.of_value(dissector))
    except DissectorError as error:
        raise cache.BuildError(str(error)) from error


def parameters_of(dissector: abi.Dissector) -> dict[int, int]:
    """Return the constants of a named dissector's parameters, by relocation; else none.

    Raises BuildError if they do not match its schema.
    """
    try:
        constants = kinds.of_value(dissector).constants(dissector)
    except DissectorError as error:
        raise cache.BuildError(str(error)) from error
    return dict(enumerate(constants, Relocation.PARAMETERS))


def _functions_of(dissector: abi.Dissector) -> dict[int, bytes]:
    """Return the functions that a group's program calls, to be linked with it."""
    return kinds.of_value(dissector).functions(dissector)


def faults_of(dissector: abi.Dissector) -> list[str]:
    """Return the faults of a dissector that is accepted but cannot be run."""
    return kinds.of_value(dissector).faults(dissector)


def digest_of(dissector: abi.Dissector) -> int:
    """Return the value of `group.program` while this template steers the group."""
    program = steering_of(dissector)
    code = b"".join(cache.template(part) for part in sources.parts(program))
    code += b"".join(_functions_of(dissector).values())
    return int.from_bytes(hashlib.sha256(code).digest()[:4], "big") | 1


def _attach_type(tcp: bool) -> int:
    """Return the attach type of a steering program: of TCP, the queues of listeners migrate."""
    return libbpf.SK_REUSEPORT_SELECT_OR_MIGRATE if tcp else libbpf.SK_REUSEPORT_SELECT


def _set_program(fd: int, value: bytes) -> None:
    if _libc.setsockopt(fd, socket.SOL_SOCKET, sockopt.SO_ATTACH_REUSEPORT_EBPF, value, len(value)):
        error = ctypes.get_errno()
        raise OSError(error, f"cannot attach the steering program: {os.strerror(error)}")


def _kernel_offsets() -> dict[int, int]:
    """Return the offsets of the struct members that programs read. Raises OSError."""
    with btf.KernelTypes() as types:
        offset = types.offset
        return {
            Relocation.TGID_OFFSET: offset("task_struct", "tgid"),
            Relocation.SK_UID_OFFSET: offset("sock", "sk_uid"),
            Relocation.SK_DEVICE_OFFSET: offset("sock_common", "skc_bound_dev_if"),
            # a union without a name: the ports, just before the family
            Relocation.SK_PORTS_OFFSET: offset("sock_common", "skc_family") - 4,
            Relocation.SK_NET_OFFSET: offset("sock_common", "skc_net"),
            # the first union: the remote address, then the local one
            Relocation.SK_ADDRESS_OFFSET: 4,
            Relocation.SK_ADDRESS6_OFFSET: offset("sock_common", "skc_v6_rcv_saddr"),
            Relocation.SK_PEER6_OFFSET: offset("sock_common", "skc_v6_daddr"),
            Relocation.NET_COOKIE_OFFSET: offset("net", "net_cookie"),
            Relocation.SK_REUSE_OFFSET: offset("sock_common", "skc_reuse"),
            Relocation.SK_REUSEPORT_OFFSET: offset("sock", "sk_reuseport_cb"),
            Relocation.REUSEPORT_PROG_OFFSET: offset("sock_reuseport", "prog"),
            Relocation.REUSEPORT_COUNT_OFFSET: offset("sock_reuseport", "num_socks"),
            Relocation.REUSEPORT_SOCKETS_OFFSET: offset("sock_reuseport", "socks"),
            Relocation.PROG_AUX_OFFSET: offset("bpf_prog", "aux"),
            Relocation.PROG_ID_OFFSET: offset("bpf_prog_aux", "id"),
            Relocation.CGROUP_KN_OFFSET: offset("cgroup", "kn"),
            Relocation.CGROUP_ROOT_OFFSET: offset("cgroup", "root"),
            Relocation.ROOT_HIERARCHY_OFFSET: offset("cgroup_root", "hierarchy_id"),
            Relocation.CSS_PARENT_OFFSET: offset("cgroup_subsys_state", "parent"),
            Relocation.KN_ID_OFFSET: offset("kernfs_node", "id"),
            Relocation.KN_NAME_OFFSET: offset("kernfs_node", "name"),
            Relocation.PARENT_OFFSET: offset("task_struct", "real_parent"),
            Relocation.SOCKET_SK_OFFSET: offset("socket", "sk"),
            Relocation.SK_COOKIE_OFFSET: offset("sock_common", "skc_cookie"),
            Relocation.LEADER_OFFSET: offset("task_struct", "group_leader"),
            Relocation.TASK_PID_OFFSET: offset("task_struct", "thread_pid"),
            Relocation.PID_LEVEL_OFFSET: offset("pid", "level"),
            Relocation.PID_NUMBERS_OFFSET: offset("pid", "numbers"),
        }


def _hash_key(maps: Maps) -> dict[int, int]:
    """Return the constants of the key that flows are hashed with, made once for these maps."""
    key = libbpf.map_lookup(maps["hash_key"], index(0), layout.HASH_KEY_BYTES)
    if key is None or not any(key):
        key = os.urandom(layout.HASH_KEY_BYTES)
        libbpf.map_update(maps["hash_key"], index(0), key)
    halves = struct.unpack("=QQ", key)
    return {Relocation.FLOW_HASH_KEY0: halves[0], Relocation.FLOW_HASH_KEY1: halves[1]}


class Linker:
    """Loads programs with the state's maps."""

    def __init__(self, maps: Maps, limits: Limits) -> None:
        """Read the constants that differ between kernels from this machine."""
        device, inode = _pid_namespace()
        self._maps = maps
        self._has_quic_stages = False
        self._attach_token = int.from_bytes(os.urandom(8), sys.byteorder)
        self._bound: dict[int, int] = {key: maps[name] for key, name in layout.RELOCATIONS.items()}
        self._constants: dict[int, int] = {
            Relocation.HZ: maps.config.hz,
            Relocation.PIDNS_DEV: device,
            Relocation.PIDNS_INO: inode,
            Relocation.CONNECT_PARTS: connected.connect_parts(),
            **_kernel_offsets(),
            Relocation.SYSCALL_ARG0_OFFSET: _SYSCALL_ARG0.get(platform.machine(), 0),
            Relocation.ATTACH_TOKEN: self._attach_token,
            **_hash_key(maps),
            Relocation.LINE_BITS: maps.line_bits,
            Relocation.USER_GROUPS: limits.groups_per_user,
            Relocation.USER_TABLES: limits.tables_per_user,
            Relocation.USER_MESSAGES: layout.MESSAGES_PER_USER,
        }

    def attach(self, fd: int, program: int) -> None:
        """Attach a steering program to a socket's whole reuseport group. Raises OSError.

        The setsockopt hook refuses that to other processes and recognises this call by its token;
        if no hook has shortened the value, the kernel requires the descriptor alone.
        """
        try:
            _set_program(fd, struct.pack("=iQ", program, self._attach_token))
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            try:
                _set_program(fd, struct.pack("=i", program))
            except PermissionError:  # the hook has refused it, as it has shortened the first one
                raise error from None

    def hook(self, hook: sources.Hook) -> int:
        """Load a cgroup hook. Returns an fd."""
        code = link(cache.template(hook.program), self._bound, self._constants)
        return libbpf.prog_load(hook.prog_type, f"udpgrm_{hook.name}", code, hook.attach_type)

    def iterator(self, name: str, program: sources.Program, target: int) -> int:
        """Load an iterator for a function (BTF id) and attach it. Returns the link's fd."""
        return self._trace(name, program, libbpf.TRACE_ITER, target, libbpf.iterator_create)

    def tracepoint(self, name: str, program: sources.Program, target: int) -> int:
        """Load a program for a tracepoint (BTF id) and attach it. Returns the link's fd."""
        return self._trace(name, program, libbpf.TRACE_RAW_TP, target, libbpf.tracepoint_open)

    def _trace(
        self,
        name: str,
        program: sources.Program,
        attach_type: int,
        target: int,
        attach: Callable[[int], int],
    ) -> int:
        code = link(cache.template(program), self._bound, self._constants)
        fd = libbpf.prog_load(libbpf.PROG_TRACING, f"udpgrm_{name}", code, attach_type, target)
        try:
            return attach(fd)
        finally:
            os.close(fd)

    def stages(self) -> None:
        """Load the programs that steering programs of all groups continue in."""
        self._load_stages("steer_stages", sources.STAGES)
        self._load_stages("tcp_stages", sources.STAGES, tcp=True)

    def stage(self, program: sources.Program, tcp: bool = False) -> int:
        """Load a program that others reach by a tail call. Returns an fd."""
        code = link(cache.template(program), self._bound_in(tcp), self._constants)
        return libbpf.prog_load(libbpf.PROG_SK_REUSEPORT, program.name, code, _attach_type(tcp))

    def _bound_in(self, tcp: bool) -> dict[int, int]:
        """Return the maps that programs of groups of UDP or of TCP refer to."""
        stages = self._maps["tcp_stages" if tcp else "steer_stages"]
        return {**self._bound, Relocation.STEER_STAGES: stages}

    def _load_quic_stages(self, stages: Sequence[sources.Program]) -> None:
        """Load the programs for QUIC's Initial packets."""
        tables = index(0), quic_tables.contents()
        libbpf.map_update(self._maps["quic_tables"], *tables)
        self._load_stages("quic_stages", stages)
        self._has_quic_stages = True

    def _load_stages(
        self, array: str, stages: Sequence[sources.Program], tcp: bool = False
    ) -> None:
        """Load programs that others reach by tail calls, replacing earlier ones."""
        for stage, program in enumerate(stages):
            fd = self.stage(program, tcp)
            try:
                libbpf.map_update(self._maps[array], index(stage), fd.to_bytes(4, sys.byteorder))
            finally:
                os.close(fd)

    def steering(self, group_id: int) -> int:
        """Load the steering program of a group. Returns an fd.

        Raises FileNotFoundError if it was not compiled yet, BuildError if its
        dissector or its parameters cannot be used.
        """
        group = self._maps.group(group_id)
        dissector = self._maps.dissector(group_id)
        program = steering_of(dissector)
        template = cache.template(program)
        stages = sources.stages(program)
        if stages and not self._has_quic_stages:
            self._load_quic_stages(stages)
        constants = {
            **self._constants,
            **parameters_of(dissector),
            Relocation.GROUP: group_id,
            Relocation.EPOCH: group.epoch,
        }
        own = {
            Relocation.OWN_SLOTS: "slots",
            Relocation.OWN_SOCKETS: self._maps.socket_map(group_id),
            Relocation.OWN_COUNTERS: "counters",
        }
        with contextlib.ExitStack() as stack:
            tcp = bool(group.key.protocol)
            bound = self._bound_in(tcp)
            for key, outer in own.items():
                fd = stack.enter_context(self._maps.inner(outer, group_id))
                if fd is None:
                    raise LookupError(f"group {group_id} has no {outer}")
                bound[key] = fd
            try:
                code = link(template, bound, constants, _functions_of(dissector))
            except KeyError as error:
                raise cache.BuildError(
                    f"{program.name} refers to {error}, which is no map and no constant"
                ) from error
            loaded = libbpf.prog_load(
                libbpf.PROG_SK_REUSEPORT,
                f"{layout.STEERING_PREFIX}{group_id}",
                code,
                _attach_type(tcp),
            )
        try:
            libbpf.prog_bind_map(loaded, self._maps["dissectors"])  # lists of orphans read it
        except BaseException:
            os.close(loaded)
            raise
        return loaded
