# SPDX-License-Identifier: Apache-2.0
"""The parser of the command line of `udpgrm activate`."""

from __future__ import annotations

import getopt
import re
from dataclasses import dataclass
from typing import Optional

from udpgrm import abi
from udpgrm.dissectors import kinds
from udpgrm.dissectors.kind import Kind
from udpgrm.numbers import number_of, whole_number
from udpgrm.state import address

USAGE = """\
Usage: udpgrm activate [OPTIONS] NAME ADDRESS:PORT [-- COMMAND...]
       udpgrm_activate [OPTIONS] NAME ADDRESS:PORT [-- COMMAND...]

Makes the UDP sockets of a service's next instance, puts them under NAME into
systemd's descriptor store, where they replace those of that name, and registers
them in the generation after the working one. COMMAND is executed with the
sockets open, as sd_listen_fds(3) expects them.

Sockets:
     --count=N              how many, 1..256; default 1
  -4 --also-ipv4            an IPv6 socket takes IPv4 too (ADDRESS is [::])
     --freebind             ADDRESS need not be there yet
     --rcvbuf=BYTES         receive buffer of each

Dissector; FLOW when none is given:
  -f --flow-timeout=SECONDS a flow's life after its last packet sent; default 125
  -b --bpf=FILE             classic BPF filter as bpf_asm -c prints it, or bpf_asm
  -d --digest=N             built-in dissector N; 0xDEAD is QUIC by server name
  -s --sni=HOST:APP         server name of an application, compared byte by byte
                            (-d; up to 8 times)
  -n --noop                 every packet is a new flow
  -t --tubular=LABEL        name of the group for tubular

Applications (-b, -d):
  -m --apps-max=N           how many share the group, 0..4
  -a --app=N                the one these sockets are of; default 0

Registration:
     --no-register          leave it to the service
     --generation=N         register in this generation, as %i of a template unit
     --advance-working-gen  make the new generation the working one

  -h --help                 this text
"""

_SHORT = {
    "-4": "--also-ipv4",
    "-b": "--bpf",
    "-d": "--digest",
    "-s": "--sni",
    "-n": "--noop",
    "-t": "--tubular",
    "-f": "--flow-timeout",
    "-a": "--app",
    "-m": "--apps-max",
    "-h": "--help",
}
_LONG = [
    "count=",
    "also-ipv4",
    "freebind",
    "rcvbuf=",
    "bpf=",
    "digest=",
    "sni=",
    "noop",
    "tubular=",
    "flow-timeout=",
    "app=",
    "apps-max=",
    "no-register",
    "advance-working-gen",
    "generation=",
    "help",
]
_MOST_U32 = 0xFFFFFFFF
_MOST_RCVBUF = 0x3FFFFFFF  # the kernel keeps its double in an int
_MOST_NAME = 255  # systemd's limit, sd_pid_notify_with_fds(3)
_MOST_HOSTNAME = abi.HOSTNAME_BYTES - 1
_HOST = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_.-]*[A-Za-z0-9_])?")


@dataclass(frozen=True)
class Settings:
    """A parsed command line."""

    name: str
    address: str
    command: tuple[str, ...] = ()
    count: int = 1
    also_ipv4: bool = False
    freebind: bool = False
    rcvbuf: Optional[int] = None
    bpf: Optional[str] = None
    digest: Optional[int] = None
    sni: tuple[tuple[str, int], ...] = ()
    noop: bool = False
    label: bytes = b""
    flow_timeout: int = 0
    app: int = 0
    apps_max: int = 0
    register: bool = True
    advance: bool = False
    generation: Optional[int] = None

    @property
    def names_dissector(self) -> bool:
        """Return whether a dissector is asked for; else the group's is used."""
        return bool(self.chosen_kinds or self.flow_timeout or self.label)

    @property
    def chosen_kinds(self) -> list[Kind]:
        """Return the kinds of dissector whose own options are given."""
        own = {"--bpf": self.bpf, "--digest": self.digest, "--noop": self.noop or None}
        return [kind for kind in kinds.BUILT_IN if own.get(kind.option) is not None]

    @property
    def kind(self) -> Kind:
        """Return the kind of dissector that is asked for."""
        return next(iter(self.chosen_kinds), kinds.DEFAULT)


