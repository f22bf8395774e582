# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""Reuseport programs of servers, in the place of a group's steering program."""

from __future__ import annotations

from udpgrm import abi, log

#: Socket options that change the program of all sockets of an address.
_OPTIONS = {
    51: "SO_ATTACH_REUSEPORT_CBPF",
    52: "SO_ATTACH_REUSEPORT_EBPF",
    68: "SO_DETACH_REUSEPORT_BPF",
}


class Foreign:
    """Reports attempts to replace a group's program."""

    def __init__(self) -> None:
        """Start without any report."""
        self._reported: dict[int, tuple[int, int]] = {}  # group id -> epoch, pid

    def refused(self, message: abi.Message, where: str) -> None:
        """Log that the hooks refused a server's option, once for each process in turn."""
        attempt = message.epoch, message.pid
        if self._reported.get(message.group) == attempt:
            return
        self._reported[message.group] = attempt
        option = _OPTIONS.get(message.generation, f"option {message.generation}")
        log.step(
            f"{option} of process {message.ns_pid or message.pid} at {where} was refused (EPERM): "
            "its program would replace udpgrm's for all instances; turn it off in the server"
        )
