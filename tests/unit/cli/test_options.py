# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""The command line: what is understood, and how everything else is refused."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.bpf.support import ROOT
from udpgrm.cli import commands, options, usage
from udpgrm.cli.errors import CommandError
from udpgrm.cli.main import main

ADDRESS = "192.0.2.1:443"


@pytest.mark.parametrize(
    "line, given",
    [
        ("-d", {"--daemon": ""}),
        ("--daemon", {"--daemon": ""}),
        ("-i", {"--install": ""}),
        ("--install", {"--install": ""}),
        ("-i/sys/fs/cgroup", {"--install": "/sys/fs/cgroup"}),
        ("--install=/sys/fs/cgroup", {"--install": "/sys/fs/cgroup"}),
        ("--install=", {"--install": ""}),
        ("-id", {"--install": "d"}),
        ("-di", {"--daemon": "", "--install": ""}),
        ("-d -i", {"--daemon": "", "--install": ""}),
        ("--daemon --install", {"--daemon": "", "--install": ""}),
        ("-dvi", {"--daemon": "", "--verbose": "", "--install": ""}),
        ("-dvi/a/i", {"--daemon": "", "--verbose": "", "--install": "/a/i"}),
        ("-dvip", {"--daemon": "", "--verbose": "", "--install": "p"}),
        ("-i-p", {"--install": "-p"}),
        ("-di -s", {"--daemon": "", "--install": "", "--self": ""}),
        ("-i -i/a", {"--install": "/a"}),
        ("-d -p DIR", {"--daemon": "", "--pin-dir": "DIR"}),
        ("-d -p -i", {"--daemon": "", "--pin-dir": "-i"}),
        ("-d -pDIRwithi", {"--daemon": "", "--pin-dir": "DIRwithi"}),
        ("-dpi", {"--daemon": "", "--pin-dir": "i"}),
        ("-dvpDIRi -i", {"--daemon": "", "--verbose": "", "--pin-dir": "DIRi", "--install": ""}),
        ("-d --pin-dir DIRi", {"--daemon": "", "--pin-dir": "DIRi"}),
        ("-d --pin-dir -i", {"--daemon": "", "--pin-dir": "-i"}),
        ("-d --pin-dir=DIRi", {"--daemon": "", "--pin-dir": "DIRi"}),
        ("-d --pin=DIRi", {"--daemon": "", "--pin-dir": "DIRi"}),
        ("-d -f", {"--daemon": "", "--force": ""}),
        ("-d --force", {"--daemon": "", "--force": ""}),
        ("-d --config=FILE", {"--daemon": "", "--config": "FILE"}),
        (
            "-d --persist --without-sendmsg",
            {"--daemon": "", "--persist": "", "--without-sendmsg": ""},
        ),
        ("-i --without-sendmsg", {"--install": "", "--without-sendmsg": ""}),
        ("-i --", {"--install": ""}),
        # abbreviations: the reference's stay, although other options begin so, too
        ("--i --d", {"--daemon": "", "--install": ""}),
        ("--inst=/a --daem", {"--daemon": "", "--install": "/a"}),
        ("--d --p=DIR --f", {"--daemon": "", "--pin-dir": "DIR", "--force": ""}),
        ("--d --t PATH --v", {"--daemon": "", "--tubular": "PATH", "--verbose": ""}),
        ("--i --s --w", {"--install": "", "--self": "", "--without-sendmsg": ""}),
        ("--d --pin-dir --i", {"--daemon": "", "--pin-dir": "--i"}),
        ("--d --pers", {"--daemon": "", "--persist": ""}),
    ],
)
def test_serving(line: str, given: dict[str, str]) -> None:
    assert options.parse(line.split()) == options.Arguments(None, [], given)


@pytest.mark.parametrize(
    "line, command, operands, given",
    [
        ("list", "list", [], {}),
        ("list -v", "list", [], {"--verbose": ""}),
        ("-v list", "list", [], {"--verbose": ""}),
        (f"list {ADDRESS} -v", "list", [ADDRESS], {"--verbose": ""}),
        (f"list -p DIR {ADDRESS}", "list", [ADDRESS], {"--pin-dir": "DIR"}),
        ("list --json --pin-dir=DIR", "list", [], {"--json": "", "--pin-dir": "DIR"}),
        ("-- list -v", "list", ["-v"], {}),
        ("list -- -i", "list", ["-i"], {}),
        ("flows [::1]:53", "flows", ["[::1]:53"], {}),
        ("metrics", "metrics", [], {}),
        (f"delete {ADDRESS}", "delete", [ADDRESS], {}),
        (
            f"working-gen {ADDRESS} newest --app 1 --check",
            "working-gen",
            [ADDRESS, "newest"],
            {"--app": "1", "--check": ""},
        ),
        (
            f"probe --count=3 {ADDRESS} --timeout 2",
            "probe",
            [ADDRESS],
            {"--count": "3", "--timeout": "2"},
        ),
        (
            f"probe -p DIR {ADDRESS} --count 3 a=b c=d",
            "probe",
            [ADDRESS, "a=b", "c=d"],
            {"--pin-dir": "DIR", "--count": "3"},
        ),
        ("--check restart edge", "restart", ["edge"], {"--check": ""}),
        (f"--app 1 working-gen {ADDRESS} 2", "working-gen", [ADDRESS, "2"], {"--app": "1"}),
        ("-vp restart status", "status", [], {"--verbose": "", "--pin-dir": "restart"}),
        ("-pDIR --json status edge", "status", ["edge"], {"--pin-dir": "DIR", "--json": ""}),
        ("--pin-dir=a status --pin-dir b", "status", [], {"--pin-dir": "b"}),
        ("-- status -v", "status", ["-v"], {}),
        ("status -- -v", "status", ["-v"], {}),
        ("restart --fol edge", "restart", ["edge"], {"--follow": ""}),
        ("preflight", "preflight", [], {}),
        ("build --json", "build", [], {"--json": ""}),
    ],
)
def test_commands(line: str, command: str, operands: list[str], given: dict[str, str]) -> None:
    assert options.parse(line.split()) == options.Arguments(command, operands, given)


