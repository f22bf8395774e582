# Copyright the udpgrm authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this plugin util is **PRIVATE** to the collection. It can have breaking changes at any time.

"""Variables of the playbooks: their names, defaults and values, and all known names."""

from __future__ import annotations

import difflib
import pathlib
import re
import typing as t

import yaml
from ansible.errors import AnsibleError, AnsibleUndefinedVariable
from ansible.module_utils.parsing.convert_bool import boolean
from ansible_collections.udpgrm.fleet.plugins.module_utils._host import SERVICE_NAME
from ansible_collections.udpgrm.fleet.plugins.plugin_utils import (
    _approval,
    _batches,
    _bundle,
    _gates,
    _paths,
    _rollout,
    _webhook,
    _windows,
)

PREFIX = "udpgrm_"
REPORT = "udpgrm-report.html"
#: The domain of a host, such as its rack.
DOMAIN = "udpgrm_domain"
#: What the playbook does to each host, a variable of its play; without it, it restarts services.
KIND = "rollout_kind"
#: Files of tasks that the playbook runs around a batch, around each host, and when it stops.
HOOKS = ("before_batch", "before_host", "after_host", "after_batch", "on_stop_tasks")
_SPECS = "roles/udpgrm/meta/argument_specs.yml"
_WHOLE = re.compile(r"[0-9]{1,9}")
_NUMBER = re.compile(r"([0-9]*[.])?[0-9]+(e-[0-9]+)?")

# Returns what a value means; raises ValueError with what it should be.
Reader = t.Callable[[t.Any], t.Any]


def _as_given(value: t.Any) -> t.Any:
    return value


def _whole(what: str) -> Reader:
    def read(value: t.Any) -> int:
        if isinstance(value, bool) or not _WHOLE.fullmatch(str(value)):
            raise ValueError(f"it is a whole number of {what}")
        return int(value)

    return read


def _share(value: t.Any) -> float:
    if isinstance(value, bool) or not _NUMBER.fullmatch(str(value)) or float(value) > 1:
        raise ValueError("it is a number such as 0.001, at most 1")
    return float(value)


def _one_of(*choices: str) -> Reader:
    def read(value: t.Any) -> str:
        if value not in choices:
            raise ValueError(f"it is {', '.join(choices[:-1])} or {choices[-1]}")
        return str(value)

    return read


def _optional(read: Reader) -> Reader:
    return lambda value: None if value in (None, "") else read(value)


def _flag(value: t.Any) -> bool:
    try:
        return bool(boolean(value))
    except TypeError as error:
        raise ValueError("it is true or false") from error


def _yaml(read: Reader) -> Reader:
    """Return a reader of what C(-e) has made a string of, too."""

    def parse(value: t.Any) -> t.Any:
        try:
            return read(yaml.safe_load(value) if isinstance(value, str) else value)
        except yaml.YAMLError as error:
            raise ValueError("it is no YAML") from error  # without the text, which may have secrets

    return parse


def _word(value: t.Any) -> str | None:
    return None if value in (None, "") else str(value)


def _release(value: t.Any) -> str | None:
    """Return the name of a release. A number of YAML is not what was written: 1.10 would be 1.1, another release."""
    if value is not None and (isinstance(value, bool) or not isinstance(value, (str, int))):
        raise ValueError('it is a word; quote it, as "1.10"')
    return _word(value)


def _service(value: t.Any) -> str | None:
    name = _word(value)
    if name is not None and not SERVICE_NAME.fullmatch(name):
        raise ValueError("set it to the name of a service")
    return name


def _services(value: t.Any) -> list[str]:
    try:
        found = yaml.safe_load(value) if isinstance(value, str) else value
    except yaml.YAMLError:
        found = 0
    names = found or [] if isinstance(found, (list, type(None))) else [found]
    if not all(isinstance(name, str) and SERVICE_NAME.fullmatch(name) for name in names):
        raise ValueError("it is a list of names of services, such as [dns, quic]")
    if len(set(names)) != len(names):
        raise ValueError("it names a service twice")
    return [str(name) for name in names]


def _report(value: t.Any) -> str:
    """Return the path of the page; empty: none."""
    return _paths.optional(value, REPORT)


def _task_file(value: t.Any) -> str:
    """Return the path of a file of tasks."""
    path = _paths.optional(value)
    if path and not pathlib.Path(path).is_file():
        raise ValueError(f"there is no file {path}")
    return path


def _bundle_path(value: t.Any) -> str:
    """Return the path of the support bundle; empty: none."""
    return _paths.optional(value, _bundle.NAME)


def _sizes(value: t.Any) -> list[int | str]:
    try:
        return _batches.parse(value)
    except AnsibleError as error:
        raise ValueError(str(error)) from error


