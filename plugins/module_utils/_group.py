# Copyright the udpgrm authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.

"""The work of udpgrm_group: compare a reuseport group with what is wanted, and change it."""

from __future__ import annotations

import dataclasses
import time
import typing as t

from ansible_collections.udpgrm.fleet.plugins.module_utils._host import (
    Host,
    HostError,
    JsonObject,
)

NEWEST = "newest"
# 2**32 - 1 means that there is no generation.
_NEWEST_GENERATION = 0xFFFFFFFE


@dataclasses.dataclass(frozen=True)
class Wanted:
    """The parameters of one task. C(dissector) holds only the fields to be asserted."""

    address: str
    present: bool
    application: int
    dissector: t.Mapping[str, t.Any]
    working_gen: str | None


@dataclasses.dataclass
class Outcome:
    """The changes, or those of check mode. C(address) is in its canonical form.

    C(started_at) and C(finished_at) are seconds since the epoch around the command that
    sets the working generation; None when the task asks for none.
    """

    address: str
    changed: bool
    before: JsonObject
    after: JsonObject
    started_at: float | None = None
    finished_at: float | None = None


def parse_generation(text: str) -> str:
    """Return V(newest) or the generation in its plain form. Raises ValueError with a message for the operator."""
    if text == NEWEST:
        return text
    if text.isascii() and text.isdigit() and int(text) <= _NEWEST_GENERATION:
        return str(int(text))
    raise ValueError(
        f"not a generation: {text!r}; expected a number of 0 to {_NEWEST_GENERATION} or '{NEWEST}'"
    )


def apply(host: Host, wanted: Wanted, check: bool) -> Outcome:
    """Change the group to what is wanted; with C(check) only predict it. Raises HostError, and then changes nothing."""
    found = host.read(wanted.address)
    groups = found["groups"]
    [address] = found["addresses"]
    wanted = dataclasses.replace(wanted, address=address)
    if len(groups) > 1:
        where = ", ".join(
            f"netns cookie {group['netns_cookie']} ifindex {group['ifindex']}" for group in groups
        )
        raise HostError(
            f"{len(groups)} groups have the address {wanted.address} ({where}); cannot tell which is meant"
        )
    group = groups[0] if groups else None
    if not wanted.present:
        return _absent(host, wanted, group, check)
    if group is None:
        raise HostError(
            f"no group at {wanted.address}: the service creates it; is it running in a hooked cgroup?"
        )
    _assert_dissector(wanted, group["dissector"])
    return _present(host, wanted, group, check)


def _absent(host: Host, wanted: Wanted, group: JsonObject | None, check: bool) -> Outcome:
    after = {"state": "absent"}
    if group is None:
        return Outcome(wanted.address, False, after, after)
    before = _state(wanted, group, _working_gen(wanted, group))
    if not check:
        host.delete(wanted.address)
    return Outcome(wanted.address, True, before, after)


def _present(host: Host, wanted: Wanted, group: JsonObject, check: bool) -> Outcome:
    working_gen = _working_gen(wanted, group)
    if wanted.working_gen is None:
        state = _state(wanted, group, working_gen)
        return Outcome(wanted.address, False, state, state)
    started_at = time.time()
    answer = host.set_working_gen(wanted.address, wanted.working_gen, wanted.application, check)
    finished_at = time.time()
    return Outcome(
        wanted.address,
        answer["changed"],
        _state(wanted, group, answer["before"]),
        _state(wanted, group, answer["after"]),
        started_at,
        finished_at,
    )


def _working_gen(wanted: Wanted, group: JsonObject) -> int:
    for application in group["applications"]:
        if application["application"] == wanted.application:
            generation: int = application["working_generation"]
            return generation
    raise HostError(f"the group at {wanted.address} has no application {wanted.application}")


def _assert_dissector(wanted: Wanted, found: JsonObject) -> None:
    wrong = [
        f"{field}: expected {expected!r}, found {found.get(field)!r}"
        for field, expected in sorted(wanted.dissector.items())
        if found.get(field) != expected
    ]
    if wrong:
        raise HostError(f"the group at {wanted.address} has another dissector: {'; '.join(wrong)}")


def _state(wanted: Wanted, group: JsonObject, working_gen: int) -> JsonObject:
    return {
        "state": "present",
        "application": wanted.application,
        "dissector": group["dissector"],
        "working_gen": working_gen,
    }
