# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors

"""Services of a host, made of a JSON file: drains last as many looks as the file says."""

from __future__ import annotations

import json
import os
import pathlib
import time
import typing as t

from udpgrm.restart import ending, first, former, release, systemd
from udpgrm.restart.migration import Migration

from .fake_host import sample

Document = dict[str, t.Any]
_FORWARD = ["prepare", "start", "enroll", "canary", "promote", "verify", "drain", "stop"]
#: More looks than any test takes.
FOREVER = 1_000_000
STATUS = sample("status")
GROUP = STATUS["services"][0]["groups"][0]
METRICS: dict[str, int] = {**GROUP["metrics"], "rx_processed_total": 1000}
GENERATION = GROUP["generations"][0]


def service(name: str = "echo", **behaviour: t.Any) -> Document:
    """Return a service that generation 1 serves.

    C(polls): in how many answers of status a restart drains; C(rolls_back), C(refuses): the reason;
    C(errors): dispatch errors that a restart begins to cause; C(cut): the step in which the
    first process that runs a restart dies; C(loses_power): seconds after a switch at which the
    host is booted again, with generation 1; C(no_socket): an adoption is refused;
    C(draining): earlier restarts; C(drain): what its policy has instead of the sample's;
    C(notes): those of a plan.
    """
    return {
        "name": name,
        "address": "0.0.0.0:4433",
        "working": 1,
        # the unit that was adopted as generation 0
        "former": None,
        "journal": None,
        "metrics": dict(METRICS),
        "behaviour": {"polls": 0, "notes": [], **behaviour},
    }


