# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""Adopted cgroups: the hooks enroll their sockets at a group's address.

The hooks know a cgroup by its id, which changes whenever systemd starts the unit again;
its path does not.
"""

from __future__ import annotations

import ctypes
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Optional

from udpgrm import abi
from udpgrm.kernel import cgroups, libbpf
from udpgrm.state import layout
from udpgrm.state.maps import Maps


@dataclass(frozen=True)
class Adoption:
    """A cgroup whose later sockets at a group's address are of a generation.

    directory None: its path is too long to be noted.
    """

    cgroup: int
    group_id: int
    epoch: int
    generation: int
    application: int
    directory: Optional[Path]

    @property
    def key(self) -> bytes:
        """Return the key in both maps."""
        return bytes(abi.AdoptedKey(cgroup=self.cgroup, group_id=self.group_id, epoch=self.epoch))


def note(maps: Maps, adoption: Adoption) -> None:
    """Let the hooks enroll sockets that the cgroup binds from now on."""
    path = os.fsencode(adoption.directory or "")
    if 0 < len(path) < layout.ADOPTED_PATH_BYTES:
        room = path.ljust(layout.ADOPTED_PATH_BYTES, b"\0")
        libbpf.map_update(maps["adopted_paths"], adoption.key, room)
    value = abi.Adopted(generation=adoption.generation, app=adoption.application)
    libbpf.map_update(maps["adopted"], adoption.key, bytes(value))


def remove(maps: Maps, adoption: Adoption) -> None:
    """Let the hooks enroll no further sockets of the cgroup."""
    libbpf.map_delete(maps["adopted"], adoption.key)
    libbpf.map_delete(maps["adopted_paths"], adoption.key)


def renew(maps: Maps, adoption: Adoption, cgroup: int) -> Adoption:
    """Move an adoption to the new cgroup of the same path. Returns the new adoption."""
    renewed = replace(adoption, cgroup=cgroup)
    note(maps, renewed)
    remove(maps, adoption)
    return renewed


def all_of(maps: Maps) -> list[Adoption]:
    """Return every adoption."""
    sizes = ctypes.sizeof(abi.AdoptedKey), ctypes.sizeof(abi.Adopted)
    found = []
    for raw, value in list(libbpf.map_items(maps["adopted"], *sizes)):
        key, adopted = abi.AdoptedKey.from_buffer_copy(raw), abi.Adopted.from_buffer_copy(value)
        path = libbpf.map_lookup(maps["adopted_paths"], raw, layout.ADOPTED_PATH_BYTES)
        directory = None if path is None else Path(os.fsdecode(path.rstrip(b"\0")))
        found.append(
            Adoption(
                key.cgroup, key.group_id, key.epoch, adopted.generation, adopted.app, directory
            )
        )
    return found


def delete(maps: Maps, directory: Path) -> None:
    """Delete the adoptions of a cgroup and the cgroups below it, before it is stopped."""
    identity = cgroups.identity(directory)
    for adoption in all_of(maps):
        below = adoption.directory is not None and directory in (
            adoption.directory,
            *adoption.directory.parents,
        )
        if below or adoption.cgroup == identity:
            remove(maps, adoption)
