# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""The command line as scripts see it: reference, section 4, sentence by sentence.

Everything is text and exit statuses; sockets are made by number and bytes.
"""

from __future__ import annotations

import re
import signal
import socket
import subprocess

import pytest

from testing.host import COMMAND, Host, client, close, received, wait_for
from tests.kernel import sockopts as grm

ADDRESS = "127.0.0.1:4433"
TARGET = ("127.0.0.1", 4433)
#: Reference, section 3: names in the order of section 4.
METRICS = [
    "socket_critical_gauge",
    "socket_critical",
    "rx_processed_total",
    "rx_internal_state_error",
    "rx_cbpf_prog_error",
    "rx_packet_too_short_error",
    "rx_dissected_ok_total",
    "rx_flow_ok",
    "rx_flow_rg_conflict",
    "rx_flow_other_error",
    "rx_flow_new_unseen",
    "rx_flow_new_had_expired",
    "rx_flow_new_bad_cookie",
    "rx_new_flow_total",
    "rx_new_flow_working_gen_dispatch_ok",
    "rx_new_flow_working_gen_dispatch_error",
    "tx_total",
    "tx_flow_create_ok",
    "tx_flow_create_from_expired_ok",
    "tx_flow_create_error",
    "tx_flow_update_ok",
    "tx_flow_update_conflict",
]


def enrolled(
    sockets: list[socket.socket], generation: int, port: int = 4433, value: bytes = b""
) -> socket.socket:
    """Return a socket in a generation, with a dissector where one is given."""
    sock = grm.udp(port=port)
    sockets.append(sock)
    if value:
        grm.put(sock, grm.DISSECTOR, value)
    grm.register(sock, generation)
    return sock


def promote(sock: socket.socket, generation: int) -> None:
    grm.put(sock, grm.WORKING_GEN, grm.u32(generation))


def lines_of(host: Host, *arguments: str) -> list[str]:
    done = host.run(*arguments)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.splitlines()


@pytest.mark.parametrize("arguments", [["-h"], ["--help"], ["list", "-h"], ["delete", "--help"]])
def test_help(bare_host: Host, arguments: list[str]) -> None:
    done = bare_host.run(*arguments)
    assert (done.returncode, done.stderr) == (254, "")
    first, second, *_ = done.stdout.splitlines()
    assert first.startswith("Usage: udpgrm ")
    assert second.startswith("Options")


def test_help_names_the_options(bare_host: Host) -> None:
    text = bare_host.run("-h").stdout
    for option in (
        *("-h --help", "-p --pin-dir=", "-i --install[=CGROUP]", "-s --self", "--without-sendmsg"),
        *("-t --tubular=", "-d --daemon", "-v --verbose", "-f --force"),
    ):
        assert option in text


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["-v"],
        ["bogus"],
        ["--bogus"],
        ["-x"],
        ["list", "--daemon"],
        ["list", "-d"],
        ["flows", "--install"],
        ["metrics", "-i"],
        ["delete", ADDRESS, "-d"],
        ["list", "flows"],
        ["list", "nonsense"],
        ["list", "127.0.0.1"],
        ["list", "127.0.0.1:0"],
        ["list", "127.0.0.1:65536"],
        ["list", "::1:4433"],
        ["list", ADDRESS, ADDRESS],
        ["delete"],
        ["--pin-dir"],
        ["--daemon=yes"],
    ],
)
@pytest.mark.daemon("shared")
def test_misuse_is_one_line_on_stderr_and_255(host: Host, arguments: list[str]) -> None:
    done = host.run(*arguments)
    assert (done.returncode, done.stdout) == (255, "")
    assert len(done.stderr.splitlines()) == 1


def test_pin_dir_has_a_short_form(host: Host) -> None:
    for option in ([f"-p{host.directory}"], ["-p", str(host.directory)]):
        done = subprocess.run([*COMMAND, *option, "list"], capture_output=True, check=False)
        assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


def test_list(host: Host, sockets: list[socket.socket]) -> None:
    """Print the whole text as documented, to the byte."""
    one, two = enrolled(sockets, 1), enrolled(sockets, 1)
    three = enrolled(sockets, 2)
    promote(one, 2)
    with client() as peer:
        peer.sendto(b"x", TARGET)
        wait_for(lambda: received([three]), "the packet")
    lines = lines_of(host, "list")
    about = re.fullmatch(r"\t(netns 0x[0-9a-f]+)  dissector flow  flow_timeout_sec 125", lines[1])
    assert about is not None
    assert [lines[0], *lines[2:]] == [
        ADDRESS,
        "\tsocket generations:",
        f"\t\tgen  1  {grm.so_cookie(one):#x} {grm.so_cookie(two):#x}",
        f"\t\tgen  2  {grm.so_cookie(three):#x}  <=  app 0  gen 2",
        "\tmetrics:",
        "\t\trx_processed_total 1",
        "\t\trx_dissected_ok_total 1",
        "\t\trx_flow_new_unseen 1",
        "\t\trx_new_flow_total 1",
        "\t\trx_new_flow_working_gen_dispatch_ok 1",
    ]
    verbose = lines_of(host, "list", "-v", ADDRESS)
    assert verbose[:3] == lines[:3]
    assert verbose[3:6] == [
        f"\t\tgen  1  0:{grm.so_cookie(one):#x} 1:{grm.so_cookie(two):#x}",
        f"\t\tgen  2  0:{grm.so_cookie(three):#x}  <=  app 0  gen 2",
        "\tmetrics:",
    ]
    assert [line.split()[0] for line in verbose[6:]] == METRICS
    assert "\t\tsocket_critical_gauge 0" in verbose
    assert lines_of(host, "list", "127.0.0.1:9") == []


def test_list_shows_cookies_as_ss_does(host: Host, sockets: list[socket.socket]) -> None:
    for generation in (1, 2):
        enrolled(sockets, generation)
    shown = [
        word[2:]
        for line in lines_of(host, "list")
        if line.startswith("\t\tgen ")
        for word in line.split()
        if word.startswith("0x")
    ]
    assert sorted(shown) == sorted(grm.ss_cookie(4433))
    assert len(shown) == 2


def test_list_of_a_working_generation_without_sockets(
    host: Host, sockets: list[socket.socket]
) -> None:
    promote(enrolled(sockets, 1), 12)
    lines = [line for line in lines_of(host, "list") if line.startswith("\t\tgen ")]
    assert lines == [
        f"\t\tgen  1  {grm.so_cookie(sockets[0]):#x}",
        "\t\tgen 12  <=  app 0  gen 12",
    ]


def test_list_of_closed_sockets(host: Host, sockets: list[socket.socket]) -> None:
    """List closed sockets as dead while the daemon is stopped, and cannot delete them."""
    one, two, three = (enrolled(sockets, 0) for _ in range(3))
    with host.stopped():
        close(two)
        plain = f"\t\tgen  0  {grm.so_cookie(one):#x} dead {grm.so_cookie(three):#x}"
        verbose = f"\t\tgen  0  0:{grm.so_cookie(one):#x} 1:dead 2:{grm.so_cookie(three):#x}"
        assert lines_of(host, "list")[3] == f"{plain}  <=  app 0  gen 0"
        assert lines_of(host, "list", "-v")[3] == f"{verbose}  <=  app 0  gen 0"


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (grm.dissector(grm.FLOW, timeout=7), "flow  flow_timeout_sec 7"),
        (grm.dissector(grm.FLOW, label=b"edge"), "flow  flow_timeout_sec 125  label edge"),
        (grm.dissector(grm.NOOP), "noop"),
        (grm.dissector(grm.NOOP | grm.VERBOSE, label=b"a b"), "noop  label a b  verbose"),
        (
            grm.dissector(grm.CBPF, apps=4, rest=grm.filter_of(*grm.COOKIE_FIRST)),
            "cbpf  apps 4  filter_len 2",
        ),
        (grm.dissector(grm.BESPOKE, digest=0xDEAD), "bespoke  digest 0xdead"),
    ],
)
def test_list_of_each_dissector(
    host: Host, sockets: list[socket.socket], value: bytes, shown: str
) -> None:
    sock = grm.udp()
    sockets.append(sock)
    grm.put(sock, grm.DISSECTOR, value)
    assert lines_of(host, "list")[1].partition("  ")[2] == f"dissector {shown}"


def test_list_of_applications(host: Host, sockets: list[socket.socket]) -> None:
    """Give each application its share of the 32 slots and a working generation."""
    value = grm.dissector(grm.CBPF, apps=2, rest=grm.filter_of(*grm.COOKIE_FIRST))
    for application, generation in ((0, 1), (1, 5), (1, 6)):
        sock = grm.udp()
        sockets.append(sock)
        grm.put(sock, grm.DISSECTOR, value)
        grm.put(sock, grm.SOCKET_APP, grm.u32(application))
        grm.register(sock, generation)
        promote(sock, generation)
    cookies = [f"{grm.so_cookie(sock):#x}" for sock in sockets]
    assert [line for line in lines_of(host, "list") if line.startswith("\t\tgen ")] == [
        f"\t\tgen  1  {cookies[0]}  <=  app 0  gen 1",
        f"\t\tgen 21  {cookies[1]}",
        f"\t\tgen 22  {cookies[2]}  <=  app 1  gen 6",
    ]


def test_list_has_six_in_brackets(host: Host, sockets: list[socket.socket]) -> None:
    sock = grm.udp("::1")
    sockets.append(sock)
    grm.register(sock, 1)
    assert lines_of(host, "list")[0] == "[::1]:4433"
    assert lines_of(host, "list", "[::1]:4433")[0] == "[::1]:4433"


def test_old_groups_come_last(bare_host: Host, sockets: list[socket.socket]) -> None:
    bare_host.start()
    filter_ = grm.filter_of(*grm.COOKIE_FIRST)
    promote(enrolled(sockets, 1, value=grm.dissector(grm.CBPF, 0, 2, 0, b"edge", filter_)), 1)
    about = lines_of(bare_host, "list")[1]
    assert about.endswith("  dissector cbpf  apps 2  filter_len 2  label edge")
    assert bare_host.kill(signal.SIGTERM) == 0
    with client() as peer:
        peer.sendto(b"xx", TARGET)
        wait_for(lambda: received(sockets), "the packet")
    bare_host.start()
    enrolled(sockets, 1, port=4434)
    lines = lines_of(bare_host, "list")
    old = lines.index(f"{ADDRESS} (old)")
    assert lines[0] == "127.0.0.1:4434"
    assert lines[old + 1] == about
    assert lines[old + 2] == "\tmetrics:"
    assert lines[old + 3] == "\t\trx_processed_total 1"
    assert sum(line == "\tsocket generations:" for line in lines) == 1


def assured(sockets: list[socket.socket], port: int, timeout: int) -> list[str]:
    """Make two sockets of a group with three flows; return the lines that begin them."""
    value = grm.dissector(grm.FLOW, timeout=timeout)
    made = [enrolled(sockets, generation, port, value) for generation in (1, 2)]
    for sock, peers in zip(made, ((1001, 1002), (1003,))):
        for peer in peers:
            grm.put(sock, grm.FLOW_ASSURE, grm.sockaddr("192.0.2.1", peer))
    return sorted(f"\tso_cookie {grm.so_cookie(sock):#x}" for sock in made)


def check_flows(lines: list[str], heads: list[str], mark: str) -> None:
    assert sorted(line for line in lines if line.startswith("\tso_cookie")) == heads
    flows = [line for line in lines if line.startswith("\t\t")]
    assert len(flows) == 3
    for line in flows:
        assert re.fullmatch(rf"\t\t[0-9a-f]{{8}}  age \d+\.\ds {mark}", line)


def test_flows(host: Host, sockets: list[socket.socket]) -> None:
    """Print a line for each socket, and one for each of its flows."""
    enrolled(sockets, 1, port=4434)
    heads = assured(sockets, 4433, timeout=3600)
    lines = lines_of(host, "flows", ADDRESS)
    assert lines[0] == ADDRESS
    check_flows(lines, heads, "")
    assert lines_of(host, "flows", "127.0.0.1:4434") == ["127.0.0.1:4434"]
    assert lines_of(host, "flows")[-1] == "127.0.0.1:4434"


def test_stale_flows(host: Host, sockets: list[socket.socket]) -> None:
    """List stale flows with -v only, and mark them."""
    heads = assured(sockets, 4433, timeout=1)
    wait_for(lambda: lines_of(host, "flows") == [ADDRESS], "the flows to expire")
    check_flows(lines_of(host, "flows", "-v"), heads, r"\(stale\)")


def test_metrics(host: Host, sockets: list[socket.socket]) -> None:
    value = grm.dissector(grm.CBPF, apps=2, rest=grm.filter_of(*grm.COOKIE_FIRST))
    promote(enrolled(sockets, 3, value=value), 3)
    lines = lines_of(host, "metrics")
    assert re.fullmatch(r'build_info\{version="[^"]+"\} 1', lines[0])
    assert lines[1:3] == [
        f'working_gen{{socket="{ADDRESS}",app_idx="0"}} 3',
        f'working_gen{{socket="{ADDRESS}",app_idx="1"}} 0',
    ]
    assert lines[3:] == [f'{name}{{socket="{ADDRESS}"}} 0' for name in METRICS]


def test_delete(host: Host, sockets: list[socket.socket]) -> None:
    """Delete the state: no group is at the address, and the socket has no generation."""
    sock = enrolled(sockets, 1)
    promote(sock, 1)
    done = host.run("delete", ADDRESS)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert lines_of(host, "list") == []
    assert grm.get_u32(sock, grm.WORKING_GEN) == 0xFFFFFFFF
    assert grm.get_error(sock, grm.DISSECTOR, 632) == 77


def test_commands_load_no_compiler(host: Host, sockets: list[socket.socket]) -> None:
    """Import neither the compiler nor anything else that is slow."""
    enrolled(sockets, 1)
    code = (
        "import sys\n"
        "from udpgrm.cli.main import main\n"
        "status = main(sys.argv[1:])\n"
        "slow = {'bcc', 'jinja2', 'jsonschema', 'rich', 'asyncio', 'yaml', 'ssl', 'email'}\n"
        "print(sorted(slow & set(sys.modules)), status, file=sys.stderr)\n"
    )
    for arguments, status in (
        *((["list"], 0), (["flows"], 0), (["metrics"], 0), (["-h"], 254)),
        (["delete", ADDRESS], 0),
    ):
        assert host.run_python(code, *arguments).stderr == f"[] {status}\n"
