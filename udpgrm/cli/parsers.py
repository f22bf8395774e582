# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""The parsers of udpgrm's own commands; the reference's commands have options.py's.

Usage texts, completions and manual pages are made of these, too.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any, NoReturn, Optional, Union

from udpgrm.cli import commands
from udpgrm.cli.commands import Action
from udpgrm.cli.errors import CommandError

_ADDRESS = "ADDRESS:PORT"


class _Formatter(argparse.HelpFormatter):
    """Formats help at a fixed width: for the terminal's, argparse imports shutil at each option."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, width=80)


class _Once(argparse.Action):
    """Refuses an option with a value that is given twice: the last one would win silently."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: Optional[str] = None,
    ) -> None:
        """Keep the value. Raises CommandError if there is one."""
        if hasattr(namespace, self.dest):
            parser.error(f"{self.dest} is given twice")
        setattr(namespace, self.dest, values)


class Parser(argparse.ArgumentParser):
    """A command's parser. Options are kept under their names, operands as `operands`."""

    def __init__(self, word: str, operands: str) -> None:
        """Take the options that all commands have. operands: as a usage text shows them."""
        super().__init__(
            prog=f"udpgrm {word}", usage=operands, add_help=False, formatter_class=_Formatter
        )
        self.operands = operands
        self.add_argument("operands", nargs="*")
        shorts = {long: short for short, long in commands.SHORT.items()}
        for option in commands.GENERAL:
            names = [shorts[option.name]] if option.name in shorts else []
            self._add(names, option.name, option.argument, option.text)

    def error(self, message: str) -> NoReturn:
        """Raise CommandError."""
        raise CommandError(f"{message} (see {self.prog} --help)")

    def value(self, name: str, argument: str, text: str) -> None:
        """Add an option that takes a value."""
        self._add([], name, argument, text, _Once)

    def flag(self, name: str, text: str) -> None:
        """Add an option without a value."""
        self._add([], name, "", text)

    def _add(
        self,
        shorts: list[str],
        name: str,
        argument: str,
        text: str,
        action: Union[str, type[argparse.Action]] = "store",
    ) -> None:
        if argument:
            self.add_argument(
                *shorts,
                name,
                dest=name,
                action=action,
                metavar=argument,
                help=text,
                default=argparse.SUPPRESS,
            )
        else:
            self.add_argument(
                *shorts,
                name,
                dest=name,
                action="store_const",
                const="",
                help=text,
                default=argparse.SUPPRESS,
            )

    def own_options(self) -> tuple[commands.Option, ...]:
        """Return the options that not all commands have."""
        general = {option.name for option in commands.GENERAL}
        return tuple(
            commands.Option(action.dest, str(action.metavar or ""), action.help or "")
            for action in self._actions
            if action.option_strings and action.dest not in general
        )


def _app(parser: Parser) -> None:
    parser.value("--app", "N", "application number; default 0")


def _check(parser: Parser) -> None:
    parser.flag("--check", "only show what would change")


def _unit(parser: Parser) -> None:
    parser.value("--unit", "UNIT", "sockets of this systemd unit")


def _no_follow(parser: Parser) -> None:
    parser.flag("--no-follow", "return once it has begun")


def _until(parser: Parser) -> None:
    parser.value("--until", "verified", "return after the switch, before the drain")


def _foreground(parser: Parser) -> None:
    parser.flag("--foreground", "run it in this process, not in a unit")


def _top_options(parser: Parser) -> None:
    parser.value("--interval", "SECONDS", "between two frames; default 1")
    parser.value("--count", "N", "frames; default: no end")


def _working_gen_options(parser: Parser) -> None:
    _app(parser)
    _check(parser)


def _enroll_options(parser: Parser) -> None:
    _unit(parser)
    parser.value("--cgroup", "DIR", "sockets of the processes of a cgroup, instead")
    parser.value("--gen", "N|next", "which generation; default next")
    parser.value("--count", "N", "how many sockets there must be; default 1")
    parser.value("--timeout", "SECONDS", "give up after; default 10")
    _app(parser)


def _adopt_options(parser: Parser) -> None:
    parser.value("--unit", "UNIT", "the unit that serves now; it keeps running")
    _check(parser)


def _dissector_options(parser: Parser) -> None:
    parser.value("--flows", "N", "entries of a flow table (set ... flow)")
    _check(parser)