class FakeServices:
    """Answers about the services in a file, and changes it."""

    def __init__(self, path: pathlib.Path) -> None:
        self._path = path
        self._services: dict[str, Document] = json.loads(path.read_text())

    def save(self) -> None:
        """Replace the file as a whole: gates and tests read it at any time."""
        draft = self._path.with_suffix(".new")
        draft.write_text(json.dumps(self._services))
        draft.replace(self._path)

    def __call__(self, arguments: list[str]) -> tuple[int, str, str]:
        command, *rest = arguments
        assert rest.pop() == "--json"
        for item in self._services.values():
            self._advance(item)
        try:
            return self._answer(**getattr(self, f"_{command}")(*rest))
        except LookupError as error:
            return 255, "", f"udpgrm: {error.args[0]}\n"
        finally:
            self.save()

    @staticmethod
    def _answer(**document: t.Any) -> tuple[int, str, str]:
        return 0, json.dumps({**document, "schema": 1}), ""

    def _advance(self, item: Document) -> None:
        """End a drain that was polled often enough."""
        journal = item["journal"]
        if journal is None:
            return
        power = item["behaviour"].get("loses_power")
        if power is not None and time.time() >= journal["started"] + power:
            item["working"] = 1
            journal.update(outcome="finished", state="finished", step="stop", running=False)
            return
        if journal["outcome"] is not None or not journal["running"]:
            return
        if journal["polls"] <= 0:
            undone = journal["step"] == "drain_new"
            journal.update(outcome="rolled_back" if undone else "finished", running=False)
            journal["step"] = "stop_new" if undone else "stop"
            journal["state"] = journal["outcome"]
            drain = journal["steps"][-1]
            drain.update(ended=time.time(), result="done")
            drain["evidence"]["drained"] = True

    def _status(self, *names: str) -> Document:
        if names and names[0] not in self._services:
            raise LookupError(f"no service '{names[0]}' in /etc/udpgrm/services.d")
        chosen = [item for name, item in self._services.items() if not names or name in names]
        return {**STATUS, "services": [self._described(item) for item in chosen], "others": []}

    def _described(self, item: Document) -> Document:
        journal = item["journal"]
        living = {item["working"]}
        if journal is not None and journal["outcome"] is None:
            journal["polls"] -= 1
            living |= {journal["from_generation"], journal["to_generation"]}
        shown = journal and {key: journal[key] for key in journal if key != "polls"}
        return {
            "name": item["name"],
            "state": self._state(journal),
            "release": release.serving(filter(None, [journal]), [item["working"]]),
            "adopted": former.predecessor(item["name"]),
            "drain": {**STATUS["services"][0]["drain"], **item["behaviour"].get("drain", {})},
            "restart": shown,
            "draining": item["behaviour"].get("draining", []),
            "groups": [
                {
                    **GROUP,
                    "address": item["address"],
                    "working_generation": item["working"],
                    "metrics": self._count(item),
                    "generations": [
                        {
                            **GENERATION,
                            "generation": n,
                            "state": "working" if n == item["working"] else "draining",
                            "flows": 3,
                            "instance": self._instance(item, n),
                        }
                        for n in sorted(living)
                    ],
                    "unsteered": [],
                }
            ],
        }

    @staticmethod
    def _state(journal: Document | None) -> str:
        if journal is None or journal["outcome"] in ("finished", "rolled_back"):
            return "settled"
        if journal["outcome"] is not None:
            return "failed"
        return str(journal["step"]) if journal["running"] else "interrupted"

    @staticmethod
    def _instance(item: Document, generation: int) -> str:
        if generation == 0 and item["former"]:
            return str(item["former"])
        return f"{item['name']}@{generation}.service"

    def _service(self, action: str, name: str, *options: str) -> Document:
        """Run the host's own code on units, with the systemctl of the test."""
        changes = first.Changes("--check" in options)
        notes: list[str] = []
        given = [word.partition("=")[2] for word in options if word.startswith("--adopt=")]
        try:
            if action == "stop":
                if first.instances(name):
                    reason = ending.loss(self._described(self._services[name]))
                    if reason:
                        raise LookupError(f"{name}: {reason}")
                first.stop(name, changes)
            else:
                notes = first.start_or_adopt(
                    name,
                    given[0] if given else former.predecessor(name),
                    changes,
                    lambda unit: self._adopt(self._services[name], unit, changes.dry),
                    lambda: self._described(self._services[name]),
                )
        except systemd.SystemdError as error:
            raise LookupError(f"{name}: {error}") from error
        units = changes.names
        return {"service": name, "changed": bool(units), "units": units, "notes": notes}

    @staticmethod
    def _adopt(item: Document, unit: str, dry: bool) -> Migration:
        if "no_socket" in item["behaviour"]:
            raise LookupError(f"{unit} has no socket at {item['address']}: it has no UDP socket")
        changed = item["former"] != unit
        if not dry:
            item.update(former=unit, working=0)
        notes = [f"{item['address']}: a client's flow is known once"] if changed else []
        return Migration(unit, 0, changed, {item["address"]: 1}, notes)

    @staticmethod
    def _count(item: Document) -> Document:
        """Return the counters, with what came between two looks."""
        metrics: Document = item["metrics"]
        metrics["rx_processed_total"] += 100
        if item["working"] > 1:
            errors = item["behaviour"].get("errors", 0)
            metrics["rx_new_flow_working_gen_dispatch_error"] += errors
        return metrics

    def _restart(self, name: str, how: str, *options: str) -> Document:
        """Verify a restart as soon as it is begun; end a drain as the file says."""
        item = self._services[name]
        changed = False
        if how == "--resume":
            changed = self._resume(item)
        elif how == "--check":
            return self._plan(item, options[0].partition("=")[2])
        elif how.startswith("--release="):
            wanted = how.partition("=")[2]
            while (plan := self._plan(item, wanted))["action"] != "none":
                earlier = plan["action"] == "resume" and wanted == release.AUTO
                changed |= plan["changed"]
                if plan["action"] == "resume":
                    self._resume(item)
                elif plan["action"] == "restart":
                    self._begin(item, plan)
                if not earlier:
                    break
        return self._followed(item, changed, options)

    def _followed(self, item: Document, changed: bool, options: t.Sequence[str]) -> Document:
        journal = item["journal"]
        is_decided = release.is_verified(journal) or journal["step"] == "drain_new"
        is_enough = "--until=verified" in options and is_decided
        limit = next((int(word.partition("=")[2]) for word in options if "timeout" in word), None)
        # what the file says of looks is the time that a drain takes
        while journal["running"] and not is_enough and limit != 0:
            journal["polls"] -= 1
            self._advance(item)
            limit = None if limit is None else limit - 1
        shown = {key: journal[key] for key in journal if key != "polls"}
        return {**sample("restart"), **shown, "service": item["name"], "changed": changed}

    def _resume(self, item: Document) -> bool:
        item["journal"].update(running=True, outcome=None, polls=0)
        self._promote(item)
        return True

    def _plan(self, item: Document, wanted: str) -> Document:
        journal, old, behaviour = item["journal"], item["working"], item["behaviour"]
        given = wanted
        if wanted == release.AUTO:
            text = systemd.text_of(f"{item['name']}@.service")
            directory = pathlib.Path(os.environ["UDPGRM_SERVICES_DIR"])
            wanted = release.fingerprint(directory / f"{item['name']}.yaml", text)
        plan = {**sample("restart-check"), "service": item["name"], "release": wanted}
        if journal is not None and release.is_pending(journal):
            if release.AUTO != given != journal["release"]:
                how = "runs" if journal["running"] else "is unfinished"
                raise LookupError(
                    f"{item['name']}: a restart to another release ({journal['release']}) {how} "
                    f"in {journal['state']}"
                )
            return self._unfinished(plan, journal)
        if "refuses" in behaviour:
            raise LookupError(behaviour["refuses"])
        serves = release.serving(filter(None, [journal]), [old])
        if serves == wanted and journal["outcome"] is None:
            return self._unfinished(plan, journal)
        is_there = serves == wanted
        return {
            **plan,
            "notes": behaviour["notes"],
            "action": "none" if is_there else "restart",
            "changed": not is_there,
            "from_release": serves,
            "from_generation": old,
            "to_generation": old + 1,
            "instance": self._instance(item, old + 1),
            "stops": self._instance(item, old),
        }

    @staticmethod
    def _unfinished(plan: Document, journal: Document) -> Document:
        keys = ("from_generation", "to_generation", "from_release", "release")
        return {
            **plan,
            **{key: journal[key] for key in keys},
            "action": "wait" if journal["running"] else "resume",
            "changed": not journal["running"],
        }

    def _begin(self, item: Document, plan: Document) -> None:
        now, behaviour, old = time.time(), item["behaviour"], item["working"]
        journal = item["journal"] = {
            "started": now,
            "state": "canary",
            "step": "canary",
            "outcome": None,
            "running": True,
            "from_generation": old,
            "to_generation": old + 1,
            "from_release": plan["from_release"],
            "release": plan["release"],
            "promotion_window_s": None,
            "progress": None,
            "steps": [self._step(name, now) for name in _FORWARD[:4]],
            "polls": behaviour["polls"],
        }
        if "rolls_back" in behaviour:
            journal["steps"][-1].update(result="failed", reason=behaviour["rolls_back"])
            journal.update(outcome="rolled_back", state="rolled_back", running=False)
        elif behaviour.pop("cut", False):
            journal["running"] = False
        else:
            self._promote(item)

    def _promote(self, item: Document) -> None:
        now, journal = time.time(), item["journal"]
        journal["steps"] += [self._step(name, now) for name in ("promote", "verify")]
        journal["steps"][-2]["evidence"]["begin"] = now
        evidence = {"drain": {**STATUS["services"][0]["restart"]["progress"], "flows": 0}}
        evidence["drain"]["flows_most"] = 3
        drain = {**self._step("drain", now), "ended": None, "result": None, "evidence": evidence}
        journal["steps"].append(drain)
        journal.update(step="drain", state="drain", promotion_window_s=0.03)
        item["working"] = journal["to_generation"]
        self._advance(item)

    @staticmethod
    def _step(name: str, now: float) -> Document:
        times = {"started": now, "ended": now + 0.01}
        return {"step": name, **times, "result": "done", "reason": "", "evidence": {}}

    def _rollback(self, name: str, *options: str) -> Document:
        item = self._services[name]
        journal = item["journal"]
        journal["steps"][-1].update(
            ended=time.time(), result="cancelled", reason="asked for by udpgrm rollback"
        )
        journal["steps"].append({**self._step("drain_new", time.time()), "ended": None})
        journal.update(step="drain_new", state="drain_new", running=True, polls=0)
        item["working"] = journal["from_generation"]
        return self._followed(item, True, options)
