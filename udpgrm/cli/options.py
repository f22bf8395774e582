# SPDX-License-Identifier: Apache-2.0
"""The parser of the command line: options may follow commands, and precede them.

The daemon's options and the reference's commands are read as getopt_long does; the other
commands have parsers of argparse, which is imported only for them.
"""

from __future__ import annotations

import getopt
from typing import NamedTuple, NoReturn, Optional

from udpgrm.cli import commands
from udpgrm.cli.errors import CommandError
from udpgrm.numbers import number_of

#: Options of the reference: their abbreviations stay theirs, whatever is added.
_FIRST_NAMES = (*commands.SHORT.values(), "--install", "--without-sendmsg")
#: The next argument is their value, whatever it looks like.
_VALUED = {"-p", "--pin-dir", "-t", "--tubular", "--config"}
_KNOWN = {option.name for option in (*commands.DAEMON, *commands.GENERAL)}
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
        try:
            return number_of(name, text, low, high)
        except ValueError as error:
            raise CommandError(str(error)) from error


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


def _takes_next(word: str) -> bool:
    """Return whether the next argument is an option's value, whatever it looks like."""
    if word.startswith("--"):
        return _whole(word) in _VALUED
    # in -dpDIR the value is part of the word
    return word.startswith("-") and word[-1:] in ("p", "t") and not set("pt") & set(word[1:-1])


def _command_at(argv: list[str]) -> Optional[int]:
    """Return the position of the command; None: there is none that is known."""
    is_value = may_be_value = False
    for position, word in enumerate(argv):
        if is_value:
            is_value = may_be_value = False
        elif word == "--":
            follows = argv[position + 1 :]
            return position + 1 if follows and follows[0] in commands.COMMANDS else None
        elif word.startswith("-") and word != "-":
            is_value = _takes_next(word)
            # perhaps of an option of the command, which is not known yet
            may_be_value = word.startswith("--") and "=" not in word and word not in _KNOWN
        elif word in commands.COMMANDS:
            return position
        elif may_be_value:
            may_be_value = False
        else:
            return None
    return None


def parse(argv: list[str]) -> Arguments:
    """Read the command line. Raises CommandError for any misuse."""
    position = _command_at(argv)
    if position is not None and argv[position] not in commands.REFERENCE:
        arguments = _parse_own(argv[position], argv[:position] + argv[position + 1 :])
    else:
        arguments = _parse_reference(argv)
    if arguments.given.get("--pin-dir") == "":
        raise CommandError("--pin-dir: the directory is missing")
    return arguments


def _parse_own(word: str, argv: list[str]) -> Arguments:
    """Read the command line of one of udpgrm's own commands."""
    from udpgrm.cli.parsers import parser_of

    # argparse keeps no -- that is among operands and options
    end = argv.index("--") if "--" in argv else len(argv)
    found, unknown = parser_of(word).parse_known_intermixed_args(argv[:end])
    if unknown:
        _refuse(word, unknown[0].partition("=")[0])
    given = dict(vars(found))
    return Arguments(word, given.pop("operands") + argv[end + 1 :], given)


def _refuse(command: Optional[str], option: str) -> NoReturn:
    """Raise CommandError for an option that a command has not."""
    from udpgrm.cli.usage import takers

    if command and option in {known.name for known in commands.DAEMON}:
        raise CommandError(f"{option} goes with --daemon or --install, not with a command")
    if takers(option):
        raise CommandError(f"{option} goes with {' or '.join(takers(option))}")
    where = f"udpgrm {command} --help" if command else "udpgrm --help"
    raise CommandError(f"option {option} not recognized (see {where})")


def _parse_reference(argv: list[str]) -> Arguments:
    try:
        options, operands = getopt.gnu_getopt(
            _spread_install(argv), "hp:t:sdvf", commands.long_options()
        )
    except getopt.GetoptError as error:
        if "not recognized" in error.msg and len(error.opt) > 1:
            _refuse(None, f"--{error.opt}")
        raise CommandError(f"{error.msg} (see udpgrm --help)") from error
    given = {commands.SHORT.get(name, name): value for name, value in options}
    arguments = Arguments(operands[0] if operands else None, operands[1:], given)
    if not arguments.flag("--help"):
        _check_reference(arguments)
    return arguments


def _check_reference(arguments: Arguments) -> None:
    """Raise CommandError for options that do not go with the command, or with each other."""
    serving = arguments.flag("--daemon") or arguments.flag("--install")
    if arguments.command is not None:
        if arguments.command not in commands.REFERENCE:
            raise CommandError(f"unknown command {arguments.command!r} (see udpgrm --help)")
        if serving:
            raise CommandError("--daemon and --install combine with no command")
    elif not serving:
        raise CommandError("nothing to do: give --daemon, --install or a command")
    for name in arguments.given:
        takers = [
            word
            for word, form in commands.REFERENCE.items()
            if name in {option.name for option in form.options}
        ]
        if takers and arguments.command not in takers:
            raise CommandError(f"{name} goes with {' or '.join(takers)}")
        if arguments.command and name in _DAEMON_OPTIONS:
            raise CommandError(f"{name} goes with --daemon or --install")
    if arguments.flag("--self") and not arguments.flag("--install"):
        raise CommandError("--self goes with --install")