# name: (default, reader)
ROLLING_RESTART: dict[str, tuple[t.Any, Reader]] = {
    "udpgrm_service": (None, _service),
    "udpgrm_services_to_restart": ([], _services),
    "udpgrm_hosts": ("all", _as_given),
    "udpgrm_canary": ("", _as_given),
    "udpgrm_batches": ([1, "10%", "25%", "50%", "100%"], _sizes),
    "udpgrm_release": (None, _release),
    "udpgrm_bake": (10, _whole("seconds")),
    "udpgrm_pause": (0, _whole("seconds")),
    "udpgrm_max_failures": (0, _whole("hosts")),
    "udpgrm_max_error_share": (0.001, _share),
    "udpgrm_gates": ([], _yaml(_gates.parse)),
    "udpgrm_gate_wait": (0, _whole("seconds")),
    "udpgrm_expedite": (False, _flag),
    "udpgrm_max_domains": (None, _optional(_whole("domains"))),
    "udpgrm_windows": ([], _yaml(_windows.parse)),
    "udpgrm_outside_windows": ("stop", _one_of("stop", "wait")),
    "udpgrm_approval": ("", _approval.parse),
    "udpgrm_approval_timeout": (3600, _whole("seconds")),
    "udpgrm_brake": ("", _paths.optional),
    "udpgrm_support_bundle": (False, _bundle_path),
    "udpgrm_webhook": ("", _webhook.parse_url),
    "udpgrm_webhook_template": ("", _webhook.parse_template),
    "udpgrm_webhook_headers": ({}, _yaml(_webhook.parse_headers)),
    "udpgrm_on_stop": ("stay", _one_of("stay", "rollback")),
    "udpgrm_other_rollout": ("refuse", _one_of("refuse", "wait", "replace")),
    "udpgrm_report": (True, _report),
    **{f"{PREFIX}{hook}": ("", _task_file) for hook in HOOKS},
}


# Named on the page without their values, which may be or have secrets.
_SECRET = ("udpgrm_gates", "udpgrm_approval", "udpgrm_webhook", "udpgrm_webhook_headers")
# Variables that a rolling reboot does not read.
_ONLY_RESTARTS = ("udpgrm_service", "udpgrm_services_to_restart", "udpgrm_release")


def known() -> frozenset[str]:
    """Return all known names: of the playbooks and of the role."""
    path = pathlib.Path(__file__).resolve().parents[2] / _SPECS
    specs = yaml.safe_load(path.read_text(encoding="utf-8"))["argument_specs"]
    return frozenset({*ROLLING_RESTART, DOMAIN, *specs["main"]["options"]})


def misspelt(names: t.Iterable[str]) -> str:
    """Return what is wrong with names that have the collection's prefix; empty: nothing."""
    ours = sorted(str(name) for name in names if str(name).startswith(PREFIX))
    there = known() if ours else frozenset()
    return "; ".join(
        f"{name}: no variable of udpgrm.fleet{_nearest(name, there)}"
        for name in ours
        if name not in there
    )


def _nearest(name: str, there: t.Collection[str]) -> str:
    found = difflib.get_close_matches(name, sorted(there), n=1)
    return f"; did you mean {found[0]}?" if found else ""


def _shown(name: str, value: t.Any) -> str:
    """Return a value for the page; empty: it does not list the variable."""
    if name in _ONLY_RESTARTS or value in (None, "", [], {}):
        return ""
    return "set" if name in _SECRET else str(value)


def settings(
    given: t.Mapping[str, t.Any],
    template: t.Callable[[t.Any], t.Any],
    may_lack: t.Collection[str] = (),
) -> dict[str, t.Any]:
    """Return the settings of a rolling restart, by name without the prefix. Raises ValueError, also for misspelt names.

    C(may_lack): names that get their defaults if their templates' variables are not defined yet.
    """
    wrong = misspelt(given)
    if wrong:
        raise ValueError(wrong)
    reboots = given.get(KIND) == _rollout.REBOOT
    refused = [name for name in _ONLY_RESTARTS if reboots and name in given]
    if refused:
        raise ValueError(f"{refused[0]}: a rolling reboot is of hosts, with all their services")
    found: dict[str, t.Any] = {}
    shown: dict[str, str] = {}
    for name, (default, read) in ROLLING_RESTART.items():
        value = [1] if reboots and name == "udpgrm_batches" else default
        try:
            if name in given:
                value = template(given[name])
                shown[name] = _shown(name, value)
        except AnsibleUndefinedVariable:
            if name not in may_lack:
                raise
        try:
            found[name.removeprefix(PREFIX)] = read(value)
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from error
    found["variables"] = {name: text for name, text in shown.items() if text}
    one, several = found.pop("service"), found.pop("services_to_restart")
    if reboots:
        return {**found, "reboots": True, "services": [_rollout.REBOOT]}
    if one and several:
        raise ValueError("udpgrm_service: set it, or udpgrm_services_to_restart, not both")
    if not one and not several and not may_lack:
        raise ValueError("udpgrm_service: set it to the name of a service")
    return {**found, "reboots": False, "services": several or [one]}


def other_services(hostvars: t.Mapping[str, t.Any], hosts: t.Sequence[str]) -> str:
    """Return which host has other services than the first; empty: none. A run counts the failures of its services only."""
    names = ("udpgrm_service", "udpgrm_services_to_restart")
    first = [hostvars[hosts[0]].get(name) or None for name in names]
    for host in hosts:
        variables = hostvars[host]
        for name, value in zip(names, first):
            if (variables.get(name) or None) != value:
                return f"{name}: that of {host} is not that of {hosts[0]}: restart each in a run of its own"
    return ""


def check_parsed(found: t.Mapping[str, t.Any], parsed: t.Collection[str], has_domain: bool) -> None:
    """Raise ValueError for a variable that was not known as the playbook was parsed, and so would be ignored."""
    for name in (f"{PREFIX}{key}" for key in ("hosts", "canary", "batches", *HOOKS, "max_domains")):
        if name in found["variables"] and name not in parsed:
            raise ValueError(
                f"{name}: give it with -e, or as a variable of import_playbook: "
                "the inventory is read after the playbook"
            )
    if has_domain and found["max_domains"] is None:
        raise ValueError(f"{DOMAIN}: give udpgrm_max_domains with -e; 0 if domains do not matter")
