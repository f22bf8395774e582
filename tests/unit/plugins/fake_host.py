# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors

"""A host command made of a Python object, answering as the schemas in udpgrm/interface say.

What an answer has beside what a test is about is taken from its schema's sample.
"""

from __future__ import annotations

import copy
import json
import os
import pathlib
import typing as t

from udpgrm import interface
from udpgrm.services import define
from udpgrm.state import address as addresses


def sample(name: str) -> dict[str, t.Any]:
    """Return the sample of an answer."""
    found: dict[str, t.Any] = interface.load(name)["examples"][0]
    return found


GROUP = sample("list")["groups"][0]
FLOW = GROUP["dissector"]


def group(address: str, working: int, alive: t.Iterable[int], ifindex: int = 0) -> dict[str, t.Any]:
    """Return a group of one application; one open socket in each generation of C(alive)."""
    ip, port = address.rsplit(":", 1)
    return {
        **copy.deepcopy(GROUP),
        "address": address,
        "ip": ip.strip("[]"),
        "port": int(port),
        "ifindex": ifindex,
        "applications": [{"application": 0, "working_generation": working}],
        "generations": [
            {
                **copy.deepcopy(GROUP["generations"][0]),
                "generation": generation,
                "slot": generation % 32,
                "working": generation == working,
                "flows": 3,
            }
            for generation in alive
        ],
    }


