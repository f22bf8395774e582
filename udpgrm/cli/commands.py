# SPDX-License-Identifier: Apache-2.0
"""The commands: their modules, operands and options. Usage texts are made of this."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

_COLUMN = 28


class Option(NamedTuple):
    """An option of commands or of the daemon; argument "" means that it takes none."""

    name: str
    argument: str
    text: str

    @property
    def long(self) -> str:
        """Return the option in getopt's form."""
        return self.name[2:] + ("=" if self.argument else "")

    def line(self, short: str = "") -> str:
        """Return a line of a usage text."""
        shown = self.name + (f"={self.argument}" if self.argument else "")
        return _line(f"  {short or '  '} {shown}", self.text)


class Command(NamedTuple):
    """A command, in udpgrm/cli/MODULE.py."""

    module: str
    operands: str
    text: str
    options: tuple[Option, ...] = ()


_ADDRESS = "ADDRESS:PORT"
_APP = Option("--app", "N", "application number; default 0")
_CHECK = Option("--check", "", "only show what would change")
_UNIT = Option("--unit", "UNIT", "sockets of this systemd unit")
_NO_FOLLOW = Option("--no-follow", "", "return once it has begun")
_UNTIL = Option("--until", "verified", "return once new flows go where they are to go")
_FOREGROUND = Option("--foreground", "", "run it in this process, not in a unit")

COMMANDS = {
    "list": Command("listing", f"[{_ADDRESS}...]", "groups, generations, sockets, metrics"),
    "flows": Command("flows", f"[{_ADDRESS}]", "flows by socket"),
    "metrics": Command(
        "metrics",
        f"[{_ADDRESS}]",
        "metrics, one a line",
        (
            Option("--prometheus", "", "in Prometheus' text form,"),
            Option("--output", "FILE", "  into a file that is replaced in one step"),
            Option("--listen", _ADDRESS, "serve them over HTTP, at /metrics"),
        ),
    ),
    "delete": Command("delete", _ADDRESS, "delete a group's state"),
    "status": Command("status", "[SERVICE]", "services, their instances and last restarts"),
    "top": Command(
        "top",
        f"[{_ADDRESS}]",
        "generations live, with rates",
        (
            Option("--interval", "SECONDS", "between two frames; default 1"),
            Option("--count", "N", "frames; default: no end"),
        ),
    ),
    "working-gen": Command(
        "working_gen",
        f"{_ADDRESS} GENERATION|newest",
        "send new flows to a generation",
        (_APP, _CHECK),
    ),
    "hooks": Command(
        "hooks", "list|add CGROUP|remove CGROUP", "which cgroups are hooked", (_CHECK,)
    ),
    "enroll": Command(
        "enroll",
        _ADDRESS,
        "put a running server's sockets into a generation",
        (
            _UNIT,
            Option("--cgroup", "DIR", "  or those of a cgroup's processes"),
            Option("--gen", "N|next", "which generation; default next"),
            Option("--count", "N", "how many sockets there must be; default 1"),
            Option("--timeout", "SECONDS", "give up after; default 10"),
            _APP,
        ),
    ),
    "adopt": Command(
        "adopt",
        "SERVICE",
        "make the running unit a service's first generation",
        (Option("--unit", "UNIT", "the unit, which keeps running"), _CHECK),
    ),
    "dissector": Command(
        "dissector",
        "list | show NAME | check NAME [KEY=VALUE...]\n"
        f"       | set {_ADDRESS} NAME [KEY=VALUE...] | unset {_ADDRESS}\n"
        "       | apply SERVICE",
        "the library, and what an address gets of it",
        (
            Option("--flows", "N", "entries of a flow table (set ... flow)"),
            _CHECK,
        ),
    ),
    "probe": Command(
        "probe",
        f"{_ADDRESS} [KEY=VALUE...]",
        "send packets and see where they go",
        (
            Option("--type", "TYPE", "ask as probes do: echo, raw, dns, quic, stun, sip"),
            Option("--from", "HOST", "  from another host, by ssh"),
            Option("--count", "N", "packets; default 8"),
            Option("--timeout", "SECONDS", "for answers; default 1"),
        ),
    ),
    "prober": Command("prober", "", "probe for another host, which asks over ssh"),
    "check": Command("check", "[FILE|DIRECTORY]", "what is wrong in service definitions"),
    "service": Command(
        "service",
        "define SERVICE | remove SERVICE | unit SERVICE\n"
        "       | new SERVICE --profile=NAME --address=ADDRESS:PORT[,...]\n"
        "       | render SERVICE GENERATION",
        "write or delete definitions; make their units",
        (
            _CHECK,
            Option("--write", "", "unit: write it, and let systemd read it"),
            Option("--profile", "NAME", "new: of a server that is known"),
            Option("--address", "LIST", "new: where it serves"),
            Option("--lose-flows", "", "remove: although it has flows, or restarts"),
        ),
    ),
    "restart": Command(
        "restart",
        "SERVICE",
        "replace the old instance by a new one",
        (
            Option("--resume", "", "resume a restart that was interrupted or has failed"),
            Option("--release", "NAME", "only if another one serves; auto: a fingerprint"),
            Option("--follow", "", "watch a restart that runs"),
            _UNTIL,
            Option("--timeout", "SECONDS", "watch it for so long"),
            _NO_FOLLOW,
            _FOREGROUND,
            _CHECK,
        ),
    ),
    "rollback": Command(
        "rollback", "SERVICE", "back to the instance that drains", (_UNTIL, _NO_FOLLOW, _FOREGROUND)
    ),
    "drain": Command(
        "drain",
        f"{_ADDRESS} GENERATION",
        "wait until a generation has drained",
        (
            Option("--flows", "N", "at N flows left; default 0"),
            Option("--quiet", "SECONDS", "and after no packet for so long; default 5"),
            Option("--max", "SECONDS", "wait no longer than that; default 300"),
            _APP,
        ),
    ),
    "doctor": Command(
        "doctor",
        f"[{_ADDRESS}]",
        "which sockets are not steered, why, what to do",
        (Option("--pid", "PID", "sockets of this process"), _UNIT),
    ),
    "preflight": Command("preflight", "", "load programs and maps of every kind needed"),
    "build": Command("build", "", "compile what is not in the cache"),
}

