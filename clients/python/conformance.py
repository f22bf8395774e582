#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""Run what tests/kernel/registration/test_clients.py asks of each language."""

from __future__ import annotations

import json
import socket
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import udpgrm.client as grm
from udpgrm import abi

sockets: dict[int, socket.socket] = {}


def keep(made: list[socket.socket]) -> str:
    """Return the numbers of new sockets."""
    sockets.update({sock.fileno(): sock for sock in made})
    return join([sock.fileno() for sock in made])


def join(numbers: list[int]) -> str:
    """Return numbers, a space before each."""
    return "".join(f" {number}" for number in numbers)


def describe(error: Exception) -> str:
    """Return the kind and number of an error."""
    kinds = {
        grm.NotHooked: "not_hooked",
        TimeoutError: "timed_out",
        FileExistsError: "exists",
        PermissionError: "permission",
        ValueError: "invalid",
    }
    kind = next((name for class_, name in kinds.items() if isinstance(error, class_)), "other")
    return f"error {kind} {getattr(error, 'errno', 0)}"


def seconds(milliseconds: str) -> float:
    """Return how long to wait."""
    return float("inf") if milliseconds == "forever" else int(milliseconds) / 1000


def bind(arguments: list[str]) -> str:
    """Bind at IP PORT, COUNT sockets.

    flow SECONDS | noop | cbpf APPLICATIONS RESULT | named NAME PARAMETERS
    """
    ip, port, count, kind, *rest = arguments
    where = f"[{ip}]:{port}" if ":" in ip else f"{ip}:{port}"
    if kind == "flow":
        return keep(grm.bind(where, int(count), flow_timeout=json.loads(rest[0])))
    dissector = abi.Dissector(type=abi.DissectorType.NOOP)
    if kind == "cbpf":
        dissector = abi.Dissector(type=abi.DissectorType.CBPF, max_apps=int(rest[0]), filter_len=1)
        dissector.filter[0] = abi.CbpfInstruction(code=0x06, k=int(rest[1]))  # BPF_RET | BPF_K
    elif kind == "named":
        dissector = grm.named_dissector(rest[0], **json.loads(rest[1]))
    return keep(grm.bind(where, int(count), dissector=dissector))


def call(arguments: list[str]) -> str:
    """Make a call and return its result."""
    name, *rest = arguments
    numbers = [int(word) for word in rest if word.isdigit()]
    if name == "probe":
        return " yes" if grm.probe() else " no"
    if name == "bind":
        return bind(rest)
    if name == "plain":
        made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        made.bind((rest[0], int(rest[1])))
        return keep([made])
    if name == "enroll":
        chosen = [sockets[int(word)] for word in rest[2:]]
        return join(grm.enroll(chosen, numbers[0], seconds(rest[1])))
    if name == "wait_registered":
        chosen = [sockets[int(word)] for word in rest[1:]]
        return join(grm.wait_registered(chosen, seconds(rest[0])))
    sock = sockets[numbers[0]]
    if name == "promote":
        grm.promote(sock, numbers[1])
    elif name == "assure_flow":
        grm.assure_flow(sock, (rest[1], int(rest[2])))
    elif name == "working_generation":
        generation = grm.working_generation(sock)
        return " none" if generation is None else f" {generation}"
    elif name == "socket_generation":
        value = grm.socket_generation(sock)
        index = "none" if value.index is None else value.index
        return f" {value.generation} {index} {value.cookie}"
    elif name == "close":
        sock.close()
    return ""


for line in sys.stdin:
    try:
        print("ok" + call(line.split()), flush=True)
    except (OSError, ValueError) as error:
        print(describe(error), flush=True)
