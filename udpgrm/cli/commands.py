# SPDX-License-Identifier: Apache-2.0
"""The commands, and the options of the daemon and of the reference's commands."""

from __future__ import annotations

from typing import NamedTuple


class Option(NamedTuple):
    """An option of commands or of the daemon; argument "" means that it takes none."""

    name: str
    argument: str
    text: str

    @property
    def long(self) -> str:
        """Return the option in getopt's form."""
        return self.name[2:] + ("=" if self.argument else "")


class Command(NamedTuple):
    """A command, in udpgrm/cli/MODULE.py."""

    module: str
    text: str


class Action(NamedTuple):
    """An action of a command that has several, with its operands."""

    form: str
    text: str


class Form(NamedTuple):
    """The operands and options of a command; with actions, which have operands of their own."""

    operands: str
    options: tuple[Option, ...] = ()
    actions: tuple[Action, ...] = ()


_ADDRESS = "ADDRESS:PORT"

COMMANDS = {
    "list": Command("listing", "show groups, generations, sockets, metrics"),
    "flows": Command("flows", "show flows by socket"),
    "metrics": Command("metrics", "print metrics, one a line"),
    "delete": Command("delete", "delete a group's state"),
    "status": Command("status", "show services, instances, last restarts"),
    "top": Command("top", "show generations live, with rates"),
    "working-gen": Command("working_gen", "send new flows to a generation"),
    "hooks": Command("hooks", "list hooked cgroups, attach hooks, detach them"),
    "enroll": Command("enroll", "put a running server's sockets into a generation"),
    "adopt": Command("adopt", "make a running unit a service's first generation"),
    "dissector": Command("dissector", "list and try dissectors, choose one for an address"),
    "probe": Command("probe", "send packets and see where they go"),
    "prober": Command("prober", "send probes for another host, which asks by ssh"),
    "check": Command("check", "check service definitions"),
    "service": Command("service", "define services, make units, start and stop"),
    "restart": Command("restart", "replace the old instance by a new one"),
    "rollback": Command("rollback", "go back to the instance that drains"),
    "drain": Command("drain", "wait until a generation has drained"),
    "doctor": Command("doctor", "find out which sockets are not steered, and why"),
    "preflight": Command("preflight", "check that the kernel loads every program and map"),
    "build": Command("build", "compile programs that are not in the cache"),
}

#: Forms of the reference's commands, which getopt reads; parsers.py has the other commands'.
REFERENCE = {
    "list": Form(f"[{_ADDRESS}...]"),
    "flows": Form(f"[{_ADDRESS}]"),
    "metrics": Form(
        f"[{_ADDRESS}]",
        (
            Option("--prometheus", "", "in Prometheus' text format"),
            Option("--output", "FILE", "to this file, replaced in one step (--prometheus)"),
            Option("--listen", _ADDRESS, "serve them over HTTP, at /metrics"),
        ),
    ),
    "delete": Form(_ADDRESS),
}

#: With their own command lines, which they show themselves: name -> module, text.
HELPERS = {
    "activate": ("udpgrm.activate.command", "make an instance's sockets before it starts"),
    "decoy": ("udpgrm.decoy", "run a server that drains after its unit stops"),
}

DAEMON = (
    Option("--daemon", "", "load, pin, and stay in the foreground"),
    Option("--install", "[CGROUP]", "attach the hooks; default: the cgroup2 root"),
    Option("--self", "", "append this process's own cgroup path"),
    Option("--without-sendmsg", "", "without the sendmsg hooks, which make flows"),
    Option("--tubular", "PATH", "SEQPACKET unix socket of a tubular daemon"),
    Option("--persist", "", "leave hooks and state in bpffs at exit"),
    Option("--config", "FILE", "default /etc/udpgrm/udpgrm.conf"),
    Option("--force", "", "start although another daemon runs"),
)
GENERAL = (
    Option("--help", "", "this text; after a command, that command's"),
    Option("--pin-dir", "DIR", "default /sys/fs/bpf/udpgrm"),
    Option("--verbose", "", "list, flows: also zero counters, expired flows"),
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
    """Return the options that getopt knows: the daemon's, and the reference's commands'."""
    known = [*DAEMON, *GENERAL]
    for form in REFERENCE.values():
        known += form.options
    return [option.long for option in known]
