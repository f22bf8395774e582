# SPDX-License-Identifier: Apache-2.0
"""BTF: types for socket storage, and offsets of the running kernel's structs."""

from __future__ import annotations

import ctypes
import os

_lib = ctypes.CDLL("libbpf.so.1", use_errno=True)
_lib.btf__new_empty.restype = ctypes.c_void_p
_lib.btf__free.argtypes = [ctypes.c_void_p]
_lib.btf__fd.argtypes = [ctypes.c_void_p]
_lib.btf__add_int.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_size_t, ctypes.c_int]
_lib.btf__add_struct.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_uint32]
_lib.btf__add_array.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_int, ctypes.c_uint32]
_lib.btf__add_field.argtypes = [
    ctypes.c_void_p,
    ctypes.c_char_p,
    ctypes.c_int,
    ctypes.c_uint32,
    ctypes.c_uint32,
]
_lib.btf__load_into_kernel.argtypes = [ctypes.c_void_p]
_lib.btf__load_vmlinux_btf.restype = ctypes.c_void_p
_lib.btf__find_by_name_kind.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_uint32]
_lib.btf__type_by_id.argtypes = [ctypes.c_void_p, ctypes.c_uint32]
_lib.btf__type_by_id.restype = ctypes.c_void_p
_lib.btf__name_by_offset.argtypes = [ctypes.c_void_p, ctypes.c_uint32]
_lib.btf__name_by_offset.restype = ctypes.c_char_p

_KIND_STRUCT = 4
_KIND_FUNC = 12
_KIND_TYPEDEF = 8


def storage_type(size: int) -> tuple[int, int, int]:
    """BTF that socket storage of `size` bytes (a multiple of 8) asks for.

    Returns (fd, key type id, value type id); the caller closes the fd.
    """
    btf = _lib.btf__new_empty()
    try:
        key = _lib.btf__add_int(btf, b"int", 4, 1)
        word = _lib.btf__add_int(btf, b"u64", 8, 0)
        array = _lib.btf__add_array(btf, key, word, size // 8)
        value = _lib.btf__add_struct(btf, b"storage", size)
        _lib.btf__add_field(btf, b"words", array, 0, 0)
        result = _lib.btf__load_into_kernel(btf)
        if result < 0:
            raise OSError(-result, f"cannot load BTF: {os.strerror(-result)}")
        return os.dup(_lib.btf__fd(btf)), key, value
    finally:
        _lib.btf__free(btf)


class _Type(ctypes.Structure):
    _fields_ = [
        ("name_off", ctypes.c_uint32),
        ("info", ctypes.c_uint32),
        ("size", ctypes.c_uint32),
    ]


class _Member(ctypes.Structure):
    _fields_ = [
        ("name_off", ctypes.c_uint32),
        ("type", ctypes.c_uint32),
        ("offset", ctypes.c_uint32),
    ]


def function_id(name: str) -> int:
    """Return the BTF id of a function of the running kernel. Raises OSError."""
    return _id_of(name, _KIND_FUNC)


def tracepoint_id(name: str) -> int:
    """Return the BTF id of a tracepoint of the running kernel. Raises OSError."""
    return _id_of(f"btf_trace_{name}", _KIND_TYPEDEF)


def _id_of(name: str, kind: int) -> int:
    btf = _lib.btf__load_vmlinux_btf()
    if not btf:
        raise OSError(ctypes.get_errno(), "this kernel has no BTF (/sys/kernel/btf/vmlinux)")
    try:
        found: int = _lib.btf__find_by_name_kind(btf, name.encode(), kind)
    finally:
        _lib.btf__free(btf)
    if found <= 0:
        raise OSError(2, f"this kernel's BTF has no {name}")
    return found


def has_member(struct: str, member: str) -> bool:
    """Whether a struct of the running kernel has a direct member. Raises OSError."""
    try:
        member_offset(struct, member)
    except FileNotFoundError:
        return False
    return True


def member_offset(struct: str, member: str) -> int:
    """Byte offset of a direct member of a struct of the running kernel.

    Raises OSError when the kernel has no BTF or no such member.
    """
    btf = _lib.btf__load_vmlinux_btf()
    if not btf:
        raise OSError(ctypes.get_errno(), "this kernel has no BTF (/sys/kernel/btf/vmlinux)")
    try:
        found = _lib.btf__find_by_name_kind(btf, struct.encode(), _KIND_STRUCT)
        if found > 0:
            address = _lib.btf__type_by_id(btf, found)
            head = _Type.from_address(address)
            members = (_Member * (head.info & 0xFFFF)).from_address(address + ctypes.sizeof(_Type))
            for item in members:
                if _lib.btf__name_by_offset(btf, item.name_off) == member.encode():
                    # with bit fields in a struct the offset has the width in its top byte
                    return (int(item.offset) & 0xFFFFFF) // 8
        raise OSError(2, f"this kernel's BTF has no {struct}.{member}")
    finally:
        _lib.btf__free(btf)
