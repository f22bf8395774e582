# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""Write the completions of bash, zsh and fish.

    python3 -m distribution.completions DIRECTORY

Commands and options come from the parsers (udpgrm/cli/parsers.py, commands.py). Services are the
files of /etc/udpgrm/services.d, addresses those that `udpgrm list` knows.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable

from distribution import directory
from udpgrm.cli import commands
from udpgrm.cli.commands import Option
from udpgrm.cli.usage import form_of

_HEAD = "# SPDX-License-Identifier: Apache-2.0\n# Copyright the udpgrm authors\n"
#: Shell code that prints the candidates of an operand, by the word in a command's table.
CANDIDATES = {
    "SERVICE": "for f in /etc/udpgrm/services.d/*.y*ml; do f=${f##*/}; echo ${f%.y*ml}; done",
    "ADDRESS:PORT": "udpgrm list 2>/dev/null | grep -v '^[[:space:]]'",
}


def options_of(word: str) -> list[Option]:
    """Return the options that may follow a command; of the daemon where the word is empty."""
    own = form_of(word).options if word in commands.COMMANDS else ()
    return [*(own if word else commands.DAEMON), *commands.GENERAL]


def spelled(option: Option) -> str:
    """Return an option as it is typed: with = where it takes a value."""
    takes_value = option.argument and not option.argument.startswith("[")
    return option.name + ("=" if takes_value else "")


def operand_kind(word: str) -> str:
    """Return which candidates a command's operand has; empty: none."""
    if word not in commands.COMMANDS:
        return ""
    form = form_of(word)
    # complete actions' operands only where all actions have that kind
    forms = [action.form for action in form.actions] or [form.operands]
    return next((kind for kind in CANDIDATES if all(kind in shown for shown in forms)), "")


def words() -> list[str]:
    """Return every command."""
    return [*commands.COMMANDS, *commands.HELPERS]


def _cases(lines: Iterable[str]) -> str:
    return "\n".join(f"    {line}" for line in lines)


def bash() -> str:
    """Return the completion of bash."""
    options = [
        f"{word}) options='{' '.join(map(spelled, options_of(word)))}' ;;" for word in words()
    ]
    operands = [
        f"{word}) operands=$({CANDIDATES[kind]}) ;;"
        for word in words()
        if (kind := operand_kind(word))
    ]
    first = " ".join(map(spelled, options_of("")))
    return f"""{_HEAD}_udpgrm() {{
  local word command='' options='{first}' operands='{" ".join(words())}'
  for word in "${{COMP_WORDS[@]:1:COMP_CWORD-1}}"; do
    case $word in -* | =) ;; *) command=$word; break ;; esac
  done
  [ -z "$command" ] || operands=''
  case $command in
{_cases(options)}
  esac
  local current=${{COMP_WORDS[COMP_CWORD]}}
  case $current in
    -*) mapfile -t COMPREPLY < <(compgen -W "$options" -- "$current") ;;
    *)
      case $command in
{_cases("    " + line for line in operands)}
      esac
      mapfile -t COMPREPLY < <(compgen -W "$operands" -- "$current")
      ;;
  esac
  [[ ${{COMPREPLY[0]-}} == *= ]] && compopt -o nospace
  # a colon splits words of bash, so only what follows it may be offered
  if [ "$(type -t __ltrim_colon_completions)" = function ]; then
    __ltrim_colon_completions "$current"
  fi
}}
complete -F _udpgrm udpgrm
"""


def _name(kind: str) -> str:
    return kind.lower().partition(":")[0]


def _quoted(text: str) -> str:
    return text.replace("'", r"'\''")


def _zsh_arguments(word: str) -> str:
    """Return the specifications that zsh's _arguments takes, of a command or of the daemon."""
    specs = []
    for option in options_of(word):
        value = ":value:" if option.argument else ""
        specs.append(f"'{spelled(option)}[{_quoted(option.text.strip(' ,'))}]{value}'")
    kind = operand_kind(word)
    if kind:
        found = f'${{(f)"$({_quoted(CANDIDATES[kind])})"}}'
        specs.append(f"'*:{_name(kind)}:{{compadd -- {found}}}'")
    return " ".join(specs)


def zsh() -> str:
    """Return the completion of zsh."""
    described = [
        *(f"'{word}:{_quoted(command.text)}'" for word, command in commands.COMMANDS.items()),
        *(f"'{word}:{_quoted(text)}'" for word, (_, text) in commands.HELPERS.items()),
    ]

    cases = [f"{word}) _arguments {_zsh_arguments(word)} ;;" for word in words()]
    return f"""#compdef udpgrm
{_HEAD}_udpgrm() {{
  local -a commands
  commands=({" ".join(described)})
  local curcontext=$curcontext state line
  _arguments -C {_zsh_arguments("")} '1:command:->command' '*::operand:->operand'
  case $state in
    command) _describe command commands ;;
    operand)
      case $line[1] in
{_cases(cases)}
      esac
      ;;
  esac
}}
_udpgrm "$@"
"""


def fish() -> str:
    """Return the completion of fish."""
    lines = ["complete -c udpgrm -f"]
    none = "not __fish_seen_subcommand_from " + " ".join(words())
    texts = {word: command.text for word, command in commands.COMMANDS.items()}
    texts.update({word: text for word, (_, text) in commands.HELPERS.items()})
    for word, text in texts.items():
        lines.append(f"complete -c udpgrm -n '{none}' -a {word} -d '{_quoted(text)}'")
    for word in ["", *words()]:
        seen = f"__fish_seen_subcommand_from {word}" if word else none
        for option in options_of(word):
            value = " -r" if spelled(option).endswith("=") else ""
            text = _quoted(option.text.strip(" ,"))
            lines.append(f"complete -c udpgrm -n '{seen}' -l {option.name[2:]}{value} -d '{text}'")
        if word and (kind := operand_kind(word)):
            lines.append(f"complete -c udpgrm -n '{seen}' -a '(__udpgrm_{_name(kind)})'")
    functions = [
        f'function __udpgrm_{_name(kind)}\n  sh -c "{code.replace("$", chr(92) + "$")}"\nend'
        for kind, code in CANDIDATES.items()
    ]
    return _HEAD + "\n".join([*functions, *lines]) + "\n"


def completions() -> dict[str, str]:
    """Return each completion by the name of its file, as its shell looks for it."""
    return {"udpgrm": bash(), "_udpgrm": zsh(), "udpgrm.fish": fish()}


if __name__ == "__main__":
    sys.exit(directory.main("completions", completions))