class FakeHost:
    """Runs udpgrm's commands on C(groups); C(calls) is what it was asked."""

    def __init__(self, *groups: dict[str, t.Any]) -> None:
        self.groups = list(groups)
        self.calls: list[list[str]] = []

    @staticmethod
    def check(arguments: t.Sequence[str], printed: str) -> None:
        """Check an answer; tests replace this by a comparison with the documentation."""

    def __call__(self, arguments: list[str], text: str = "") -> tuple[int, str, str]:
        """Run a command."""
        answer = self._run(arguments, text)
        self.check(arguments, answer[1])
        return answer

    def _run(self, arguments: list[str], text: str) -> tuple[int, str, str]:
        self.calls.append(arguments)
        command, *rest = arguments
        assert rest.pop() == "--json"
        if command == "list":
            return self._list(*rest)
        if command == "service":
            return self._service(text.encode(), *rest)
        if command in ("hooks", "dissector"):
            return self._hooks(*rest) if command == "hooks" else self._dissector(*rest)
        try:
            rest[0] = str(addresses.read(rest[0]))
        except ValueError as error:
            return 255, "", f"udpgrm: {error}\n"
        found = [g for g in self.groups if g["address"] == rest[0]]
        if not found:
            return 255, "", f"udpgrm: no group at {rest[0]}\n"
        if command == "delete":
            self.groups.remove(found[0])
            return self._answer(address=rest[0], changed=True)
        if command == "probe":
            return self._probe(found[0], *rest)
        if command == "drain":
            return self._drain(found[0], *rest)
        assert command == "working-gen"
        return self._working_gen(found[0], *rest)

    def _list(self, *arguments: str) -> tuple[int, str, str]:
        try:
            wanted = [addresses.read(word) for word in arguments]
        except ValueError as error:
            return 255, "", f"udpgrm: {error}\n"
        groups = [
            item
            for item in self.groups
            if not wanted or any(one.selects(item["address"], item["ifindex"]) for one in wanted)
        ]
        return self._answer(
            **{**sample("list"), "addresses": list(map(str, wanted)), "groups": groups}
        )

    def _working_gen(
        self,
        found: dict[str, t.Any],
        address: str,
        wanted: str,
        app_option: str,
        app: str,
        *check: str,
    ) -> tuple[int, str, str]:
        assert app_option == "--app" and check in ((), ("--check",))
        application = found["applications"][int(app)]
        before = application["working_generation"]
        alive = [g["generation"] for g in found["generations"] if g["sockets_alive"]]
        after = max(alive) if wanted == "newest" else int(wanted)
        if after not in alive:
            return 255, "", f"udpgrm: generation {after} of {address} has no living socket\n"
        if not check:
            application["working_generation"] = after
        return self._answer(
            address=address,
            application=int(app),
            changed=before != after,
            before=before,
            after=after,
        )

    def _probe(self, found: dict[str, t.Any], address: str, *options: str) -> tuple[int, str, str]:
        sent = int(options[1])
        received = 0 if found["ifindex"] else sent
        working = found["applications"][0]["working_generation"]
        status, out, err = self._answer(
            address=address,
            passed=received == sent,
            generation=working,
            sent=sent,
            answered=0,
            received=received,
            dispatch_errors=0,
        )
        return status if received else 1, out, err

    def _drain(
        self, group: dict[str, t.Any], address: str, generation: str, *options: str
    ) -> tuple[int, str, str]:
        """Answer with one flow less at each call."""
        [item] = [g for g in group["generations"] if g["generation"] == int(generation)]
        item["flows"] -= 1
        limit = int(options[options.index("--flows") + 1]) if "--flows" in options else 0
        drained = item["flows"] <= limit
        found = {**sample("drain"), "address": address, "generation": int(generation)}
        _status, out, err = self._answer(**{**found, "drained": drained, "flows": item["flows"]})
        return 0 if drained else 1, out, err

    def _hooks(self, action: str, cgroup: str, *check: str) -> tuple[int, str, str]:
        """Answer with the list of groups as the list of hooked cgroups."""
        hooked = t.cast(t.Any, cgroup) in self.groups
        changed = hooked != (action == "add")
        if changed and not check:
            if hooked:
                self.groups.remove(t.cast(t.Any, cgroup))
            else:
                self.groups.append(t.cast(t.Any, cgroup))
        return self._answer(cgroup=cgroup, changed=changed)

    def _service(self, text: bytes, action: str, name: str, *options: str) -> tuple[int, str, str]:
        """Run the host's own code on the definitions' files; find the fake's problems."""
        directory = pathlib.Path(os.environ["UDPGRM_SERVICES_DIR"])
        content = define.as_yaml(text) if action == "define" else None
        change = define.change(name, content, directory)
        problems = self._problems(change)
        if change.changed and not problems and "--check" not in options:
            change.apply()
        _status, out, err = self._answer(
            service=name,
            path=str(change.path),
            changed=change.changed and not problems,
            before=change.before and change.before.to_json(),
            after=change.after and change.after.to_json(),
            problems=problems,
            adopted=None,
            notes=[],
        )
        return 1 if problems else 0, out, err

    @staticmethod
    def _problems(change: define.Change) -> list[dict[str, str]]:
        """Report a definition with `bad` in it, and each but the first one with `port` in it."""
        if change.after is None:
            return []
        files = filter(pathlib.Path.is_file, change.path.parent.glob("*.yaml"))
        texts = {str(path): path.read_text() for path in files}
        texts[str(change.path)] = change.after.content.decode()
        shared = [path for path, text in sorted(texts.items()) if "port" in text]
        problems = [
            {"file": path, "key": "groups.0.address", "reason": "is another's already"}
            for path in shared[1:]
        ]
        if "bad" in texts[str(change.path)]:
            problems.append({"file": str(change.path), "key": "groups.0", "reason": "is bad"})
        return problems

    def _dissector(self, action: str, *arguments: str) -> tuple[int, str, str]:
        """Answer from the groups' list of [address, choice]; the dissector broken fails to load."""
        if action == "show":
            if arguments[0] == "bespoke":
                return 255, "", "udpgrm: dissector bespoke is a type of its own, not a named one"
            path = pathlib.Path(__file__).parent / "dissectors" / arguments[0]
            shown = {**sample("dissector-show"), "name": arguments[0], "path": str(path)}
            return self._answer(**shown)
        if action == "check":
            ok = arguments[0] != "broken"
            reason = "" if ok else "the verifier says no"
            _status, out, err = self._answer(
                name=arguments[0], ok=ok, reason=reason, log="R0 invalid"
            )
            return 0 if ok else 1, out, err
        address, *rest = arguments
        chosen = dict(t.cast(t.Any, self.groups))
        before, after = chosen.get(address), None
        if action == "set":
            given = dict(word.split("=") for word in rest[1:] if not word.startswith("--"))
            after = {"type": "named", "name": rest[0], "parameters": given, "flows": 0}
        if "--check" not in rest:
            chosen[address] = after
            self.groups = t.cast(t.Any, [item for item in chosen.items() if item[1]])
        return self._answer(address=address, changed=before != after, before=before, after=after)

    @staticmethod
    def _answer(**document: t.Any) -> tuple[int, str, str]:
        return 0, json.dumps({**document, "schema": 1}), ""

    @property
    def changes(self) -> list[list[str]]:
        """Calls that may have changed something."""
        return [call for call in self.calls if call[0] != "list" and "--check" not in call]
