# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""The command line of `udpgrm activate`, and filters as bpf_asm prints them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from udpgrm.activate import options
from udpgrm.activate.options import Settings
from udpgrm.activate.sockets import dissector
from udpgrm.dissectors import filter_text
from udpgrm.dissectors.classic import Instruction


def parsed(line: str) -> Settings:
    settings = options.parse(line.split())
    assert settings is not None
    return settings


def test_defaults() -> None:
    assert parsed("edge 192.0.2.1:443") == Settings(name="edge", address="192.0.2.1:443")


def test_everything() -> None:
    settings = parsed(
        "-4 --count=8 --freebind --rcvbuf=100000 -d 0xDEAD -s A.example:1 --sni b.example:0 "
        "-t LABEL -m 2 -a 1 --advance-working-gen edge [::]:443 -- server --flag"
    )
    assert settings == Settings(
        name="edge",
        address="[::]:443",
        command=("server", "--flag"),
        count=8,
        also_ipv4=True,
        freebind=True,
        rcvbuf=100000,
        digest=0xDEAD,
        sni=(("A.example", 1), ("b.example", 0)),
        label=b"LABEL",
        app=1,
        apps_max=2,
        advance=True,
    )
    value = dissector(settings)
    assert (value.type, value.digest, value.max_apps, value.sni_count) == (3, 0xDEAD, 2, 2)
    assert (value.sni[0].app, value.sni[0].hostname) == (1, b"A.example")
    assert value.label == b"LABEL"


def test_help() -> None:
    assert options.parse(["-h"]) is None
    assert options.USAGE.startswith("Usage: udpgrm activate ")


@pytest.mark.parametrize(
    "line, message",
    [
        ("", "NAME and ADDRESS:PORT are missing"),
        ("edge", "NAME and ADDRESS:PORT are missing"),
        ("edge 1.2.3.4:5 server", "unexpected 'server' (a command goes after --)"),
        ("edge 1.2.3.4:5 --", "a command is missing after --"),
        ("edge nowhere", "not an ADDRESS:PORT: 'nowhere'"),
        ("a:b 1.2.3.4:5", "not a descriptor name: 'a:b'"),
        ("--count=257 edge 1.2.3.4:5", "--count: '257' is not a number of 1..256"),
        ("-4 edge 1.2.3.4:5", "--also-ipv4 wants an IPv6 address"),
        ("-n -d 1 edge 1.2.3.4:5", "--bpf, --digest and --noop exclude each other"),
        ("-s a:0 edge 1.2.3.4:5", "--sni goes with --digest"),
        ("-d 1 -s a:1 edge 1.2.3.4:5", "--sni: 'a:1' is not a HOST:APP"),
        (f"-d 1 -s {'a' * 62}:0 edge 1.2.3.4:5", "with a host of at most 61"),
        ("-m 2 edge 1.2.3.4:5", "--apps-max goes with --bpf or --digest"),
        ("--no-register --advance-working-gen edge 1.2.3.4:5", "excludes --no-register"),
        ("--nothing edge 1.2.3.4:5", "option --nothing not recognized"),
    ],
)
def test_misuse(line: str, message: str) -> None:
    with pytest.raises(ValueError) as error:
        options.parse(line.split())
    assert message in str(error.value)


def test_filters() -> None:
    text = "/* two */\n{ 0x28,  0,  0, 0000000000 },\n{ 0x16, 1, 2, 0x0000000c }, // end\n"
    assert filter_text.parse(text) == (Instruction(0x28, 0, 0, 0), Instruction(0x16, 1, 2, 12))


@pytest.mark.parametrize(
    "text, message",
    [
        ("", "no instruction"),
        ("{ 6, 0, 0, 0 },\n{ 6, 0, 0 },", "line 2: not an instruction"),
        ("{ 6, 0, 0, 0 } { 6, 0, 0, 0 }", "line 1: not an instruction"),
        ("{ 6, 256, 0, 0 },", "line 1: jt is 256, more than 255"),
        ("{ 6, 0, 0, 0 },\n" * 65, "more than 64 instructions"),
        ("2,6 0 0 0,", "declares 2 instructions and has 1"),
        ("0,", "0 instructions, not 1..64"),
        ("65," + "6 0 0 0," * 65, "65 instructions, not 1..64"),
        ("2,6 0 0 0,6 0 0,", "instruction 2: 3 numbers, not 4"),
        ("1,6 0 256 0,", "jf is 256, more than 255"),
        ("1,6 0 0 4294967296,", "k is 4294967296, more than 4294967295"),
    ],
)
def test_wrong_filters(text: str, message: str) -> None:
    with pytest.raises(ValueError) as error:
        filter_text.parse(text)
    assert message in str(error.value)


@given(
    st.lists(
        st.tuples(
            *(st.integers(0, 0xFFFF), st.integers(0, 255), st.integers(0, 255)),
            st.integers(0, 2**32 - 1),
        ),
        min_size=1,
        max_size=64,
    )
)
def test_any_filter_survives_printing(program: list[tuple[int, int, int, int]]) -> None:
    text = "".join("{{ {:#04x}, {:2}, {:2}, {:#010x} }},\n".format(*item) for item in program)
    wanted = tuple(Instruction(*item) for item in program)
    assert filter_text.parse(text) == wanted
    decimal = "".join("{} {} {} {},".format(*item) for item in program)
    assert filter_text.parse(f"{len(program)},{decimal}\n") == wanted