def parse(arguments: list[str]) -> Optional[Settings]:
    """Parse a command line; None: help is asked for. Raises ValueError for any misuse."""
    ours, command = _split(arguments)
    try:
        pairs, operands = getopt.gnu_getopt(ours, "4b:d:s:nt:f:a:m:h", _LONG)
    except getopt.GetoptError as error:
        raise ValueError(f"{error.msg} (see udpgrm activate --help)") from error
    given = {_SHORT.get(option, option): value for option, value in pairs}
    if "--help" in given:
        return None
    if len(operands) < 2:
        raise ValueError("NAME and ADDRESS:PORT are missing (see udpgrm activate --help)")
    if len(operands) > 2:
        raise ValueError(f"unexpected {operands[2]!r} (a command goes after --)")
    apps_max = _number(given, "--apps-max", 0, 0, abi.MAX_APPS)
    settings = Settings(
        name=_name(operands[0]),
        address=_address(operands[1]),
        command=command,
        count=_number(given, "--count", 1, 1, abi.SLOT_SOCKETS),
        also_ipv4="--also-ipv4" in given,
        freebind="--freebind" in given,
        rcvbuf=_number(given, "--rcvbuf", 0, 1, _MOST_RCVBUF) if "--rcvbuf" in given else None,
        bpf=given.get("--bpf"),
        digest=_digest(given["--digest"]) if "--digest" in given else None,
        sni=_sni([value for option, value in pairs if option in ("-s", "--sni")], max(apps_max, 1)),
        noop="--noop" in given,
        label=_label(given["--tubular"]) if "--tubular" in given else b"",
        flow_timeout=_number(given, "--flow-timeout", 0, 0, _MOST_U32),
        app=_number(given, "--app", 0, 0, max(apps_max, 1) - 1),
        apps_max=apps_max,
        register="--no-register" not in given,
        advance="--advance-working-gen" in given,
        generation=(
            _number(given, "--generation", 0, 0, abi.GENERATION_NONE - 1)
            if "--generation" in given
            else None
        ),
    )
    _check_combination(settings)
    return settings


def _split(arguments: list[str]) -> tuple[list[str], tuple[str, ...]]:
    """Return the arguments of `udpgrm activate`, and the command after the first `--`."""
    if "--" not in arguments:
        return arguments, ()
    end = arguments.index("--")
    if end + 1 == len(arguments):
        raise ValueError("a command is missing after --")
    return arguments[:end], tuple(arguments[end + 1 :])


def _check_combination(settings: Settings) -> None:
    if len(settings.chosen_kinds) > 1:
        *others, last = (kind.option for kind in kinds.BUILT_IN if kind.option)
        raise ValueError(f"{', '.join(others)} and {last} exclude each other")
    if settings.also_ipv4 and not settings.address.startswith("["):
        raise ValueError("--also-ipv4 wants an IPv6 address, as [::]:443")
    if settings.sni and settings.digest is None:
        raise ValueError("--sni goes with --digest")
    if settings.apps_max and not settings.kind.has_applications:
        able = (kind.option for kind in kinds.BUILT_IN if kind.has_applications and kind.option)
        raise ValueError(f"--apps-max goes with {' or '.join(able)}")
    if settings.advance and not settings.register:
        raise ValueError("--advance-working-gen excludes --no-register")
    if settings.generation is not None and not settings.register:
        raise ValueError("--generation excludes --no-register")


def _number(given: dict[str, str], option: str, default: int, low: int, high: int) -> int:
    text = given.get(option)
    return default if text is None else number_of(option, text, low, high)


def _name(text: str) -> str:
    if not text or len(text) > _MOST_NAME or not all(" " <= c <= "~" and c != ":" for c in text):
        raise ValueError(
            f"not a descriptor name: {text!r} (printable ASCII without ':', "
            f"at most {_MOST_NAME} characters)"
        )
    return text


def _address(text: str) -> str:
    where = address.read_udp(text)
    where.want_device()
    return str(where)


def _digest(text: str) -> int:
    if re.fullmatch(r"0[xX][0-9a-fA-F]{1,8}", text):
        number: Optional[int] = int(text, 16)
    else:
        number = whole_number(text, 1, _MOST_U32)
    if not number:
        raise ValueError(f"--digest: {text!r} is not a number of 1..{_MOST_U32}, as 0xDEAD")
    return number


def _label(text: str) -> bytes:
    label = text.encode(errors="surrogateescape")
    most = abi.Dissector.label.size - 1
    if not 1 <= len(label) <= most:
        raise ValueError(f"--tubular: a label has 1..{most} bytes")
    return label


def _sni(words: list[str], apps: int) -> tuple[tuple[str, int], ...]:
    if len(words) > abi.MAX_SNI:
        raise ValueError(f"--sni: more than {abi.MAX_SNI}")
    found: dict[str, int] = {}
    for word in words:
        host, _, number = word.rpartition(":")
        app = whole_number(number, 0, apps - 1)
        if app is None or len(host) > _MOST_HOSTNAME or not _HOST.fullmatch(host):
            raise ValueError(
                f"--sni: {word!r} is not a HOST:APP with a host of at most {_MOST_HOSTNAME} "
                f"ASCII characters and an application of 0..{apps - 1}"
            )
        if host in found:
            raise ValueError(f"--sni: {host} is there twice")
        found[host] = app
    return tuple(found.items())
