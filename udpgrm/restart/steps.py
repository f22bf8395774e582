# SPDX-License-Identifier: Apache-2.0
"""The steps of a restart. Each may be done again, and changes nothing then."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import replace
from typing import Optional

import udpgrm.client as grm
from udpgrm.restart import adoption, budget, draining, facts, hold, host, notice, prepare, steering
from udpgrm.restart.drain import Decision
from udpgrm.restart.elsewhere import Elsewhere
from udpgrm.restart.groups import DISPATCH_ERRORS, Groups
from udpgrm.restart.instances import Instances, has_ended
from udpgrm.restart.journal import Journal, warn
from udpgrm.restart.machine import Facts, Result, Step, is_lost
from udpgrm.restart.plan import Refused
from udpgrm.restart.prober import Evidence, Prober, StepFailed
from udpgrm.restart.stopping import Stopping
from udpgrm.restart.succession import await_another, reclaim
from udpgrm.restart.systemd import SystemdError
from udpgrm.services.definition import Service

_POLL_S = 0.02
#: Flow tables are read as a whole: not too often.
_SAMPLE_S = 0.25


class Steps:
    """The steps of one restart.

    check_cancelled may raise to end a step that waits; on_change: the journal has new progress.
    """

    def __init__(
        self,
        service: Service,
        journal: Journal,
        instances: Instances,
        groups: Groups,
        prober: Prober,
        check_cancelled: Callable[[], None],
        on_change: Callable[[], None],
    ) -> None:
        """Prepare the steps of this restart."""
        self._service = service
        self._journal = journal
        self._instances = instances
        self._groups = groups
        self._elsewhere = Elsewhere(service, groups, instances)
        self._stopping = Stopping(service, journal, instances, groups)
        self._prober = prober
        self._check_cancelled = check_cancelled
        self._on_change = on_change
        self._by_step: dict[Step, Callable[[Evidence], Optional[Result]]] = {
            Step.PREPARE: self._prepare,
            Step.START: self._start,
            Step.ENROLL: self._enroll,
            Step.CANARY: self._canary,
            Step.PROMOTE: self._promote,
            Step.VERIFY: self._verify,
            Step.DRAIN: self._drain,
            Step.STOP: self._stop,
            Step.DEMOTE: self._demote,
            Step.DRAIN_NEW: self._drain_new,
            Step.STOP_NEW: self._stop_new,
        }

    def perform(self, step: Step, evidence: Evidence) -> Result:
        """Do a step. Raises StepFailed."""
        try:
            return self._by_step[step](evidence) or Result.DONE
        except (adoption.AdoptionError, SystemdError, budget.OverBudget, Refused) as error:
            raise StepFailed(str(error)) from error

    def facts(self) -> Facts:
        """Return the facts that the next step depends on. Raises SystemdError."""
        return facts.read(self._service, self._groups, self._instances, self._journal)

    def facts_of_resume(self) -> Facts:
        """Return the facts, whether a stop has to drain first, and whether nothing serves."""
        undrained = draining.is_undrained(self._service.drain, self._groups, self._journal)
        unserved = steering.is_unserved(self._groups)
        return replace(self.facts(), undrained=undrained, unserved=unserved)

    @property
    def _new(self) -> int:
        number = self._journal.to_generation
        assert number is not None
        return number

    def _wait(self, seconds: float) -> None:
        self._check_cancelled()
        host.current.sleep(seconds)

    def _prepare(self, evidence: Evidence) -> None:
        chosen = prepare.check(self._service, self._groups, self._instances)
        self._groups.set_dissectors(self._service)
        self._elsewhere.share_addresses(chosen.old)
        journal = self._journal
        journal.from_generation, journal.to_generation = chosen.old, chosen.new
        journal.plan = {
            "instance": self._instances.name(chosen.new),
            "working": self._groups.working(),
            "reading": self._groups.reading(),
            "sockets": sorted(self._groups.cookies(chosen.old)) if chosen.old is not None else [],
        }
        evidence["working"] = journal.plan["working"]

    def _start(self, evidence: Evidence) -> None:
        evidence["instance"] = self._instances.name(self._new)

        def look() -> None:
            self._check_cancelled()
            steering.note_early(self._groups, self._journal, evidence)

        self._elsewhere.start(self._new, look)

    def _enroll(self, evidence: Evidence) -> Optional[Result]:
        earlier = self._journal.plan.get("sockets", [])  # an older version has noted none
        try:
            self._await_sockets(earlier, evidence)
            name = self._instances.name(self._new)
            adoption.refuse_taken_over(earlier, self._groups.cookies(self._new), name)
        except adoption.TakenOver as error:
            warn(evidence, str(error))
            return Result.STUCK
        return None

    def _await_sockets(self, earlier: list[int], evidence: Evidence) -> None:
        deadline = host.current.monotonic() + self._service.timeouts.enroll_s
        if self._service.enrollment == "adopted":
            self._refuse_ended()
            cgroup, maps = self._instances.cgroup(self._new), self._groups.maps
            adoption.adopt_all(
                maps, cgroup, self._service.groups, self._new, deadline, self._new_lives, earlier
            )
        wanted = {group.address: group.sockets for group in self._service.groups}
        while True:
            evidence["sockets"] = living = self._groups.living(self._new)
            steering.note_early(self._groups, self._journal, evidence)
            lacking = [f"{living[at]} of {n} at {at}" for at, n in wanted.items() if living[at] < n]
            if not lacking:
                return
            self._refuse_ended()
            if host.current.monotonic() > deadline:
                raise StepFailed(
                    f"sockets in generation {self._new} after "
                    f"{self._service.timeouts.enroll_s:g} s: {', '.join(lacking)}"
                )
            self._wait(_POLL_S)

    def _new_lives(self) -> bool:
        return self._instances.is_alive(self._new)

    def _refuse_ended(self) -> None:
        if not self._new_lives():
            raise self._ended(self._new)

    def _ended(self, generation: int, when: str = "") -> StepFailed:
        name, failure = self._instances.name(generation), self._instances.failure(generation)
        return StepFailed(f"{name} has ended{when}; {failure}")

    def _canary(self, evidence: Evidence) -> None:
        steering.note_early(self._groups, self._journal, evidence)
        self._elsewhere.refuse_tried(self._journal.from_generation, self._new)
        self._prober.canary(self._new, evidence)

    def _promote(self, evidence: Evidence) -> None:
        old = self._journal.from_generation
        if old is not None:
            self._prober.hold(old, evidence)
        promotion = self._journal.plan.setdefault("promotion", {})
        if "reading" not in promotion:
            promotion["reading"] = self._groups.reading()
            self._journal.save()
        with steering.sockets_of(self._groups, self._instances, self._new) as sockets:
            evidence["begin"], promotion["at"] = host.current.time(), host.current.monotonic()
            for sock in sockets.values():
                grm.promote(sock, self._new)
        if old is None or not any(self._groups.living(old).values()):  # packets had no way yet
            promotion["reading"] = self._groups.reading()
        evidence["working"] = self._groups.working()

    def _verify(self, evidence: Evidence) -> None:
        working = self._groups.working()
        wrong = {where: number for where, number in working.items() if number != self._new}
        if wrong:
            changed = ", ".join(f"{where} has {number}" for where, number in wrong.items())
            raise StepFailed(f"the working generation was changed meanwhile: {changed}")
        self._prober.verify(self._journal.from_generation, self._new, evidence)
        spent = self._groups.spent(self._journal.plan["promotion"]["reading"])
        evidence["counters"] = spent
        errors = {name: spent[name] for name in DISPATCH_ERRORS if spent[name]}
        if errors:
            counted = ", ".join(f"{name} {count}" for name, count in errors.items())
            raise StepFailed(f"packets were not dispatched since the promotion: {counted}")
        budget.check(self._service.budget, self._groups, self._journal, evidence)

    def _drain(self, evidence: Evidence) -> Result:
        old = self._journal.from_generation
        if old is None:
            evidence["reason"] = "nothing served before"
            return Result.DONE

        def watch() -> None:
            if self._journal.superseded:
                reclaim(self._groups, self._instances, self._journal, evidence)
                return  # a superseded restart leaves the service's state to the next
            with contextlib.suppress(SystemdError):  # an unknown state is not its end
                if self._instances.is_alive(old):
                    self._refuse_ended()
            budget.check_conflicts(self._service.budget, self._groups, self._journal, evidence)
            budget.check(self._service.budget, self._groups, self._journal, evidence)

        def pause() -> bool:
            watch()
            self._wait(_SAMPLE_S)
            return not has_ended(self._instances, old)

        drain = self._service.drain
        decision = self._watch(old, evidence, watch)
        if decision is Decision.DRAINED:
            self._elsewhere.warn_of_others(old, self._new, evidence)
            hold.keep(drain.hold_s, self._journal, evidence, pause)
            # an operator may have made it active while it was held
            if drain.hold_s and not draining.has_drained(drain, self._groups, old):
                decision = self._watch(old, evidence, watch)
        if decision is Decision.DRAINED:
            return Result.DONE
        if decision is Decision.TIMEOUT and drain.on_timeout == "keep":
            return self._keep(old, evidence, watch)
        is_given_up = decision is Decision.TIMEOUT and drain.on_timeout == "stop"
        return Result.DONE if is_given_up else Result.STUCK

    def _keep(self, generation: int, evidence: Evidence, watch: Callable[[], None]) -> Result:
        def look() -> None:
            watch()
            self._stopping.await_other(generation, self._wait)

        name = self._instances.name(generation)
        return draining.keep(self._groups, self._journal, generation, name, evidence, look)

    def _notify(self, generation: int, evidence: Evidence) -> bool:
        """Notify an instance that its drain begins; return False if it does not yet."""
        begin = self._service.drain.begin
        if begin is not None and not has_ended(self._instances, generation):
            if steering.is_active(self._groups, generation):  # systemd may have been silent
                return False
            notice.report(begin, self._instances, generation, self._journal, evidence)
            self._on_change()
        return True

    def _watch(
        self, generation: int, evidence: Evidence, watch: Callable[[], None]
    ) -> Optional[Decision]:
        def pause() -> None:
            self._on_change()
            self._wait(_SAMPLE_S)

        def notify() -> bool:
            return self._notify(generation, evidence)

        parts = self._service.drain, self._groups, self._journal
        return draining.await_drained(*parts, generation, evidence, notify, watch, pause)

    def _stop(self, evidence: Evidence) -> Optional[Result]:
        old = self._journal.from_generation
        if old is None:
            return None
        if self._journal.superseded:
            await_another(self._groups, self._instances, self._journal, evidence, self._wait)
        found = self.facts()
        if is_lost(Step.STOP, found):
            raise self._ended(self._new)
        self._stopping.await_other(old, self._wait)
        if self._stopping.has_flows_again(Step.DRAIN, old):
            return Result.UNDRAINED
        stays = found.new_alive and not found.superseded
        stopped = self._instances.name(old)  # the stop may change it
        self._stopping.stop(old, self._new if stays else None, evidence)
        if not found.superseded and has_ended(self._instances, self._new):
            if stays:  # ExecStop= may have reached it
                raise self._ended(self._new, f" as {stopped} was stopped")
            raise self._stopping.none_runs(old, self._new)
        if found.superseded:
            restored = steering.restore_last(self._groups, self._instances, self._journal)
            steering.warn_restored(old, restored, evidence)
        return None

    def _demote(self, evidence: Evidence) -> None:
        """Steer new flows back to the generation before, where this restart has changed that."""
        old = self._journal.from_generation
        try:
            now = self._groups.working()
        except FileNotFoundError:  # the machine was booted again: nothing is steered
            return
        ours = [where for where, number in now.items() if number == self._new]
        # if no generation was active: the working generation, which had no sockets
        before = self._journal.plan["working"]
        target = {where: (before[where] or 0) if old is None else old for where in ours}
        holder = self._new if old is None else old
        if ours and self._instances.is_alive(holder):
            with self._groups.held(holder, self._instances.processes(holder)) as sockets:
                for where in set(ours) & set(sockets):
                    grm.promote(sockets[where], target[where])
        evidence["working"] = now = self._groups.working()
        if old is not None:
            if notice.was_given(old, self._journal):
                name = self._instances.name(old)
                warn(evidence, f"{name} got the notice of its drain: does it take new sessions?")
            missing = [where for where in ours if now[where] == self._new]
            if missing and any(map(self._instances.is_alive, (old, self._new))):
                raise StepFailed(
                    f"{', '.join(missing)}: no process of {self._instances.name(old)} has the "
                    f"sockets of generation {old} (udpgrm working-gen {missing[0]} {old})"
                )

    def _drain_new(self, evidence: Evidence) -> Result:
        """Drain the new generation: it keeps its flows as long as the policy permits."""
        if not self._instances.is_alive(self._new):
            return Result.DONE
        old = self._journal.from_generation

        def watch() -> None:
            if old is not None and has_ended(self._instances, old):
                raise self._ended(old)

        decision = self._watch(self._new, evidence, watch)
        if decision is None:
            return Result.STUCK
        if decision is Decision.TIMEOUT and self._service.drain.on_timeout == "keep":
            return self._keep(self._new, evidence, watch)
        return Result.DONE

    def _stop_new(self, evidence: Evidence) -> Optional[Result]:
        old = self._journal.from_generation
        if old is None:  # systemd may have started it again since
            self._demote(evidence)
        stays = old is not None and not has_ended(self._instances, old)
        if old is not None:
            self._stopping.await_other(self._new, self._wait)
            if self._stopping.has_flows_again(Step.DRAIN_NEW, self._new):
                return Result.UNDRAINED
        self._stopping.stop(self._new, old if stays else None, evidence)
        self._elsewhere.release()
        return None
