# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""Fields of log entries: docs/logs.md."""

from __future__ import annotations

from udpgrm import abi
from udpgrm.abi import MessageFlag
from udpgrm.journald import Fields
from udpgrm.state import address


def of_group(group: abi.Group) -> Fields:
    """Return the fields of a group."""
    return {"group": address.of_key(group.key), "netns_cookie": group.key.netns}


def of_message(group: abi.Group, message: abi.Message) -> Fields:
    """Return the fields of a message, and of its group."""
    has_socket = message.flags & (MessageFlag.JOIN | MessageFlag.REGISTER)
    has_generation = message.flags & (MessageFlag.REGISTER | MessageFlag.WORKING_GEN)
    return {
        **of_group(group),
        "application": message.app if has_generation else None,
        "generation": message.generation if has_generation else None,
        "socket_cookie": message.cookie if has_socket else None,
    }