@pytest.mark.parametrize(
    "line, message",
    [
        ("", "nothing to do"),
        ("-v", "nothing to do"),
        ("-p DIR", "nothing to do"),
        ("--self", "nothing to do"),
        ("lists", "unknown command 'lists'"),
        ("LIST", "unknown command 'LIST'"),
        (ADDRESS, f"unknown command '{ADDRESS}'"),
        ("-d list", "combine with no command"),
        ("list -d", "combine with no command"),
        ("-i list", "combine with no command"),
        ("list --install=/a", "combine with no command"),
        ("-i /sys/fs/cgroup", "unknown command '/sys/fs/cgroup'"),
        ("-x", "-x not recognized"),
        ("-dx", "-x not recognized"),
        ("--installs", "--installs not recognized"),
        ("--nothing", "--nothing not recognized"),
        ("--p", "--pin-dir requires argument"),
        ("--c", "--config requires argument"),
        ("restart --f", "--follow, --foreground"),
        ("status --app=1", "--app goes with "),
        ("status -d", "option -d not recognized"),
        ("-d status", "option -d not recognized"),
        ("--force status", "--force goes with --daemon or --install"),
        ("status --json=yes", "--json"),
        ("status --pin-dir=", "the directory is missing"),
        ("list --f", "--force goes with"),
        ("-p", "-p requires argument"),
        ("-dp", "-p requires argument"),
        ("--pin-dir", "--pin-dir requires argument"),
        ("--daemon=yes", "must not have an argument"),
        ("-d -s", "--self goes with "),
        ("list -s", "--self goes with"),
        ("list -f", "--force goes with"),
        ("list --persist", "--persist goes with"),
        ("list --config=FILE", "--config goes with"),
        ("list --without-sendmsg", "--without-sendmsg goes with"),
        ("list --app=1", "--app goes with "),
        ("list --check", "--check goes with "),
        ("-d --check", "--check goes with "),
        ("list --count=1", "--count goes with "),
        ("-d --timeout=1", "--timeout goes with "),
    ],
)
def test_misuse(line: str, message: str) -> None:
    with pytest.raises(CommandError) as error:
        options.parse(line.split())
    assert message in str(error.value)
    assert len(str(error.value).splitlines()) == 1


@given(
    st.lists(
        st.one_of(
            st.sampled_from(
                ["-d", "-i", "-p", "--", "list", "--install", "--pin-dir", "-dvi", "--app"]
            ),
            st.text(st.sampled_from("-=dhipsvfa/ "), max_size=6),
        ),
        max_size=5,
    )
)
def test_any_words_are_understood_or_refused(arguments: list[str]) -> None:
    try:
        found = options.parse(arguments)
    except CommandError as error:
        assert len(str(error).splitlines()) == 1
    else:
        serving = found.flag("--daemon") or found.flag("--install")
        assert found.flag("--help") or serving != (found.command in commands.COMMANDS)


@given(
    head=st.text(st.sampled_from("dvf"), max_size=4),
    value=st.text(st.characters(exclude_categories=["Cs"]), max_size=8),
)
def test_i_takes_the_rest_of_its_word(head: str, value: str) -> None:
    found = options.parse([f"-{head}i{value}"])
    assert found.given["--install"] == value
    assert set(found.given) - {"--install"} == {commands.SHORT[f"-{letter}"] for letter in head}


@pytest.mark.parametrize("text, value", [("0", 0), ("3", 3), ("007", 7)])
def test_numbers(text: str, value: int) -> None:
    assert options.Arguments(None, [], {"--app": text}).number("--app", 9, 0, 7) == value


def test_a_number_that_was_not_given() -> None:
    assert options.Arguments(None, [], {}).number("--app", 9, 0, 3) == 9


@pytest.mark.parametrize("text", ["", "-1", "8", "1.0", "+1", " 1", "1_0", "0x1", "٣", "one"])
def test_wrong_numbers(text: str) -> None:
    with pytest.raises(CommandError) as error:
        options.Arguments(None, [], {"--app": text}).number("--app", 0, 0, 7)
    assert str(error.value) == f"--app: {text!r} is not a number of 0..7"