#: With their own command lines, which they show themselves: name -> module, text.
HELPERS = {
    "activate": ("udpgrm.activate.command", "make an instance's sockets before it starts"),
    "decoy": ("udpgrm.decoy", "run a server that drains after its unit stops"),
}

DAEMON = (
    Option("--daemon", "", "load, pin, and stay in the foreground"),
    Option("--install", "[CGROUP]", "attach the hooks; default: first of"),
    Option("--self", "", "append this process's own cgroup path"),
    Option("--without-sendmsg", "", "leave out the sendmsg hooks"),
    Option("--tubular", "PATH", "SEQPACKET unix socket of a tubular daemon"),
    Option("--persist", "", "leave hooks and state in bpffs at exit"),
    Option("--config", "FILE", "default /etc/udpgrm/udpgrm.conf"),
    Option("--force", "", "start although another daemon runs"),
)
GENERAL = (
    Option("--help", "", "this text; after a command, that command's"),
    Option("--pin-dir", "DIR", "default /sys/fs/bpf/udpgrm"),
    Option("--verbose", "", ""),
    Option("--json", "", "answer in JSON"),
)
SHORT = {
    "-h": "--help",
    "-p": "--pin-dir",
    "-s": "--self",
    "-d": "--daemon",
    "-t": "--tubular",
    "-v": "--verbose",
    "-f": "--force",
}


def long_options() -> list[str]:
    """Return every option of every command, for getopt."""
    known = [*DAEMON, *GENERAL]
    for command in COMMANDS.values():
        known += command.options
    return list(dict.fromkeys(option.long for option in known))


def takers(name: str) -> list[str]:
    """Return the commands that take an option."""
    return [
        word
        for word, command in COMMANDS.items()
        if name in {option.name for option in command.options}
    ]


def usage(word: str = "") -> str:
    """Return the help text, of everything or of one command.

    Scripts recognise it by its first two lines: Usage, Options.
    """
    if word in COMMANDS:
        return _usage_of(word, COMMANDS[word])
    lines = ["Usage: udpgrm [OPTIONS] [COMMAND [OPERANDS]]", "Options:", *_general()]
    lines += ["", "Daemon:"]
    for option in DAEMON:
        if option.name == "--install":
            lines.append(_line("  -i --install[=CGROUP]", option.text))
            lines.append(_line("", "/sys/fs/cgroup/unified, /sys/fs/cgroup"))
        else:
            lines.append(option.line(_short(option.name)))
    lines += ["", "Commands (see udpgrm COMMAND --help):"]
    lines += [_line(f"  {name}", command.text) for name, command in COMMANDS.items()]
    lines += [_line(f"  {name}", text) for name, (_, text) in HELPERS.items()]
    return "\n".join(lines) + "\n"


def _usage_of(word: str, command: Command) -> str:
    is_long = "\n" in command.operands
    operands = "ACTION" if is_long else command.operands
    lines = [f"Usage: udpgrm {word} [OPTIONS] {operands}".rstrip()]
    lines += ["Options:", *(option.line() for option in command.options), *_general()]
    lines += ["", f"{word}: {command.text}"]
    if is_long:
        lines += ["", "Actions:", "         " + command.operands]
    return "\n".join(lines) + "\n"


def _general() -> Iterable[str]:
    return [option.line(_short(option.name)).rstrip() for option in GENERAL]


def _short(name: str) -> str:
    return next((short for short, long in SHORT.items() if long == name), "")


def _line(head: str, text: str) -> str:
    return f"{head:<{_COLUMN}}{text}" if len(head) < _COLUMN else f"{head}  {text}"
