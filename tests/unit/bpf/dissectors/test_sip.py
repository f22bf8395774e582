# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""Test the calls that the sip dissector finds."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.bpf.dissectors.keys import KEY, Keys, siphash

#: RFC 4475, 3.1.1.1: folded lines, compact names, any case, spaces before colons.
TORTUOUS = """\
INVITE sip:vivekg@chair-dnrc.example.com;unknownparam SIP/2.0
TO :
 sip:vivekg@chair-dnrc.example.com ;   tag    = 1918181833n
from   : "J Rosenberg \\\\\\""       <sip:jdrosen@example.com>
  ;
  tag = 98asjd8
MaX-fOrWaRdS: 0068
Call-ID: wsinv.ndaksdj@192.0.2.1
Content-Length   : 150
cseq: 0009
  INVITE
Via  : SIP  /   2.0
 /UDP
    192.0.2.2;branch=390skdjuw
s :
Content-Type: application/sdp
m:"Quoted string \\"\\"" <sip:jdrosen@example.com> ; newparam =
      newvalue ;
  secondparam ; q = 0.33

v=0
"""
#: RFC 4475, 3.1.1.2.
UNUSUAL = "intmeth.word%ZK-!.*_+'@word`~)(><:\\/\"][?}{"
REGISTER = "REGISTER sip:example.com SIP/2.0"
ACCEPTED = "SIP/2.0 200 OK"


def wire(text: str) -> bytes:
    return text.replace("\n", "\r\n").encode()


def message(
    *headers: str, start: str = "INVITE sip:b@example.com SIP/2.0", body: str = ""
) -> bytes:
    via = "Via: SIP/2.0/UDP 192.0.2.2;branch=z9hG4bKabc"
    return wire("\n".join((start, via, *headers, "", body)))


def expected(call: bytes, number: bytes = b"") -> bytes:
    """Return the hash of a call: 16-byte pieces up to the one that is not full, then a number's."""
    length = (len(call) // 16 + 1) * 16
    return siphash(call.ljust(length, b"\0") + number.ljust(16, b"\0"), KEY, 1, 3)


def call(keys: Keys, payload: bytes) -> bytes:
    found = keys.call(payload)[0]
    assert found is not None
    return found


def test_a_short_tortuous_invite(keys: Keys) -> None:
    assert call(keys, wire(TORTUOUS)) == expected(b"wsinv.ndaksdj@192.0.2.1")
    assert call(keys, TORTUOUS.encode()) == expected(b"wsinv.ndaksdj@192.0.2.1")  # bare LF


@pytest.mark.parametrize(
    "header",
    [
        "Call-ID: {}",
        "call-id:{}",
        "CALL-ID: \t {}",
        "Call-ID  \t: {}",
        "i: {}",
        "I:{}",
        "i :\n {}",
        "Call-ID:\n\t{}\n ",
        "Call-ID :\n  \n {}",
        "Call-ID: {}  ",
    ],
)
@pytest.mark.parametrize("name", ["a84b4c76e66710@pc33.example.com", "1", "x" * 16, UNUSUAL])
def test_ways_to_write_it(keys: Keys, header: str, name: str) -> None:
    written = header.format(name)
    for headers in ((written, "CSeq: 1 INVITE"), ("CSeq: 1 INVITE", written), (written,)):
        assert call(keys, message(*headers)) == expected(name.encode())
    assert call(keys, b"\r\n\r\n" + message(written)) == expected(name.encode())


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"\r\n\r\n",
        b"\0\0\0\0",
        bytes(40),
        message("CSeq: 1 INVITE"),
        message("Call-ID:", "CSeq: 1 INVITE"),
        message("Call-ID: "),
        message("Call-ID"),
        message("Call-ID x"),
        message("Call-IDs: x"),
        message("X-Call-ID: x"),
        message("X: y", " Call-ID: x"),  # a folded line
        message("ii: x", "In-Reply-To: x", "Identity: x"),
        message("CSeq: 1 INVITE", body="Call-ID: in the body\ni: x\n"),
        message("CSeq: 1 INVITE").replace(b"\r\n", b"\n") + b"i: x\n",
        message("Call-ID: x")[:-5],  # cut before the value
    ],
)
def test_what_has_none(keys: Keys, payload: bytes) -> None:
    assert keys.call(payload) == (None, False)


