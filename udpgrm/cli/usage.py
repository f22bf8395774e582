# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""Usage texts: of everything, and of each command. Made of the parsers."""

from __future__ import annotations

from collections.abc import Iterable

from udpgrm.cli import commands
from udpgrm.cli.commands import Form, Option

_COLUMN = 28


def form_of(word: str) -> Form:
    """Return the operands and options of a command, without the options that all have."""
    if word in commands.REFERENCE:
        return commands.REFERENCE[word]
    from udpgrm.cli.parsers import ACTIONS, parser_of

    parser = parser_of(word)
    return Form(parser.operands, parser.own_options(), ACTIONS.get(word, ()))


def takers(name: str) -> list[str]:
    """Return the commands that take an option."""
    return [
        word
        for word in commands.COMMANDS
        if name in {option.name for option in form_of(word).options}
    ]


def usage(word: str = "") -> str:
    """Return the help text, of everything or of one command.

    Scripts recognise it by its first two lines: Usage, Options.
    """
    if word in commands.COMMANDS:
        return _usage_of(word)
    lines = ["Usage: udpgrm [OPTIONS] [COMMAND [OPERANDS]]", "Options:", *_general()]
    lines += ["", "Daemon:"]
    for option in commands.DAEMON:
        if option.name == "--install":
            lines.append(_line("  -i --install[=CGROUP]", option.text))
        else:
            lines.append(_option(option))
    lines += ["", "Commands (see udpgrm COMMAND --help):"]
    lines += [_line(f"  {name}", command.text) for name, command in commands.COMMANDS.items()]
    lines += [_line(f"  {name}", text) for name, (_, text) in commands.HELPERS.items()]
    return "\n".join(lines) + "\n"


def _usage_of(word: str) -> str:
    operands, options, actions = form_of(word)
    lines = [f"Usage: udpgrm {word} [OPTIONS] {operands}".rstrip()]
    lines += ["Options:", *map(_option, options), *_general()]
    lines += ["", f"{word}: {commands.COMMANDS[word].text}"]
    if actions:
        lines += ["", "Actions:", *(_line(f"  {action.form}", action.text) for action in actions)]
    return "\n".join(lines) + "\n"


def _general() -> Iterable[str]:
    return [_option(option).rstrip() for option in commands.GENERAL]


def _option(option: Option) -> str:
    short = next((short for short, long in commands.SHORT.items() if long == option.name), "  ")
    shown = option.name + (f"={option.argument}" if option.argument else "")
    return _line(f"  {short} {shown}", option.text)


def _line(head: str, text: str) -> str:
    below = f"\n{' ' * _COLUMN}" if len(head) >= _COLUMN else ""
    return f"{head:<{_COLUMN}}{below}{text}"
