# Copyright the udpgrm authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this plugin util is **PRIVATE** to the collection. It can have breaking changes at any time.

"""A reboot of a host: the drains of all its services before, and their return and probes after it."""

from __future__ import annotations

import json
import math
import time
import typing as t

from ansible.utils.display import Display
from ansible_collections.udpgrm.fleet.plugins.plugin_utils import _rollout, _steps
from ansible_collections.udpgrm.fleet.plugins.plugin_utils._figures import JsonObject

display = Display()
INTERVAL_S = 5.0
#: Seconds from a host's return until its services serve.
SERVE_S = 300.0
_TCP = "/tcp"
_TYPES_OF_TCP = ("echo", "dns", "connect")

# Returns the answer of udpgrm_service_info for all services; a failure is an answer, too.
Read = t.Callable[[], JsonObject]


class Host(_steps.Host):
    """A host of a rolling reboot, which has all its services instead of those of the run."""

    def plan(self, release: str | None, other_rollout: str) -> dict[str, t.Any]:
        """Reserve the host for the run. Returns the services that serve as well, for the time after the reboot."""
        result = self._claim("udpgrm_claim", {}, self._rollout(), other_rollout)
        if not _rollout.is_well(result):
            self._note("plan", _rollout.REBOOT, result)
            return {**self.result(), "restarts": False, "hooked": False}
        served = serving(result["services"])
        return {**self.result(), "restarts": True, "hooked": True, "served": served}

    def claim_again(self) -> None:
        """Reserve the host after its reboot, so that the run does not come to it by another name."""
        self._call("udpgrm_claim", {"rollout": self._rollout()})

    def release(self, plan: JsonObject | None) -> None:
        """Let other runs have the host. C(plan): the result of the task that has reserved it."""
        if plan and _rollout.is_of(plan, self.run) and plan["restarts"] and not self.check:
            self._call("udpgrm_claim", {"state": "absent", "rollout": self._rollout()})

    def read(self) -> JsonObject:
        """Return the state of all services."""
        return self._call("udpgrm_service_info", {})

    def probe(self, commands: t.Iterable[tuple[str, list[str]]]) -> list[str]:
        """Run commands that probe services; return what is wrong with them."""
        problems = []
        for service, argv in commands:
            answer = self._call("ansible.builtin.command", {"argv": argv})
            if _rollout.is_well(answer):
                continue
            try:
                why = json.loads(answer.get("stdout") or "")["reason"]
            except (ValueError, KeyError):
                why = answer.get("stderr") or _rollout.cause(answer)
            problems.append(f"{service} at {argv[3]}: {_rollout.one_line(why)}")
        return problems

    def support(self) -> JsonObject:
        """Return what the host knows of all its services, for the support bundle."""
        services = [item["name"] for item in self.read().get("services") or []]
        return self._call("udpgrm_support", {"services": services})


def serving(services: t.Iterable[JsonObject]) -> list[str]:
    """Return the services whose groups all have the sockets of a working generation."""
    return [
        item["name"] for item in services if item["groups"] and all(map(_serves, item["groups"]))
    ]


def _serves(group: JsonObject) -> bool:
    return any(
        item["generation"] == group["working_generation"]
        and item["sockets"] >= (item["expected_sockets"] or 1)
        for item in group["generations"]
    )


def _living(service: JsonObject) -> list[JsonObject]:
    return [item for group in service["groups"] for item in group["generations"] if item["sockets"]]


def flows_of(services: t.Iterable[JsonObject]) -> int | None:
    """Return the flows of all instances of services; None: some are not counted."""
    flows = [item["flows"] for service in services for item in _living(service)]
    return None if None in flows else sum(flows)


