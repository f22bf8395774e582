# SPDX-License-Identifier: Apache-2.0
"""The command line, as getopt_long reads it: options may come after commands."""

from __future__ import annotations

import getopt
from dataclasses import dataclass, field
from typing import Optional

from udpgrm.cli.errors import CommandError
from udpgrm.numbers import whole_number

USAGE = """\
Usage: udpgrm [OPTIONS] [COMMAND] [ADDRESS:PORT] [ARGUMENT]

Daemon:
  -d --daemon               load, pin, and stay in the foreground
  -i --install[=CGROUP]     attach the hooks; default: first of
                            /sys/fs/cgroup/unified, /sys/fs/cgroup
  -s --self                 append this process's own cgroup path
     --without-sendmsg      leave out the sendmsg hooks
  -t --tubular=PATH         SEQPACKET unix socket of a tubular daemon
     --persist              leave hooks and state in bpffs at exit
     --config=FILE          default /etc/udpgrm/udpgrm.conf
  -f --force                start although another daemon runs

Commands:
  list                      groups, generations, sockets, metrics
  flows                     flows by socket
  status                    services, instances, last restarts: all, or SERVICE
  top                       generations live, with rates
  metrics                   metrics, one a line
  delete                    forget a group's state
  working-gen               set a working generation: a number or 'newest'
  hooks                     list, or add/remove CGROUP: who is hooked
  enroll                    put a running server's sockets into a generation
  probe                     send packets and see where they go
  restart                   SERVICE: a new instance in the place of the old one
  rollback                  SERVICE: back to the instance that drains
  drain                     wait until a GENERATION has drained
  doctor                    say which sockets are not steered, why, what to do
  dissector                 list, show NAME, check NAME [KEY=VALUE...],
                            set ADDRESS:PORT NAME [KEY=VALUE...], unset
  check                     name what is wrong in a service's FILE or a DIRECTORY
  preflight                 load programs and maps of every kind needed
  build                     compile what is not in the cache

General:
  -h --help                 this text
  -p --pin-dir=DIR          default /sys/fs/bpf/udpgrm
  -v --verbose
     --json                 answer in JSON
     --app=N                application number (working-gen, enroll, drain)
     --pid=PID              whose sockets (doctor): a process's, or --unit
     --unit=UNIT            whose sockets (enroll): a systemd unit's,
     --cgroup=DIR             or those of a cgroup's processes
     --gen=N|next           which generation (enroll; default next)
     --check                change nothing, say what would (working-gen,
                            hooks, restart)
     --prometheus           in Prometheus' text form (metrics),
     --output=FILE            into a file that is replaced in one step
     --interval=SECONDS     between two frames (top; default 1)
     --count=N              packets (probe; default 8), sockets (enroll; 1),
                            frames (top; default: no end)
     --timeout=SECONDS      for answers (probe; default 1), for all (enroll; 10)
     --follow               watch a restart that runs
     --no-follow            leave it to itself once it runs (restart, rollback)
     --foreground           do it here, in no unit of systemd (restart, rollback)
     --resume               take up a restart that was cut or has failed
     --flows=N              entries of a flow table (dissector set ... flow);
                            drained at N flows left (drain; default 0),
     --quiet=SECONDS          and after no packet for so long (drain; default 5)
     --max=SECONDS          wait no longer than that (drain; default 300)
"""

COMMANDS = (
    "list",
    "flows",
    "status",
    "top",
    "metrics",
    "delete",
    "working-gen",
    "hooks",
    "enroll",
    "probe",
    "restart",
    "rollback",
    "drain",
    "doctor",
    "dissector",
    "check",
    "preflight",
    "build",
)

#: Options that only some commands take.
_COMMAND_OPTIONS = {
    "--app": {"working-gen", "enroll", "drain"},
    "--unit": {"doctor", "enroll"},
    "--pid": {"doctor"},
    "--cgroup": {"enroll"},
    "--gen": {"enroll"},
    "--check": {"dissector", "hooks", "working-gen", "restart"},
    "--prometheus": {"metrics"},
    "--output": {"metrics"},
    "--interval": {"top"},
    "--count": {"probe", "enroll", "top"},
    "--timeout": {"probe", "enroll"},
    "--follow": {"restart"},
    "--no-follow": {"restart", "rollback"},
    "--foreground": {"restart", "rollback"},
    "--resume": {"restart"},
    "--flows": {"dissector", "drain"},
    "--quiet": {"drain"},
    "--max": {"drain"},
}
_DAEMON_OPTIONS = {"--self", "--without-sendmsg", "--persist", "--config", "--force", "--tubular"}

