# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""Check the invariants of restarts by what the simulated host sees, not by what they report."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Optional

if TYPE_CHECKING:
    from tests.simulation.world import World

_HEAD = re.compile(
    r'"started": ([\d.]+), "boot_id": "([\w-]+)", "state": "\w+", "step": "(\w+)", '
    r'"outcome": (?:null|"(\w+)"), "from_generation": (null|\d+), "to_generation": (null|\d+)'
)
#: A fault this short before an act may be too late for any look.
_TOO_LATE_S = 0.6
#: More than all steps of a restart may take until new flows reach a living instance.
_LONG_S = 15.0


class Saved(NamedTuple):
    """The head of a journal."""

    started: str
    boot_id: str
    step: str
    outcome: str
    old: Optional[int]
    new: Optional[int]


def head(text: str) -> Optional[Saved]:
    """Return the head of a journal's text; None: it is damaged."""
    found = _HEAD.search(text)
    if found is None or not text.endswith("}"):
        return None
    started, boot_id, step, outcome, old, new = found.groups()
    numbers = [None if word == "null" else int(word) for word in (old, new)]
    return Saved(started, boot_id, step, outcome or "", *numbers)


class Invariants:
    """The violations of one schedule."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.violations: list[str] = []
        self._lost_at: dict[int, float] = {}
        self._served: set[int] = set()
        self._meddled_at = -1e9
        #: Addresses whose working generation an operator has set last.
        self.set_by_hand: set[str] = set()
        self._promoted_by_hand: dict[int, float] = {}
        self._missed_since: dict[str, float] = {}  # by address
        self._ended: set[str] = set()
        self._notices: set[tuple[object, int, int]] = set()
        self._kept: dict[int, float] = {}  # since when a restart leaves them running
        self._left_by_hand: dict[int, float] = {}  # since when an operator leaves them running

    def violate(self, text: str) -> None:
        """Add a violation."""
        self.violations.append(f"at {self._world.scheduler.now:.2f} s: {text}")

    def meddled(self) -> None:
        """Note that an operator changed something past udpgrm restart, or an instance crashed."""
        self._meddled_at = self._world.scheduler.now

    def promotes_by_hand(self, generation: int) -> None:
        """Note that an operator makes a generation active; a kept one's restart ends by that."""
        self.meddled()
        if generation in self._kept:
            left = dict.fromkeys(self._world.working.values(), self._world.scheduler.now)
            self._left_by_hand.update(left)
        self._promoted_by_hand[generation] = self._world.scheduler.now

    def _is_promoted_by_hand(self, generation: int) -> bool:
        promoted = self._promoted_by_hand.get(generation, -1e9)
        return self._world.scheduler.now - promoted < _TOO_LATE_S

    @property
    def _is_meddled_with(self) -> bool:
        return self._world.scheduler.now - self._meddled_at < _TOO_LATE_S

    def rebooted(self) -> None:
        """Reset what is known of generations, whose instances a reboot ends."""
        self._lost_at.clear()
        self.set_by_hand.clear()
        self._served.clear()
        self._kept.clear()
        self._left_by_hand.clear()
        self._missed_since.clear()
        self.meddled()

    def promoted(self, where: str, before: Optional[int], now: int) -> None:
        """Check a generation that gets the new flows of an address."""
        world = self._world
        self._served.add(now)
        self.set_by_hand.discard(where)
        self._left_by_hand.pop(now, None)
        if before is not None and before not in world.working.values():
            self._lost_at[before] = world.scheduler.now
        living = [number for number, unit in world.units.all.items() if unit.sockets]
        is_undone = self._last_old() is None  # a first deployment, with nothing to go back to
        has_just_died = world.scheduler.now - world.units.get(now).ended < _TOO_LATE_S
        if living and now not in living and not (has_just_died or is_undone):
            self.violate(f"new flows of {where} go to dead generation {now}, {living} live")

    def minded(self) -> None:
        """Note a command, which has the whole time to move new flows from a dead generation."""
        self._world.clients.arrive()
        self._missed_since.clear()

    def begins(self, where: str, to: Optional[int]) -> None:
        """Note the generation of a new flow; None: a dead one, which a running restart must end."""
        world, now = self._world, self._world.scheduler.now
        lives = any(unit.sockets and unit.is_alive for unit in world.units.all.values())
        if to is not None or not lives or not world.is_minded:
            self._missed_since.pop(where, None)
        elif now - self._missed_since.setdefault(where, now) > _LONG_S:
            since = self._missed_since.pop(where)
            self.violate(f"new flows of {where} go to a dead generation since {since:.2f} s")

    def _last_old(self) -> Optional[int]:
        file = self._world.disk.files.get("edge.json")
        saved = None if file is None else head(file.text)
        return None if saved is None else saved.old

    def stops(self, generation: int) -> None:
        """Check the stop of an instance by a command."""
        world = self._world
        unit = world.units.get(generation)
        if not unit.is_alive or not unit.sockets:
            return
        name = f"{unit.name} is stopped by {world.scheduler.current.name!r}"
        working = set(world.working.values())
        if generation in working and not self._is_promoted_by_hand(generation):
            self.violate(f"{name}: it is active")
        rest = [number for number in working - {generation} if world.units.get(number).sockets]
        # a rollback that has all but ended is not turned back
        is_undone = world.step == "stop_new"
        is_first = generation == self._last_new() and self._last_old() is None
        if generation in self._served and not (
            rest or is_first or is_undone or self._is_meddled_with
        ):
            self.violate(f"{name}: no active generation lives, it could serve")
        others = [one for one in world.units.all.values() if one.sockets and one is not unit]
        if not (others or is_first or self._is_meddled_with):
            self.violate(f"{name}: no other instance lives")
        if is_first and generation not in self._served:
            return  # a first deployment that fails: nothing serves, as before
        now = world.scheduler.now
        if self._has_drained(generation) or self._is_promoted_by_hand(generation):
            return
        flows = world.clients.flows(generation)
        # what never was active has got flows while it lived alone
        waited = now - self._lost_at.get(generation, world.clients.begun[generation])
        ends_new = world.config.on_timeout == "fail" and generation == self._last_new()
        is_given_up = world.config.on_timeout == "stop" or ends_new
        if waited < world.config.max_s or not is_given_up:
            quiet_s = world.clients.quiet_s(generation)
            self.violate(f"{name}: {flows} flows after {waited:.2f} s, quiet for {quiet_s} s")

    def _has_drained(self, generation: int) -> bool:
        """Return whether what came before it was too late to be seen had ended by the policy."""
        clients, config = self._world.clients, self._world.config
        seen = self._world.scheduler.now - _TOO_LATE_S
        if clients.flows(generation, seen) > config.flows:
            return False
        if config.quiet_s is None:
            return True
        quiet_s = clients.quiet_s(generation, _TOO_LATE_S)
        is_quiet = quiet_s is None or quiet_s >= config.quiet_s - _TOO_LATE_S
        return is_quiet and not clients.connected(generation, seen)

    def notified(self, generation: int) -> None:
        """Check the notice of a drain that a command gives an instance."""
        world = self._world
        name = f"{world.units.get(generation).name} is told to drain"
        file = world.disk.files.get("edge.json")
        saved = None if file is None else head(file.text)
        notice = (saved and saved.started, world.units.get(generation).begins, generation)
        if notice in self._notices:
            self.violate(f"{name} again")
        self._notices.add(notice)
        working = set(world.working.values())
        if working == {generation} and not self._is_meddled_with:
            self.violate(f"{name}: it is active")

    def _last_new(self) -> Optional[int]:
        file = self._world.disk.files.get("edge.json")
        saved = None if file is None else head(file.text)
        return None if saved is None else saved.new

    def saved(self, path: Path, text: str) -> None:
        """Check a journal that was written to the disk."""
        if path.suffix != ".json":
            return
        saved = head(text)
        if saved is None:
            self.violate(f"a damaged {path.name}")
            return
        if "@" not in path.name:
            self._world.step = saved.step
        left = saved.old if saved.step == "drain" else saved.new
        if left is not None and saved.step in ("drain", "drain_new"):
            if '"kept": ' in text and "kept" in json.loads(text)["steps"][-1]["evidence"]:
                self._kept.setdefault(left, self._world.scheduler.now)
            else:
                self._kept.pop(left, None)  # it drains
        if saved.outcome and saved.started + saved.step not in self._ended:
            self._ended.add(saved.started + saved.step)
            self._ends(path, saved)

    def all_serve(self, when: str) -> None:
        """Check that what runs serves, if all restarts have ended."""
        units, working = self._world.units, set(self._world.working.values())
        alive = set(units.alive())
        orphans = alive - working - set(self._kept) - set(self._left_by_hand)
        if orphans:
            self.violate(f"{when} {sorted(orphans)} run, active is {working}")
        if alive and not alive & working and not self._have_died_since(alive, working):
            self.violate(f"{when} {working} is active, {sorted(alive)} live")

    def _have_died_since(self, alive: set[int], working: set[int]) -> bool:
        """Return whether what lives was left running, and what was active died after that."""
        left = {**self._kept, **self._left_by_hand}
        if not alive <= set(left):
            return False
        ended = max(left[number] for number in alive) - _TOO_LATE_S
        dead = [self._world.units.get(number) for number in working]
        return all(unit.runs or unit.ended > ended for unit in dead)  # runs: it is being stopped

    def _ends(self, path: Path, saved: Saved) -> None:
        """Compare an outcome with the world."""
        world, units = self._world, self._world.units
        if saved.boot_id != f"boot-{world.boot}":
            return  # closed: its instances are gone
        if (saved.outcome, saved.step) in {("finished", "drain"), ("rolled_back", "drain_new")}:
            return  # what is left is known to be kept
        if self._is_meddled_with:
            return
        message = f"{path.name} says {saved.outcome} in {saved.step}"
        working = set(world.working.values())
        if saved.outcome == "finished":
            if saved.old is not None and units.get(saved.old).is_alive:
                self.violate(f"{message}, {saved.old} runs")
            if "@" not in path.name and working != {saved.new}:
                self.violate(f"{message}, {working} are active")
        elif saved.outcome == "rolled_back" and saved.step != "prepare":
            if saved.new is not None and units.get(saved.new).is_alive:
                self.violate(f"{message}, {saved.new} runs")
            old_lives = saved.old is not None and units.get(saved.old).sockets
            if old_lives and working != {saved.old}:
                self.violate(f"{message}, {working} are active")
