# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""The service manager: systemctl(1), systemd-run(1) and journalctl(1), and their errors."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from udpgrm.kernel import cgroups
from udpgrm.restart import host, secrets

if TYPE_CHECKING:
    import subprocess

    from udpgrm.services.definition import Service

_POLL_S = 0.05
_PATIENCE_S = 3.0
#: The last lines of a journal that a message has, and the characters of each.
_LOG_LINES, _LINE = 8, 300
#: Options of journalctl: messages alone, and no line that there is none.
_PLAIN = ("--output=cat", "--quiet", "--no-pager")
_ALIVE = ("active", "activating", "reloading")


class SystemdError(Exception):
    """Raised when systemd refuses, fails or does not answer; the message names the unit."""


class NotRunning(SystemdError):
    """Raised when a unit has no processes: it has ended, or waits for its next start."""


def runs() -> bool:
    """Return whether systemd is this machine's init: sd_booted(3)."""
    return host.current.runs_systemd()


def template_of(service: Service) -> str:
    """Return the text of the unit of a service's instances. Raises SystemdError as text_of does."""
    if not service.has_made_unit:
        return text_of(service.instances.unit)
    remedy = f"make it by udpgrm service unit {service.name} --write"
    return text_of(service.instances.unit, remedy)


def text_of(unit: str, remedy: str = "write it to /etc/systemd/system") -> str:
    """Return the text of a unit's files. Raises SystemdError unless systemd knows the unit."""
    done = _run("systemctl", "--no-ask-password", "cat", "--", unit)
    if done.returncode:
        reason = _message_of(done, f"no unit {unit}")
        if reason.startswith("No files found"):
            reason = f"systemd has no unit {unit}: {remedy}, then systemctl daemon-reload"
        raise SystemdError(reason)
    return done.stdout


def property_of(unit: str, name: str) -> str:
    """Return a property of a unit: org.freedesktop.systemd1(5). Raises SystemdError."""
    shown = _run(
        "systemctl", "--no-ask-password", "show", f"--property={name}", "--value", "--", unit
    )
    if shown.returncode:
        raise SystemdError(f"{unit}: {_message_of(shown, f'systemd does not report its {name}')}")
    return shown.stdout.strip()


def is_active(unit: str) -> bool:
    """Return whether a unit is active, or becomes so.

    Raises SystemdError if systemd does not answer for 3 s; it is silent while it is re-executed.
    """
    deadline = host.current.monotonic() + _PATIENCE_S
    while True:
        try:
            return property_of(unit, "ActiveState") in _ALIVE
        except SystemdError:
            if host.current.monotonic() > deadline:
                raise
        host.current.sleep(_POLL_S)


def cgroup_of(unit: str) -> Path:
    """Return the cgroup of a running unit. Raises NotRunning if it has none, SystemdError."""
    path = property_of(unit, "ControlGroup")
    if not path:
        raise NotRunning(f"unit {unit} has no cgroup: it does not run")
    return cgroups.default_root() / path.lstrip("/")


def run_job(verb: str, unit: str, limit: float, check_cancelled: Callable[[], None]) -> None:
    """Start, stop or restart a unit and wait for it, for `limit` seconds. Raises SystemdError.

    check_cancelled is called now and then, and may raise to give up.
    """
    deadline = host.current.monotonic() + limit
    check_cancelled()
    process = host.current.start(["systemctl", "--no-ask-password", verb, "--", unit])
    try:
        while process.poll() is None:
            if host.current.monotonic() > deadline:
                raise SystemdError(f"{unit}: not done with {verb} after {limit:g} s")
            host.current.sleep(_POLL_S)
            check_cancelled()
    finally:
        process.kill()
        _, printed = process.communicate()
    if process.poll():
        raise SystemdError(f"systemctl {verb} {unit}: {' '.join(printed.split()) or 'failed'}")


def running(pattern: str) -> list[str]:
    """Return units that hold sockets, or may soon; pattern as systemctl(1) takes it."""
    states = "--state=active,reloading,activating,deactivating"
    shown = _run("systemctl", "list-units", "--plain", "--no-legend", states, pattern)
    return [line.split()[0] for line in shown.stdout.splitlines() if line.split()]