_SHORT = {
    "-h": "--help",
    "-p": "--pin-dir",
    "-s": "--self",
    "-d": "--daemon",
    "-t": "--tubular",
    "-v": "--verbose",
    "-f": "--force",
}
_LONG = [
    "help",
    "pin-dir=",
    "install=",
    "self",
    "without-sendmsg",
    "tubular=",
    "daemon",
    "verbose",
    "force",
    "persist",
    "config=",
    "json",
    "app=",
    "unit=",
    "pid=",
    "cgroup=",
    "gen=",
    "check",
    "prometheus",
    "output=",
    "interval=",
    "count=",
    "timeout=",
    "follow",
    "no-follow",
    "foreground",
    "resume",
    "flows=",
    "quiet=",
    "max=",
]


@dataclass
class Arguments:
    """A command line that was understood."""

    command: Optional[str] = None
    operands: list[str] = field(default_factory=list)
    given: dict[str, str] = field(default_factory=dict)

    def flag(self, name: str) -> bool:
        """Whether an option was given."""
        return name in self.given

    def number(self, name: str, default: int, low: int, high: int) -> int:
        """An option's whole number within bounds."""
        text = self.given.get(name)
        if text is None:
            return default
        number = whole_number(text, low, high)
        if number is None:
            raise CommandError(f"{name}: {text!r} is not a number of {low}..{high}")
        return number


def _spread_install(argv: list[str]) -> list[str]:
    """Give --install and -i, whose value is optional and attached, a long form.

    getopt knows no optional values: an absent one becomes an empty one.
    """
    spread: list[str] = []
    for position, word in enumerate(argv):
        if word == "--":
            return spread + argv[position:]
        if word == "--install":
            word = "--install="
        elif word.startswith("-") and not word.startswith("--") and "i" in word:
            head, _, value = word.partition("i")
            # in -pDIR the letter belongs to a value
            valued = {"-p", "--pin-dir", "-t", "--tubular", "--config"}
            if not set("pt") & set(head) and not (spread and spread[-1] in valued):
                if head != "-":
                    spread.append(head)
                word = f"--install={value}"
        spread.append(word)
    return spread


def parse(argv: list[str]) -> Arguments:
    """Read the command line. Raises CommandError for any misuse."""
    try:
        options, operands = getopt.gnu_getopt(_spread_install(argv), "hp:t:sdvf", _LONG)
    except getopt.GetoptError as error:
        raise CommandError(f"{error.msg} (see udpgrm --help)") from error
    if any(name in ("-p", "--pin-dir") and not value for name, value in options):
        raise CommandError("--pin-dir: the directory is missing")
    arguments = Arguments(given={_SHORT.get(name, name): value for name, value in options})
    if arguments.flag("--help"):
        return arguments
    serving = arguments.flag("--daemon") or arguments.flag("--install")
    if operands:
        arguments.command, *arguments.operands = operands
        if arguments.command not in COMMANDS:
            raise CommandError(f"unknown command {arguments.command!r} (see udpgrm --help)")
        if serving:
            raise CommandError("--daemon and --install combine with no command")
    elif not serving:
        raise CommandError("nothing to do: give --daemon, --install or a command")
    for name in arguments.given:
        if name in _COMMAND_OPTIONS and arguments.command not in _COMMAND_OPTIONS[name]:
            raise CommandError(f"{name} goes with {' or '.join(sorted(_COMMAND_OPTIONS[name]))}")
        if name in _DAEMON_OPTIONS and arguments.command:
            raise CommandError(f"{name} goes with --daemon or --install")
    if arguments.flag("--self") and not arguments.flag("--install"):
        raise CommandError("--self goes with --install")
    return arguments