def _probe_options(parser: Parser) -> None:
    parser.value("--type", "TYPE", "send a probe of a definition: echo, dns, stun, ...")
    parser.value("--from", "HOST", "send it from another host, by ssh (with --type)")
    parser.value("--at", "HOST", "ADDRESS is of this other host (with --type)")
    parser.value("--count", "N", "packets without --type; default 8")
    parser.value("--timeout", "SECONDS", "wait so long for answers; default 1")


def _service_options(parser: Parser) -> None:
    _check(parser)
    parser.flag("--write", "unit: write it to /etc/systemd/system")
    parser.value("--profile", "NAME", "new: profile of a known server, such as coturn")
    parser.value("--address", "LIST", "new: its addresses, separated by commas")
    parser.value("--flow-timeout", "SECONDS", "new: instead of the profile's")
    parser.value("--adopt", "UNIT", "start: make this unit the first instance if it runs")
    parser.flag("--lose-flows", "remove, stop: even if it has flows or is restarted")


def _restart_options(parser: Parser) -> None:
    parser.flag("--resume", "resume a restart that was interrupted or has failed")
    parser.value("--release", "NAME", "restart unless it serves; auto: by a fingerprint")
    parser.flag("--follow", "follow a restart that runs")
    _until(parser)
    parser.value("--timeout", "SECONDS", "--follow: return after so long")
    _no_follow(parser)
    _foreground(parser)
    _check(parser)


def _rollback_options(parser: Parser) -> None:
    _until(parser)
    _no_follow(parser)
    _foreground(parser)


def _drain_options(parser: Parser) -> None:
    parser.value("--flows", "N", "drained at N flows; 0 unless --quiet is given")
    parser.value("--quiet", "SECONDS", "drained after no packet; 5 unless --flows is given")
    parser.value("--max", "SECONDS", "wait no longer than that; default 300")
    _app(parser)


def _doctor_options(parser: Parser) -> None:
    parser.value("--pid", "PID", "sockets of this process")
    _unit(parser)


def _none(_: Parser) -> None:
    """Add nothing."""


_PARSERS: dict[str, tuple[str, Callable[[Parser], None]]] = {
    "status": ("[SERVICE]", _none),
    "top": (f"[{_ADDRESS}]", _top_options),
    "working-gen": (f"{_ADDRESS} GENERATION|newest", _working_gen_options),
    "hooks": ("ACTION", _check),
    "enroll": (_ADDRESS, _enroll_options),
    "adopt": ("SERVICE", _adopt_options),
    "dissector": ("ACTION", _dissector_options),
    "probe": (f"{_ADDRESS} [KEY=VALUE...]", _probe_options),
    "prober": ("", _none),
    "check": ("[FILE|DIRECTORY]", _none),
    "service": ("ACTION", _service_options),
    "restart": ("SERVICE", _restart_options),
    "rollback": ("SERVICE", _rollback_options),
    "drain": (f"{_ADDRESS} GENERATION", _drain_options),
    "doctor": (f"[{_ADDRESS}]", _doctor_options),
    "preflight": ("", _none),
    "build": ("", _none),
}

ACTIONS = {
    "hooks": (
        Action("list", "show the cgroups that have hooks"),
        Action("add CGROUP", "attach hooks to a cgroup"),
        Action("remove CGROUP", "detach them; what is steered stays so"),
    ),
    "dissector": (
        Action("list", "show the named dissectors, and addresses' choices"),
        Action("show NAME", "show a dissector's parameters"),
        Action("check NAME [KEY=VALUE...]", "compile and load it, attached to nothing"),
        Action(f"set {_ADDRESS} NAME [KEY=VALUE...]", "choose it for groups made there later"),
        Action(f"unset {_ADDRESS}", "let applications choose again"),
        Action("apply SERVICE", "set the dissectors of a service's definition"),
    ),
    "service": (
        Action("define SERVICE", "validate and write the definition on stdin"),
        Action("remove SERVICE", "delete the definition"),
        Action(
            f"new SERVICE --profile=NAME --address={_ADDRESS}[,...]",
            "define a service by a profile, with its units",
        ),
        Action("unit SERVICE", "make the template unit of the package's unit"),
        Action("render SERVICE GENERATION", "render an instance's configuration files"),
        Action("start SERVICE", "start the first instance, now and at each boot"),
        Action("stop SERVICE", "stop all instances, delete the journals"),
    ),
}


def parser_of(word: str) -> Parser:
    """Return the parser of one of udpgrm's own commands."""
    operands, add_options = _PARSERS[word]
    parser = Parser(word, operands)
    add_options(parser)
    return parser
