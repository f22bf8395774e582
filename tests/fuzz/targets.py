# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""Parsers that run as root, each with the errors that it may raise for bad input.

Any other exception is a fault, and so is a parser that does not end.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from udpgrm import config
from udpgrm.dissectors import library
from udpgrm.dissectors.parameters import DissectorError
from udpgrm.probes.dns import Dns
from udpgrm.probes.exchange import Endpoints
from udpgrm.probes.quic import VersionNegotiation
from udpgrm.probes.sip import Sip
from udpgrm.probes.specs import DnsProbe, SipProbe
from udpgrm.probes.stun import Stun
from udpgrm.restart import journal, statedir
from udpgrm.services import loader
from udpgrm.state import address

CORPUS = Path(__file__).with_name("corpus")
_DIRECTORY = tempfile.TemporaryDirectory(prefix="udpgrm-fuzz-")
_SCRATCH = Path(_DIRECTORY.name)


def definition(data: bytes) -> None:
    """Parse a definition of a service."""
    service, problems = loader.parse("fuzz", data)
    assert service is not None or problems


def journal_file(data: bytes) -> None:
    """Read a journal, as a power cut or another version may have left it."""
    os.environ["UDPGRM_STATE_DIR"] = str(_SCRATCH)
    path = statedir.path_of("fuzz")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    with contextlib.suppress(statedir.JournalError):
        found = journal.load("fuzz")
        assert found is not None
        journal.want_complete(found)
        found.to_json()


def configuration(data: bytes) -> None:
    """Read the daemon's configuration."""
    path = _SCRATCH / "udpgrm.conf"
    path.write_bytes(data)
    with contextlib.suppress(config.ConfigError):
        config.load(str(path), required=True)


def dissector_schema(data: bytes) -> None:
    """Read the parameters of a named dissector."""
    (_SCRATCH / "body.h").touch()
    (_SCRATCH / "parameters.json").write_bytes(data)
    with contextlib.suppress(DissectorError):
        library.read_schema(_SCRATCH)


def socket_address(data: bytes) -> None:
    """Read an address of a command line or a definition; what it is written as reads the same."""
    try:
        where = address.read(data.decode("utf-8", "surrogateescape"))
    except ValueError:
        return
    assert address.read(str(where)) == where


def dns_answer(data: bytes) -> None:
    """Evaluate a DNS response."""
    Dns(DnsProbe(name="www.example.", query_type="A"), 0x1234).evaluate(data)
    Dns(DnsProbe(identity=True), 0x1234).evaluate(data)


def stun_answer(data: bytes) -> None:
    """Evaluate a STUN response."""
    Stun(bytes(range(12))).evaluate(data)


def quic_answer(data: bytes) -> None:
    """Evaluate Version Negotiation."""
    VersionNegotiation(b"\x81destina", b"\x82source.").evaluate(data)


def sip_answer(data: bytes) -> None:
    """Evaluate a SIP response."""
    between = Endpoints(("192.0.2.2", 5060), ("192.0.2.1", 5060))
    Sip(SipProbe(), between, "z9hG4bKfuzz", "fuzz@udpgrm").evaluate(data)


TARGETS: dict[str, Callable[[bytes], None]] = {
    "definition": definition,
    "journal": journal_file,
    "configuration": configuration,
    "dissector_schema": dissector_schema,
    "address": socket_address,
    "dns": dns_answer,
    "quic": quic_answer,
    "sip": sip_answer,
    "stun": stun_answer,
}


def corpus(target: str) -> Iterator[bytes]:
    """Yield the kept inputs of a target."""
    for path in sorted((CORPUS / target).iterdir()):
        yield path.read_bytes()
