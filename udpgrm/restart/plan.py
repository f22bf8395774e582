# SPDX-License-Identifier: Apache-2.0
"""The generations that a restart goes from and to. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Optional

from udpgrm import abi


class Refused(Exception):
    """Raised when a restart cannot begin; the message says why, and what to do."""


@dataclass(frozen=True)
class GroupFacts:
    """One group of a service, as it is before a restart.

    working None: the kernel knows no such group yet. share: generation slots of
    the application. living: sockets by generation, without empty generations.
    """

    address: str
    application: int
    working: Optional[int]
    share: int
    living: Mapping[int, int]


@dataclass(frozen=True)
class Generations:
    """The active generation (None: there is none), and the next one."""

    old: Optional[int]
    new: int


def choose(
    groups: Sequence[GroupFacts], in_use: Callable[[int], bool], runs: Callable[[int], bool]
) -> Generations:
    """Return the working generation and the next one whose slots and instance are free.

    in_use: returns whether an instance of a generation runs, or is to be stopped by another
    restart. runs: returns whether it runs, also if it has no sockets: systemd starts it again, and
    it has to be stopped as well. Raises Refused.
    """
    serving = {
        group.working: group.address
        for group in groups
        if group.working is not None and group.living.get(group.working)
    } or {
        group.working: group.address
        for group in groups
        if group.working is not None and runs(group.working)
    }
    _refuse_divided(serving)
    old = next(iter(serving), None)
    base = old if old is not None else max((group.working or 0 for group in groups), default=0)
    for step in range(1, min(group.share for group in groups)):
        number = (base + step) % 2**32
        if number != abi.GENERATION_NONE and not in_use(number) and _is_free(groups, number):
            return Generations(old, number)
    full = max(groups, key=lambda group: len(group.living) / group.share)
    raise Refused(
        f"no generation is free: {len(full.living)} of {full.share} of {full.address} have "
        "living sockets; stop an instance that drains first (udpgrm list)"
    )


def _refuse_divided(serving: Mapping[int, str]) -> None:
    """Raise Refused for several working generations: whose instance is the old one?"""
    if len(serving) > 1:
        found = ", ".join(f"{where} has {number}" for number, where in serving.items())
        raise Refused(
            f"the groups have different working generations: {found} (udpgrm working-gen)"
        )


def _is_free(groups: Sequence[GroupFacts], number: int) -> bool:
    """Return whether no living generation shares a slot with this one."""
    return not any(
        number % group.share == living % group.share for group in groups for living in group.living
    )
