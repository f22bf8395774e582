# SPDX-License-Identifier: Apache-2.0
"""BTF: types of socket storage, and offsets of the running kernel's structs."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
from typing import Optional

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

_KERNELS = "/sys/kernel/btf/vmlinux"
_KIND_STRUCT = 4
_KIND_FUNC = 12
_KIND_TYPEDEF = 8


def storage_type(size: int) -> tuple[int, int, int]:
    """Load the BTF that socket storage of `size` bytes (a multiple of 8) needs.

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


def _parse() -> int:
    btf: Optional[int] = _lib.btf__load_vmlinux_btf()
    if not btf:
        error = ctypes.get_errno()
        with contextlib.suppress(FileNotFoundError):  # libbpf hides a lack of descriptors
            os.close(os.open(_KERNELS, os.O_RDONLY))
        raise OSError(error, f"this kernel has no BTF ({_KERNELS})")
    return btf


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


class KernelTypes:
    """The types of the running kernel, parsed (20 ms) for the outermost of nested with blocks."""

    _btf: Optional[int] = None
    _blocks = 0

    def __enter__(self) -> KernelTypes:
        """Parse the types. Raises OSError if the kernel has no BTF."""
        if KernelTypes._btf is None:
            KernelTypes._btf = _parse()
        KernelTypes._blocks += 1
        return self

    def __exit__(self, *_: object) -> None:
        KernelTypes._blocks -= 1
        if not KernelTypes._blocks:
            _lib.btf__free(KernelTypes._btf)
            KernelTypes._btf = None

    def function(self, name: str) -> int:
        """Return the type id of a function. Raises FileNotFoundError."""
        return self._find(name, _KIND_FUNC)

    def tracepoint(self, name: str) -> int:
        """Return the type id of a tracepoint. Raises FileNotFoundError."""
        return self._find(f"btf_trace_{name}", _KIND_TYPEDEF)

    def has_member(self, struct: str, member: str) -> bool:
        """Return whether a struct has a direct member."""
        try:
            self.offset(struct, member)
        except FileNotFoundError:
            return False
        return True

    def offset(self, struct: str, member: str) -> int:
        """Return the byte offset of a direct member of a struct. Raises FileNotFoundError."""
        address = _lib.btf__type_by_id(self._btf, self._find(struct, _KIND_STRUCT))
        head = _Type.from_address(address)
        members = (_Member * (head.info & 0xFFFF)).from_address(address + ctypes.sizeof(_Type))
        for item in members:
            if _lib.btf__name_by_offset(self._btf, item.name_off) == member.encode():
                # with bit fields in a struct the offset has the width in its top byte
                return (int(item.offset) & 0xFFFFFF) // 8
        raise FileNotFoundError(errno.ENOENT, f"this kernel's BTF has no {struct}.{member}")

    def _find(self, name: str, kind: int) -> int:
        found: int = _lib.btf__find_by_name_kind(self._btf, name.encode(), kind)
        if found <= 0:
            raise FileNotFoundError(errno.ENOENT, f"this kernel's BTF has no {name}")
        return found