def test_a_number_longer_than_python_reads() -> None:
    with pytest.raises(CommandError):
        options.Arguments(None, [], {"--app": "1" * 5000}).number("--app", 0, 0, 7)


def test_the_help_names_every_command_and_option() -> None:
    whole = usage.usage()
    assert [item for item in commands.COMMANDS if f"\n  {item} " not in whole] == []
    assert [item for item in commands.HELPERS if f"\n  {item} " not in whole] == []
    for option in (*commands.DAEMON, *commands.GENERAL):
        assert f" {option.name}" in whole
    for short, name in commands.SHORT.items():
        assert f"\n  {short} {name}" in whole
    assert all(len(line) < 80 for line in whole.splitlines())


@pytest.mark.parametrize("word", commands.COMMANDS)
def test_every_command_has_a_module_and_a_help(
    word: str, capsys: pytest.CaptureFixture[str]
) -> None:
    command, form = commands.COMMANDS[word], usage.form_of(word)
    assert callable(importlib.import_module(f"udpgrm.cli.{command.module}").run)
    assert main([word, "--help"]) == 254
    output = capsys.readouterr().out
    assert output.startswith(f"Usage: udpgrm {word} ")
    assert all(f" {option.name}" in output for option in form.options)
    assert all(len(line) < 80 for line in output.splitlines())


def test_an_option_means_the_same_in_every_command() -> None:
    found: dict[str, str] = {}
    for option in (*commands.DAEMON, *commands.GENERAL):
        found[option.name] = option.long
    for word in commands.COMMANDS:
        for option in usage.form_of(word).options:
            assert found.setdefault(option.name, option.long) == option.long


@pytest.mark.parametrize(
    "line", ["-h", "--help", "--he", "list -h", "-dvh", "-i -h", "nonsense --help"]
)
def test_help(line: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(line.split()) == 254
    captured = capsys.readouterr()
    assert captured.out.startswith("Usage: udpgrm ")
    assert captured.err == ""


@pytest.mark.parametrize(
    "line",
    [
        "",
        "lists",
        "--nothing",
        "-x",
        "-p",
        "-d list",
        "-i list --json",
        "list --force",
        "list a b",
        "list not-an-address",
        "list --json not-an-address",
        "list 192.0.2.1:0",
        "flows [::1]",
        "metrics 192.0.2.1:443",
        "delete",
        "delete --json",
        "delete 192.0.2.1",
        "delete 192.0.2.1:443 more",
        "working-gen 192.0.2.1:443",
        "working-gen 192.0.2.1 1",
        "working-gen 192.0.2.1:443 1 --app=0 --app=1",
        "working-gen 192.0.2.1:443 1 --app=4",
        "probe",
        "probe 192.0.2.1:443 --count=0",
        "probe 192.0.2.1:443 --count=many",
        "probe 192.0.2.1:443 --timeout=61",
        "preflight now",
        "build it",
        "-d --self",
        "-d --config=/nonexistent/udpgrm.conf",
        "--install=/nonexistent",
        "-d --install=/",
    ],
)
def test_misuse_is_one_line_and_255(line: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(line.split()) == 255
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("udpgrm: ")
    assert captured.err.endswith("\n")
    assert len(captured.err.splitlines()) == 1


def test_one_line_also_for_a_word_of_two(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--no\nthing"]) == 255
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_a_wrong_configuration_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "udpgrm.conf"
    file.write_text("[limits]\ngroups = none\n")
    assert main(["-d", f"--config={file}"]) == 255
    message = capsys.readouterr().err
    assert message == f"udpgrm: {file}: limits.groups: 'none' is not a number of 1..65536\n"


@pytest.mark.skipif(os.geteuid() != 0, reason="the kernel refuses earlier")
@pytest.mark.parametrize("command", ["list", "metrics", "flows --json", "list --json"])
def test_a_pin_directory_that_is_a_file(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["-p", __file__, *command.split()]) == 255
    assert len(capsys.readouterr().err.splitlines()) == 1


#: Commands that read service definitions, which are YAML.
WITH_DEFINITIONS = {
    "adopt",
    "check",
    "doctor",
    "prober",
    "restart",
    "rollback",
    "status",
    "service",
}


def test_no_command_loads_a_compiler_or_a_template_engine() -> None:
    # scripts call commands hundreds of times in a row
    modules = {"daemon"} | {command.module for command in commands.COMMANDS.values()}
    program = (
        "import importlib, json, sys\n"
        f"for name in {sorted(modules - WITH_DEFINITIONS)}:\n"
        "    importlib.import_module('udpgrm.cli.' + name)\n"
        "print(json.dumps(sorted(sys.modules)))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True
    )
    loaded = json.loads(done.stdout)
    assert "udpgrm.cli.listing" in loaded
    assert {"bcc", "jinja2", "yaml"}.isdisjoint(loaded)
