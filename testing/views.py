# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""Views of groups and generations for tests; fields that a test does not name have defaults."""

from __future__ import annotations

from typing import Any

from udpgrm.abi import DissectorType
from udpgrm.state.view import GenerationView, GroupView, SocketView


def generation(number: int, **fields: Any) -> GenerationView:
    """Return a generation of one living socket without traffic."""
    defaults: dict[str, Any] = {
        "application": 0,
        "slot": number % 32,
        "working": False,
        "sockets": [SocketView(0, 0, 1, 0)],
        "flows": 0,
        "packets_in": 0,
        "packets_out": 0,
        "last_in_age": None,
        "last_out_age": None,
    }
    return GenerationView(generation=number, **{**defaults, **fields})


def group(*generations: GenerationView, **fields: Any) -> GroupView:
    """Return a group of the dissector flow that has no generation but these."""
    defaults: dict[str, Any] = {
        "group_id": 0,
        "address": "192.0.2.1:443",
        "ip": "192.0.2.1",
        "port": 443,
        "netns": 1,
        "ifindex": 0,
        "uid": 0,
        "dissector": DissectorType.FLOW,
        "verbose": False,
        "flow_timeout": 125,
        "max_apps": 0,
        "label": "",
        "name": "flow",
        "parameters": "",
        "working": [0],
        "metrics": {},
        "crossed": 0,
        "flows": [],
    }
    return GroupView(generations=list(generations), **{**defaults, **fields})