def test_calls_differ_by_every_character(keys: Keys) -> None:
    names = ["a@b", "A@b", "a@b1", "a@", "x" * 15, "x" * 16, "x" * 17, "x" * 31 + "y", "x" * 32]
    assert len({call(keys, message(f"Call-ID: {name}")) for name in names}) == len(names)


def test_of_long_ones_the_first_256_characters_are_read(keys: Keys) -> None:
    long = "0123456789abcdef" * 16
    found = [call(keys, message(f"Call-ID: {long}{tail}")) for tail in ("", "one", "other")]
    assert found[1] == found[2]
    assert call(keys, message(f"Call-ID: {long[:-1]}")) not in found


@pytest.mark.parametrize("method", ["REGISTER", "PUBLISH"])
def test_registrations_are_flows_for_one_request(keys: Keys, method: str) -> None:
    """Read the method from CSeq, as answers have no other."""
    for start in (REGISTER, ACCEPTED):
        for cseq in (f"CSeq: 4711 {method}", f"cseq :4711\n\t{method}", f"CSEQ: 4711   {method}"):
            found = keys.call(message("Call-ID: x", cseq, start=start))
            assert found == (expected(b"x", b"4711"), False)
    other = call(keys, message("Call-ID: x", f"CSeq: 4712 {method}"))
    assert other == expected(b"x", b"4712")
    for name in (f"{method}ED", f"X{method}", method.lower(), method[:-1]):
        assert call(keys, message("Call-ID: x", f"CSeq: 1 {name}")) == expected(b"x")


def test_what_ends_a_call(keys: Keys) -> None:
    for start in ("BYE sip:b@example.com SIP/2.0", ACCEPTED):
        found = keys.call(message("Call-ID: x", "CSeq: 2 BYE", start=start))
        assert found == (expected(b"x"), True)
    for method in ("INVITE", "BYEBYE", "BY", "OPTIONS", "ACK"):
        assert keys.call(message("Call-ID: x", f"CSeq: 2 {method}")) == (expected(b"x"), False)


def test_the_first_of_two_counts(keys: Keys) -> None:
    """Read the first of repeated fields, such as RFC 4475, 3.3.8 has."""
    twice = message("Call-ID: first", "i: second", "CSeq: 1 REGISTER", "CSeq: 2 BYE")
    assert keys.call(twice) == (expected(b"first", b"1"), False)


def test_how_far_it_is_searched_for(keys: Keys) -> None:
    """Search for the call in 128 steps, each of which passes a line's end or 16 bytes."""
    filler = "X-Filler: " + "y" * 52  # 4 steps with its line end
    start = len("INVITE sip:b@example.com SIP/2.0\r\n") // 16 + 1
    before = start + len("Via: SIP/2.0/UDP 192.0.2.2;branch=z9hG4bKabc\r\n") // 16 + 1
    most = (127 - before) // 4
    assert call(keys, message(*[filler] * most, "i: x")) == expected(b"x")
    assert keys.call(message(*[filler] * (most + 1), "i: x"))[0] is None


@given(
    name=st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=80),
    before=st.lists(st.text(st.characters(min_codepoint=32, max_codepoint=126)), max_size=6),
    after=st.lists(st.text(st.characters(min_codepoint=32, max_codepoint=126)), max_size=3),
)
def test_other_headers_do_not_matter(
    keys: Keys, name: str, before: list[str], after: list[str]
) -> None:
    around = [
        [f"X{position}: {text}" for position, text in enumerate(part)] for part in (before, after)
    ]
    assert call(keys, message(*around[0], f"Call-ID: {name}", *around[1])) == expected(
        name.encode()
    )
