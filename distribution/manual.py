# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""Write the manual pages: udpgrm(8), and one page for each command.

    python3 -m distribution.manual DIRECTORY

Names, operands and options come from the parsers (udpgrm/cli/parsers.py, commands.py); what they
cannot say, sections of prose, from distribution/man/PAGE.man where there is such a file.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

from distribution import directory
from udpgrm import decoy
from udpgrm.activate import options as activate
from udpgrm.cli import commands, errors
from udpgrm.cli.commands import Action, Option
from udpgrm.cli.usage import form_of
from udpgrm.version import __version__

PROSE = Path(__file__).resolve().parent / "man"
#: Usages of commands that parse their own command lines.
USAGES = {"activate": activate.USAGE, "decoy": decoy.USAGE}
#: Exit statuses beside those that each command shares.
STATUSES: Mapping[str, Mapping[str, str]] = {
    "restart": {
        "0": "The restart has finished.",
        "1": "The restart was rolled back.",
        "2": "The restart has failed and was not rolled back.",
        "3": "The restart has not ended; this command has.",
    },
    "rollback": {
        "0": "New flows go to the old instance again.",
        "2": "The rollback has failed.",
        "3": "The rollback has not ended; this command has.",
    },
    "check": {"0": "No problem.", "1": "There are problems."},
    "dissector": {"0": "Success.", "1": "check: the dissector cannot be compiled or loaded."},
    "doctor": {"0": "All sockets are steered.", "1": "There is a problem."},
    "drain": {"0": "The generation has drained.", "1": "It has not within --max seconds."},
    "preflight": {"0": "The kernel has all that is needed.", "1": "Something is missing."},
    "probe": {"0": "The probe has passed.", "1": "It has not passed."},
    "service": {"0": "Success.", "1": "define: the definition has problems."},
}


def escape(text: str) -> str:
    """Return text that roff takes as it stands."""
    safe = text.replace("\\", "\\e").replace("-", "\\-")
    return "\\&" + safe if safe.startswith((".", "'")) else safe


def section(title: str, lines: Iterable[str]) -> list[str]:
    """Return a section, or nothing where it would be empty."""
    body = list(lines)
    return [f".SH {title}", *body] if body else []


def option_lines(options: Iterable[Option]) -> list[str]:
    """Return a tagged paragraph for each option; a text that continues one is joined to it."""
    lines: list[str] = []
    for option in options:
        short = next((key for key, long in commands.SHORT.items() if long == option.name), "")
        argument = f"={option.argument}" if option.argument else ""
        if option.argument.startswith("["):  # an optional value
            argument = f"[={option.argument[1:]}"
        names = f"{short}, {option.name}" if short else option.name
        lines += [
            ".TP",
            f".B {escape(names + argument)}",
            escape(option.text),
        ]
    return lines


def action_lines(actions: Iterable[Action]) -> list[str]:
    """Return a tagged paragraph for each action."""
    return [
        line
        for action in actions
        for line in (".TP", f".B {escape(action.form)}", escape(action.text))
    ]


def status_lines(word: str) -> list[str]:
    """Return the exit statuses of a command."""
    common = {
        str(errors.EXIT_INTERRUPTED): "The command was interrupted.",
        str(errors.EXIT_HELP): "The help text was asked for.",
        str(errors.EXIT_ERROR): "Misuse, or an error; one line on stderr says which.",
    }
    lines: list[str] = []
    for status, meaning in {**STATUSES.get(word, {"0": "Success."}), **common}.items():
        lines += [".TP", f".B {status}", escape(meaning)]
    return lines


def prose(page: str) -> list[str]:
    """Return the written sections of a page."""
    path = PROSE / f"{page}.man"
    return path.read_text().splitlines()[2:] if path.exists() else []  # after the licence


def head(page: str, text: str) -> list[str]:
    """Return the title and the NAME section; whatis(1) reads the latter."""
    title = f'.TH {page.upper()} 8 "" "udpgrm {__version__}" "System administration"'
    return [
        # in two parts: reuse would take it for this file's licence
        '.\\" SPDX-License' + "-Identifier: Apache-2.0",
        title,
        *section("NAME", [f"{page} \\- {escape(text)}"]),
    ]


def command_page(word: str, text: str) -> str:
    """Return the page of one command."""
    form = form_of(word)
    operands = [action.form for action in form.actions] or [form.operands]
    lines = [f"udpgrm {word} [OPTIONS] {part}" for part in operands]
    synopsis: list[str] = []
    for line in lines:
        synopsis += [f".B {escape(line.rstrip())}", ".br"]
    lines = [
        *head(f"udpgrm-{word}", text),
        *section("SYNOPSIS", synopsis[:-1]),
        *prose(f"udpgrm-{word}"),
        *section("ACTIONS", action_lines(form.actions)),
        *section("OPTIONS", option_lines(form.options)),
        *section("GENERAL OPTIONS", option_lines(commands.GENERAL)),
        *section("EXIT STATUS", status_lines(word)),
        *section("SEE ALSO", [".BR udpgrm (8)"]),
    ]
    return "\n".join(lines) + "\n"


def helper_page(word: str, text: str, usage: str) -> str:
    """Return the page of a command with a command line of its own, from its usage text."""
    lines = [
        *head(f"udpgrm-{word}", text),
        *section("SYNOPSIS AND OPTIONS", [".nf", *map(escape, usage.splitlines()), ".fi"]),
        *prose(f"udpgrm-{word}"),
        *section("SEE ALSO", [".BR udpgrm (8)"]),
    ]
    return "\n".join(lines) + "\n"


def main_page() -> str:
    """Return udpgrm(8)."""
    listed: list[str] = []
    texts = {word: command.text for word, command in commands.COMMANDS.items()}
    texts.update({word: text for word, (_, text) in commands.HELPERS.items()})
    for word, text in texts.items():
        listed += [".TP", f".BR udpgrm\\-{escape(word)} (8)", escape(text)]
    lines = [
        *head("udpgrm", "graceful restarts of UDP services"),
        *section(
            "SYNOPSIS",
            [
                ".B udpgrm \\-\\-daemon [OPTIONS]",
                ".br",
                ".B udpgrm COMMAND [OPTIONS] [OPERANDS]",
            ],
        ),
        *prose("udpgrm"),
        *section("COMMANDS", listed),
        *section("OPTIONS OF THE DAEMON", option_lines(commands.DAEMON)),
        *section("GENERAL OPTIONS", option_lines(commands.GENERAL)),
        *section("EXIT STATUS", status_lines("")),
    ]
    return "\n".join(lines) + "\n"


def pages() -> dict[str, str]:
    """Return every page by the name of its file."""
    found = {"udpgrm.8": main_page()}
    for word, command in commands.COMMANDS.items():
        found[f"udpgrm-{word}.8"] = command_page(word, command.text)
    for word, (_, text) in commands.HELPERS.items():
        found[f"udpgrm-{word}.8"] = helper_page(word, text, USAGES[word])
    return found


if __name__ == "__main__":
    sys.exit(directory.main("manual", pages))
