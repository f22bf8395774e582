# SPDX-License-Identifier: Apache-2.0
"""The parser of the command line, as getopt_long reads it: options may follow commands."""

from __future__ import annotations

import getopt
from typing import NamedTuple, Optional

from udpgrm.cli import commands
from udpgrm.cli.errors import CommandError
from udpgrm.numbers import whole_number

#: Options of the reference: their abbreviations stay theirs, whatever is added.
_FIRST_NAMES = (*commands.SHORT.values(), "--install", "--without-sendmsg")
#: The next argument is their value, whatever it looks like.
_VALUED = {"-p", "--pin-dir", "-t", "--tubular", "--config"}
_DAEMON_OPTIONS = {option.name for option in commands.DAEMON} - {"--daemon", "--install"}


class Arguments(NamedTuple):
    """A parsed command line."""

    command: Optional[str]
    operands: list[str]
    given: dict[str, str]

    def flag(self, name: str) -> bool:
        """Return whether an option was given."""
        return name in self.given

    def number(self, name: str, default: int, low: int, high: int) -> int:
        """Return an option's whole number within bounds."""
        text = self.given.get(name)
        if text is None:
            return default
        number = whole_number(text, low, high)
        if number is None:
            raise CommandError(f"{name}: {text!r} is not a number of {low}..{high}")
        return number


def _whole(word: str) -> str:
    """Return a long option, written out if it is an abbreviation that the reference knew."""
    name, equals, value = word.partition("=")
    if name.startswith("--") and name[2:] not in {
        known.rstrip("=") for known in commands.long_options()
    }:
        found = [known for known in _FIRST_NAMES if known.startswith(name)]
        if len(found) == 1:
            return found[0] + equals + value
    return word


def _spread_install(argv: list[str]) -> list[str]:
    """Replace --install and -i, whose value is optional and attached, by a long form.

    getopt knows no optional values: an absent one becomes an empty one.
    """
    spread: list[str] = []
    for position, word in enumerate(argv):
        if word == "--":
            return spread + argv[position:]
        if spread and spread[-1] in _VALUED:
            spread.append(word)
            continue
        word = _whole(word)
        if word == "--install":
            word = "--install="
        elif word.startswith("-") and not word.startswith("--") and "i" in word:
            head, _, value = word.partition("i")
            # in -pDIR the letter belongs to a value
            if not set("pt") & set(head):
                if head != "-":
                    spread.append(head)
                word = f"--install={value}"
        spread.append(word)
    return spread


def parse(argv: list[str]) -> Arguments:
    """Read the command line. Raises CommandError for any misuse."""
    try:
        options, operands = getopt.gnu_getopt(
            _spread_install(argv), "hp:t:sdvf", commands.long_options()
        )
    except getopt.GetoptError as error:
        raise CommandError(f"{error.msg} (see udpgrm --help)") from error
    if any(name in ("-p", "--pin-dir") and not value for name, value in options):
        raise CommandError("--pin-dir: the directory is missing")
    given = {commands.SHORT.get(name, name): value for name, value in options}
    arguments = Arguments(operands[0] if operands else None, operands[1:], given)
    serving = arguments.flag("--daemon") or arguments.flag("--install")
    if arguments.flag("--help"):
        return arguments
    if arguments.command is not None:
        if arguments.command not in commands.COMMANDS:
            raise CommandError(f"unknown command {arguments.command!r} (see udpgrm --help)")
        if serving:
            raise CommandError("--daemon and --install combine with no command")
    elif not serving:
        raise CommandError("nothing to do: give --daemon, --install or a command")
    for name in arguments.given:
        takers = commands.takers(name)
        if takers and arguments.command not in takers:
            raise CommandError(f"{name} goes with {' or '.join(takers)}")
        if arguments.command and name in _DAEMON_OPTIONS:
            raise CommandError(f"{name} goes with --daemon or --install")
    if arguments.flag("--self") and not arguments.flag("--install"):
        raise CommandError("--self goes with --install")
    return arguments
