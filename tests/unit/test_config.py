# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""The configuration file: what is in bounds, and one line for every mistake."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from udpgrm import config
from udpgrm.state.layout import Limits

BOUNDS = {
    "groups": (1, 65536),
    "flows_per_generation": (64, 16777216),
    "prepared_groups": (1, 1024),
    "prepared_tables": (1, 1024),
    "groups_per_user": (1, 65536),
    "tables_per_user": (1, 4096),
}
FIELDS = {
    "groups": "groups",
    "flows_per_generation": "flows",
    "prepared_groups": "prepared_groups",
    "prepared_tables": "prepared_tables",
    "groups_per_user": "groups_per_user",
    "tables_per_user": "tables_per_user",
}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "udpgrm.conf"


def complaint(file: Path, content: str) -> str:
    """Return the error of load() for a wrong file: one line that begins with the file's name."""
    file.write_text(content)
    with pytest.raises(config.ConfigError) as error:
        config.load(str(file), required=True)
    text = str(error.value)
    assert len(text.splitlines()) == 1
    assert text.startswith(f"{file}: ")
    return text[len(f"{file}: ") :]


def limits_with(key: str, value: int) -> str:
    """Return a file that sets one key, and leaves room for it."""
    more = "prepared_groups = 1\n" if key == "groups" else ""
    if key == "prepared_groups":
        more = "groups = 1024\n"
    return f"[limits]\n{more}{key} = {value}\n"


def test_defaults_are_those_of_the_documentation() -> None:
    assert Limits() == Limits(
        groups=512,
        flows=65536,
        prepared_groups=128,
        prepared_tables=4,
        groups_per_user=64,
        tables_per_user=128,
    )


def test_no_file(file: Path) -> None:
    assert config.load(str(file), required=False) == Limits()


def test_no_file_that_was_asked_for(file: Path) -> None:
    with pytest.raises(config.ConfigError, match="No such file"):
        config.load(str(file), required=True)


@pytest.mark.parametrize("content", ["", "# nothing\n", "[limits]\n", "[limits]\n; groups = 5\n"])
def test_nothing_set(file: Path, content: str) -> None:
    file.write_text(content)
    assert config.load(str(file), required=False) == Limits()


def test_everything_set(file: Path) -> None:
    file.write_text(
        "[limits]\ngroups = 100\nflows_per_generation: 1000\n"
        "prepared_groups=7\n  # a remark\nPrepared_Tables = 9\n"
    )
    assert config.load(str(file), required=True) == Limits(100, 1000, 7, 9)


@pytest.mark.parametrize("key, value", [(key, end) for key in BOUNDS for end in BOUNDS[key]])
def test_bounds(file: Path, key: str, value: int) -> None:
    file.write_text(limits_with(key, value))
    assert getattr(config.load(str(file), required=True), FIELDS[key]) == value


@pytest.mark.parametrize("key", BOUNDS)
@pytest.mark.parametrize("high", [False, True])
def test_just_out_of_bounds(file: Path, key: str, high: bool) -> None:
    value = BOUNDS[key][1] + 1 if high else BOUNDS[key][0] - 1
    low, top = BOUNDS[key]
    assert complaint(file, limits_with(key, value)) == (
        f"limits.{key}: '{value}' is not a number of {low}..{top}"
    )


@pytest.mark.parametrize("text", ["", "many", "-1", "+5", "5.0", "0x10", "1_0", "٣", "5 ; five"])
def test_no_numbers(file: Path, text: str) -> None:
    message = complaint(file, f"[limits]\ngroups = {text}\n")
    assert message == f"limits.groups: {text!r} is not a number of 1..65536"


def test_a_value_that_continues_in_the_next_line(file: Path) -> None:
    assert complaint(file, "[limits]\ngroups = 5\n 6\n").startswith(r"limits.groups: '5\n6' is not")


def test_a_number_longer_than_python_reads(file: Path) -> None:
    assert complaint(file, f"[limits]\ngroups = {'1' * 5000}\n").startswith("limits.groups: ")


@pytest.mark.parametrize(
    "content, message",
    [
        ("[limits]\ngroup = 5\n", "limits.group: no such key"),
        ("[limit]\ngroups = 5\n", "unknown section 'limit', there is only [limits]"),
        ("[limits]\n[more]\n", "unknown section 'more', there is only [limits]"),
    ],
)
def test_unknown_names(file: Path, content: str, message: str) -> None:
    assert complaint(file, content) == message


def test_a_default_section(file: Path) -> None:
    assert "DEFAULT" in complaint(file, "[DEFAULT]\ngroups = 5\n")


@pytest.mark.parametrize(
    "content, parts",
    [
        ("groups = 5\n", ["no section", "groups = 5"]),
        ("[limits]\ngroups\n", ["parsing errors", "groups"]),
        ("[limits]\ngroups = 5\nGROUPS = 6\n", ["'groups'", "'limits'", "already exists"]),
        ("[limits]\n[limits]\n", ["'limits'", "already exists"]),
    ],
)
def test_no_ini(file: Path, content: str, parts: list[str]) -> None:
    message = complaint(file, content)
    assert [part for part in parts if part not in message] == []


def test_more_prepared_groups_than_groups(file: Path) -> None:
    message = complaint(file, "[limits]\ngroups = 8\nprepared_groups = 9\n")
    assert message.startswith("limits.prepared_groups")
    assert "limits.groups" in message


def test_other_bytes(file: Path) -> None:
    file.write_bytes(b"[limits]\ngroups = \xff\n")
    with pytest.raises(config.ConfigError, match=f"{file}: .*utf-8"):
        config.load(str(file), required=True)


def test_a_directory(tmp_path: Path) -> None:
    for required in (False, True):
        with pytest.raises(config.ConfigError, match=f"^{tmp_path}: Is a directory$"):
            config.load(str(tmp_path), required=required)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.text(st.sampled_from("[]limtsgroups=:;# \n\t1234567890%{}\0\x85"), max_size=60))
@example(content="[limits]\ngroups=%(groups)s")
@example(content="[limits\ngroups=1")
@example(content="[limits]\n=1")
def test_any_text_is_limits_or_one_line(file: Path, content: str) -> None:
    file.write_text(content, newline="")
    try:
        limits = config.load(str(file), required=True)
    except config.ConfigError as error:
        assert len(str(error).splitlines()) == 1
        assert str(file) in str(error)
    else:
        assert 1 <= limits.prepared_groups <= limits.groups <= 65536
