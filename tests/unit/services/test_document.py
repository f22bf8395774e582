# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""YAML to plain data: what is refused, with which message, and that nothing gets out of hand."""

from __future__ import annotations

import math
import time

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from udpgrm.services import document

TAGS = ("!!int", "!!float", "!!bool", "!!null", "!!map", "!!seq", "!!str", "!!set", "!!omap")
WORDS = (*TAGS, "!!binary", "!!python/name:os", "<<", "? ", "&a ", "*a", ": ", "- ", "\n", "  ")
SIGNS = (*"[]{},'\"|>%@`#", "2001-13-45", "0x", "1:60", ".inf", "=", "---\n", "...\n", "\0", "é")


def complaints(text: str) -> list[tuple[str, str]]:
    with pytest.raises(document.DocumentError) as error:
        document.read(text.encode())
    return list(error.value.problems)


def test_plain_values() -> None:
    text = b"a: [1, 0x10, 2.5, true, null, text, '2024-01-01']\nb: {c: {}}\n"
    assert document.read(text) == {
        "a": [1, 16, 2.5, True, None, "text", "2024-01-01"],
        "b": {"c": {}},
    }


def test_anchors_and_merges() -> None:
    text = b"a: &x {p: 1, q: 2}\nb: *x\nc: {<<: *x, q: 3}\n"
    assert document.read(text)["b"] == {"p": 1, "q": 2}
    assert document.read(text)["c"] == {"p": 1, "q": 3}


@pytest.mark.parametrize(
    ("text", "key", "reason"),
    [
        ("", "", "empty"),
        ("a: 1\nb: 2\na: 3\n", "a", "given again in line 3"),
        ("a:\n  - {b: 1}\n  - {b: 1, c: 2, b: 3}\n", "a.1.b", "given again in line 3"),
        ("a: 1\n3: 2\n", "", "a key in line 2 is not a string"),
        ("[a]: 1\n", "", "a key in line 1 is not a string"),
        ("!!str [a]: 1\n", "", "a key in line 1 is not a string"),
        ("a: 2024-01-01\n", "a", "a timestamp is not a value here: put it in quotes"),
        ("a: !!set {b}\n", "a", "a set is not a value here"),
        ("a: !!binary aGVsbG8=\n", "a", "a binary is not a value here"),
        ("a: !!python/object:os.system x\n", "a", "a python/object:os.system is not a value here"),
        ("a: .nan\n", "a", ".nan is not a value here"),
        ("a: -.Inf\n", "a", "-.Inf is not a value here"),
        ('a: !!float "nan"\n', "a", "nan is not a value here"),
        ('a: [!!float " NaN "]\n', "a.0", "NaN  is not a value here"),
        ("a: !!float -infinity\n", "a", "-infinity is not a value here"),
        ("a: 1.0e+999\n", "a", "1.0e+999 is not a value here"),
        (f"a: {'1:' * 180}1.0\n", "", "a value does not fit its tag"),
        ('a: !!float ""\n', "", "a value does not fit its tag"),
        (f"a: {'9' * 5000}\n", "a", "a number of more than 64 digits"),
        ("a: !!int x\n", "", "a value does not fit its tag"),
        ('a: !!int ""\n', "", "a value does not fit its tag"),
        ("a: !!bool x\n", "", "a value does not fit its tag"),
        ("a: [1\n", "line 2", "expected ',' or ']', but got '<stream end>'"),
        ("a: 1\n---\nb: 2\n", "line 2", "but found another document"),
        ("a: \0\n", "", "special characters are not allowed"),
        ("[" * 5000, "", "nested deeper than 16"),
        ("a: " + "[" * 17 + "]" * 17, "", "nested deeper than 16"),
        ("&a [*a]", "", "nested deeper than 16"),
        ("a: &a {b: *a}", "", "nested deeper than 16"),
        (f"a: [{'1,' * 20001}]", "", "more than 20000 values"),
        ("a" * 65537, "", "longer than 65536 bytes"),
    ],
)
def test_refused(text: str, key: str, reason: str) -> None:
    first = complaints(text)[0]
    assert first[0] == key
    assert reason in first[1]


def test_aliases_that_multiply_are_not_followed() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 12)]
    started = time.process_time()
    assert complaints("\n".join(lines)) == [("", "more than 20000 values")]
    assert time.process_time() - started < 5


def test_not_utf8() -> None:
    with pytest.raises(document.DocumentError, match="not UTF-8 at byte 3"):
        document.read(b"a: \xff")


def test_a_problem_is_one_printable_line() -> None:
    problem = document.Problem("odd\nname\udc80.yaml", "a\tb", "\x1b[31mred")
    assert str(problem) == r"odd\nname\udc80.yaml: a\tb: \x1b[31mred"


@given(st.lists(st.sampled_from(WORDS + SIGNS) | st.text(max_size=3), max_size=30).map("".join))
@example("!!map x")
@example("? !!seq a\n: b")
@example("!!omap [a]")
@example("a: !!null [")
@example("!!float nan")
@example("!!float 1e400")
def test_anything_is_read_or_refused(text: str) -> None:
    try:
        data = document.read(text.encode("utf-8", "surrogatepass"))
    except document.DocumentError as error:
        assert error.problems
    else:
        stack = [data]
        while stack:
            item = stack.pop()
            assert item is None or type(item) in (dict, list, str, int, float, bool)
            assert not isinstance(item, float) or math.isfinite(item)
            if isinstance(item, dict):
                assert all(type(key) is str for key in item)
                stack += item.values()
            elif isinstance(item, list):
                stack += item