def has_drained(service: JsonObject) -> bool:
    """Return whether no client is left that a reboot would cut off, by the service's own policy."""
    until, flows = service["drain"]["until"], flows_of([service])
    quiet = [item["quiet_s"] for item in _living(service) if item["quiet_s"] is not None]
    is_quiet = until["quiet_s"] is None or min(quiet, default=math.inf) >= until["quiet_s"]
    if flows is None and until["flows"] is not None:
        return is_quiet and until["quiet_s"] is not None  # quiet alone decides, as in restarts
    return is_quiet and (until["flows"] is None or (flows or 0) <= until["flows"])


def drain(read: Read, host: str, check: bool) -> dict[str, t.Any]:
    """Wait until all services of a host have drained; failed, if one has not in its time and may not be cut off."""
    began, seen = time.monotonic(), []
    while True:
        answer = read()
        if not _rollout.is_well(answer):
            return {"failed": True, "msg": _rollout.cause(answer)}
        elapsed = time.monotonic() - began
        flows = flows_of(answer["services"])
        seen.append(flows)
        left = {item["name"]: item["drain"] for item in answer["services"] if not has_drained(item)}
        limit = max((policy["max_s"] for policy in left.values()), default=0.0)
        if check or elapsed >= limit:
            break
        shown = "flows not counted" if flows is None else f"{flows} flows left"
        display.display(f"{host}: {shown}, {elapsed:.0f} s of at most {limit:.0f} s")
        time.sleep(INTERVAL_S)
    kept = [name for name, policy in left.items() if policy["on_timeout"] != "stop"]
    if kept and not check:
        return {"failed": True, "msg": f"{', '.join(kept)}: not drained in {elapsed:.0f} s"}
    counted = [number for number in seen if number is not None]
    carried = None if flows is None else max(counted) - flows
    figures = {"drain_s": elapsed, "flows_carried": carried, "flows_lost": flows}
    return {"changed": False, "ended": time.time(), "figures": figures}


def serve(read: Read, names: t.Sequence[str], drained: JsonObject) -> dict[str, t.Any]:
    """Wait until the services that served before the reboot do so again; return what became of the host."""
    began = time.monotonic()
    while True:
        answer = read()
        lacking = [name for name in names if name not in serving(answer.get("services") or [])]
        is_well = _rollout.is_well(answer)
        if is_well and not lacking:
            break
        if time.monotonic() - began >= SERVE_S:
            why = "not serving" if is_well else _rollout.cause(answer)
            return {"failed": True, "msg": f"{', '.join(lacking)}: {why}, {SERVE_S:.0f} s later"}
        time.sleep(INTERVAL_S)
    figures = {**drained["figures"], "switch_s": time.time() - drained["ended"]}
    return {"changed": True, "rebooted": True, "figures": figures}


def probes(
    services: t.Iterable[JsonObject], names: t.Collection[str], place: str
) -> list[tuple[str, list[str]]]:
    """Return the names of services and the commands that probe them from another host. C(place): an address or name of theirs.

    Probes that the definition sends from a host of its own are left to restarts.
    """
    return [
        (str(item["name"]), _command(probe, address, place))
        for item in services
        if item["name"] in names
        for probe in item.get("probes") or []
        if "from" not in probe
        for address in ([probe["address"]] if "address" in probe else _addresses(item, probe))
    ]


def _addresses(service: JsonObject, probe: JsonObject) -> list[str]:
    """Return the addresses of groups of the protocol that the type of a probe is for."""
    found = []
    for group in service["groups"]:
        is_tcp = group.get("protocol") == "tcp"
        if probe["type"] in _TYPES_OF_TCP if is_tcp else probe["type"] != "connect":
            found.append(f"{group['address']}{_TCP if is_tcp else ''}")
    return found


def _command(probe: JsonObject, address: str, place: str) -> list[str]:
    keys = {key: value for key, value in probe.items() if key not in ("type", "address")}
    start = ["udpgrm", "probe", f"--type={probe['type']}", address, f"--at={place}"]
    return [*start, *(f"{key}={json.dumps(value)}" for key, value in keys.items()), "--json"]