def exists(unit: str) -> bool:
    """Return whether systemd has a file of a unit, or of its template."""
    return _run("systemctl", "cat", "--", unit).returncode == 0


def starts_at_boot(unit: str) -> bool:
    """Return whether a unit exists and is enabled; not if only other units start it."""
    return _run("systemctl", "is-enabled", unit).stdout.strip() in ("enabled", "enabled-runtime")


def change(verb: str, unit: str) -> None:
    """Start, stop, enable or disable a unit, however long it takes. Raises SystemdError."""
    done = _run("systemctl", "--no-ask-password", verb, "--", unit)
    if done.returncode:
        raise SystemdError(f"systemctl {verb} {unit}: {_message_of(done, 'failed')}")


def failure(unit: str) -> str:
    """Return how a unit has failed, if it has, and the last lines of its log, in one line.

    Values of its environment are replaced by the names of their variables.
    """
    wanted = "--property=Result,ExecMainCode,ExecMainStatus,Environment,EnvironmentFiles"
    shown: dict[str, list[str]] = {}
    for line in _run("systemctl", "show", wanted, unit).stdout.splitlines():
        name, _, value = line.partition("=")
        shown.setdefault(name, []).append(value)  # EnvironmentFiles: one for each file
    result, code, status = (
        shown.get(name, ["?"])[0] for name in ("Result", "ExecMainCode", "ExecMainStatus")
    )
    # 2, 3: killed, dumped core (CLD_KILLED, CLD_DUMPED)
    how = "signal" if code in ("2", "3") else "exit code"
    known = [] if result in ("success", "?") else [f"{result}, {how} {status}"]
    values = secrets.of_unit(shown.get("Environment", []), shown.get("EnvironmentFiles", []))
    log = _run("journalctl", "--unit", unit, f"--lines={_LOG_LINES}", *_PLAIN)
    lines = [line[:_LINE] for line in secrets.redact(log.stdout, values).split("\n") if line]
    if lines:
        known.append(f"its journal ends: {' | '.join(lines)}")
    return f"{unit}: {'; '.join(known) or 'its journal is empty'}"


def start(unit: str) -> None:
    """Start a unit that needs no time for it. Raises SystemdError."""
    done = _run("systemctl", "--no-ask-password", "start", "--", unit)
    if done.returncode:
        raise SystemdError(f"{unit}: {_message_of(done, 'systemd does not start it')}")


def reload() -> None:
    """Let systemd read its units again. Raises SystemdError."""
    done = _run("systemctl", "--no-ask-password", "daemon-reload")
    if done.returncode:
        raise SystemdError(_message_of(done, "systemd does not read its units again"))


def reset_failed(unit: str) -> None:
    """Let systemd unload a unit that has failed, if it has."""
    _run("systemctl", "--no-ask-password", "reset-failed", "--", unit)


def run_transient(unit: str, environment: Mapping[str, str], command: Sequence[str]) -> None:
    """Run a command in a unit of its own: systemd-run(1). Raises SystemdError."""
    done = _run(
        "systemd-run",
        "--quiet",
        "--no-ask-password",
        f"--unit={unit}",
        "--collect",
        "--property=KillMode=mixed",
        *(f"--setenv={name}={value}" for name, value in environment.items()),
        "--",
        *command,
    )
    if done.returncode:
        raise SystemdError(_message_of(done, f"{unit} could not be started"))


def last_line(unit: str) -> str:
    """Return the last line of a unit's log, "" if there is none."""
    shown = _run("journalctl", "--unit", unit, "--lines=1", *_PLAIN)
    return shown.stdout.strip()


def _run(*command: str) -> subprocess.CompletedProcess[str]:
    """Run a command in a session of its own: a Ctrl-C is for us."""
    return host.current.run(command)


def _message_of(done: subprocess.CompletedProcess[str], otherwise: str) -> str:
    """Return a command's error message, in one line."""
    return " ".join(done.stderr.split()) or otherwise
