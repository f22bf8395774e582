# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""Prometheus' text form: names, labels, what is there and what is not."""

from __future__ import annotations

import os
import resource
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from testing import views
from udpgrm import abi
from udpgrm.cli import prometheus
from udpgrm.metrics import families, process
from udpgrm.metrics.exposition import Family, render
from udpgrm.state.view import GenerationView, GroupView, SocketView

NOW = 1_700_000_000.0


def group(group_id: int = 0, label: str = "", ifindex: int = 0, **counters: Any) -> GroupView:
    metrics = dict.fromkeys((*abi.COUNTERS, "socket_critical", "socket_critical_gauge"), 0)
    return views.group(
        group_id=group_id,
        netns=4097,
        ifindex=ifindex,
        label=label,
        working=[2],
        metrics={**metrics, **counters},
    )


def generation(number: int = 2, **fields: Any) -> GenerationView:
    shown: dict[str, Any] = {
        "working": True,
        "sockets": [SocketView(0, 0xC2, 11, 0), SocketView(1, 0x1C2, 0, 1)],
        "flows": 37,
        "packets_in": 5,
        "packets_out": 4,
        "last_in_age": 0.25,
    }
    return views.generation(number, **{**shown, **fields})


def text_of(*groups: GroupView) -> str:
    return render(families.of_groups(list(groups), 512, NOW))


GROUP = 'address="192.0.2.1:443",netns="4097",ifindex="0"'


def test_a_group() -> None:
    view = group(label="edge", rx_processed_total=7, rx_packet_too_short_error=3)
    view = view._replace(generations=[generation()])
    lines = text_of(view).splitlines()
    place = f'{GROUP},application="0",generation="2"'
    for line in (
        "udpgrm_groups 1",
        "udpgrm_groups_limit 512",
        f'udpgrm_group_info{{{GROUP},dissector="flow",label="edge"}} 1',
        f'udpgrm_working_generation{{{GROUP},application="0"}} 2',
        f"udpgrm_received_packets_total{{{GROUP}}} 7",
        f'udpgrm_dispatch_errors_total{{{GROUP},reason="too_short"}} 3',
        f'udpgrm_dispatch_errors_total{{{GROUP},reason="no_working_socket"}} 0',
        f"udpgrm_generation_working{{{place}}} 1",
        f"udpgrm_generation_sockets{{{place}}} 1",
        f"udpgrm_generation_flows{{{place}}} 37",
        f"udpgrm_generation_received_packets_total{{{place}}} 5",
        f"udpgrm_generation_sent_packets_total{{{place}}} 4",
        f"udpgrm_generation_last_received_timestamp_seconds{{{place}}} 1699999999.8",
        f"udpgrm_generation_last_sent_timestamp_seconds{{{place}}} 0",
    ):
        assert line in lines


def test_uncounted_flows_have_no_series() -> None:
    view = group()
    view = view._replace(generations=[generation(flows=None)])
    assert "udpgrm_generation_flows" not in text_of(view)


def test_every_counter_is_exported_once_or_is_a_sum_of_others() -> None:
    series = [metric for _, members in families._GROUP_COUNTERS.values() for metric, _ in members]
    sums = {"rx_dissected_ok_total", "rx_new_flow_total"}
    assert sorted(series) == sorted({*abi.COUNTERS, "socket_critical"} - sums)


def test_a_packet_counts_once_in_a_family() -> None:
    """Count each received packet once, as dispatched or as an error."""
    packets: dict[str, Any] = {
        "rx_flow_ok": 1,
        "rx_new_flow_working_gen_dispatch_ok": 2,
        "rx_packet_too_short_error": 4,
        "rx_cbpf_prog_error": 8,
        "rx_internal_state_error": 16,
        "rx_new_flow_working_gen_dispatch_error": 32,
    }
    found = families.of_groups([group(**packets, rx_processed_total=63)], 1, NOW)
    total = {family.name: sum(value for _, value in family.samples) for family in found}
    parts = total["udpgrm_dispatched_packets_total"] + total["udpgrm_dispatch_errors_total"]
    assert parts == total["udpgrm_received_packets_total"] == 63


def test_series_are_unique_and_names_conventional() -> None:
    one = group(0)
    one = one._replace(generations=[generation(), generation(1, working=False)])
    twin, other_device = group(1), group(2, ifindex=7)
    twin = twin._replace(generations=[generation()])
    found = families.of_groups([one, twin, other_device], 512, NOW)
    for family in found:
        assert family.name.startswith("udpgrm_")
        assert family.name.endswith("_total") == (family.kind == "counter")
        series = [tuple(sorted(labels.items())) for labels, _ in family.samples]
        assert len(series) == len(set(series)), family.name
    assert len({family.name for family in found}) == len(found)
    lines = render(found).splitlines()
    assert f'udpgrm_flow_sends_total{{{GROUP},group="0"}} 0' in lines
    assert f'udpgrm_flow_sends_total{{{GROUP},group="1"}} 0' in lines
    alone = GROUP.replace('ifindex="0"', 'ifindex="7"')
    assert f"udpgrm_flow_sends_total{{{alone}}} 0" in lines


def test_help_and_type_come_once_before_their_series() -> None:
    lines = text_of(group(0), group(1, ifindex=3)).splitlines()
    names: list[str] = []
    for position, line in enumerate(lines):
        if line.startswith("# HELP"):
            name = line.split()[2]
            assert lines[position + 1].split()[:3] == ["#", "TYPE", name]
            assert lines[position + 2].startswith((name + "{", name + " "))
            names.append(name)
        elif not line.startswith("#"):
            assert line.startswith((names[-1] + "{", names[-1] + " "))
    assert len(names) == len(set(names))


@given(st.text())
def test_any_label_can_be_read_again(label: str) -> None:
    family = Family("udpgrm_x", "gauge", "Says \\ and\nmore.")
    family.add({"label": label}, 1)
    head, kind, series, rest = render([family]).split("\n", 3)
    assert (head, kind) == (r"# HELP udpgrm_x Says \\ and\nmore.", "# TYPE udpgrm_x gauge")
    assert rest == ""
    body = series[len('udpgrm_x{label="') : -len('"} 1')]
    plain: list[str] = []
    letters = iter(body)
    for letter in letters:
        assert letter != '"'
        plain.append({"n": "\n"}.get(nxt := next(letters), nxt) if letter == "\\" else letter)
    assert "".join(plain) == label


def test_the_client_library_reads_it() -> None:
    parser = pytest.importorskip("prometheus_client.parser")
    view = group(label='a "label" \\ of\nusers', rx_processed_total=7)
    view = view._replace(generations=[generation(), generation(1)])
    text = render(families.of_build("1.2.3")) + text_of(view)
    read = {family.name: family for family in parser.text_string_to_metric_families(text)}
    assert read["udpgrm_group_info"].samples[0].labels["label"] == view.label
    assert read["udpgrm_received_packets"].type == "counter"
    assert read["udpgrm_received_packets"].samples[0].value == 7
    assert all(family.documentation for family in read.values())


def test_a_daemon_that_is_down_has_no_health() -> None:
    lines = render(families.of_daemon(False, None)).splitlines()
    assert lines[2:] == ["udpgrm_daemon_up 0"]


def test_health_of_a_process(tmp_path: Path) -> None:
    held = os.open(tmp_path, os.O_RDONLY)
    try:
        health = process.read(os.getpid(), tmp_path)
    finally:
        os.close(held)
    assert health is not None
    assert 0 < time.time() - health.start_time < 24 * 3600
    assert 1 << 20 < health.resident_bytes < 1 << 34
    assert abs(health.cpu_seconds - time.process_time()) < 1
    assert health.open_descriptors >= 3
    up = render(families.of_daemon(True, health))
    assert f"udpgrm_daemon_open_fds {health.open_descriptors}\n" in up
    assert "udpgrm_daemon_up 1\n" in up


def test_a_process_without_the_lock_is_not_the_daemon(tmp_path: Path) -> None:
    assert process.read(os.getpid(), tmp_path) is None
    assert process.read(2**22 + 1, tmp_path) is None


def test_a_file_is_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "udpgrm.prom"
    (tmp_path / f".udpgrm.prom.udpgrm-{os.getpid()}").write_text("of a run that was killed")
    path.write_text("old")
    with path.open() as reader:
        prometheus.write(path, "new\n")
        assert reader.read() == "old"
    assert path.read_text() == "new\n"
    assert path.stat().st_mode & 0o777 == 0o644
    assert [item.name for item in tmp_path.iterdir()] == ["udpgrm.prom"]


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "udpgrm.prom"
    path.write_text("old\n")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2, before[1]))
    try:
        with pytest.raises(OSError):
            prometheus.write(path, "new\n")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert path.read_text() == "old\n"
    assert [item.name for item in tmp_path.iterdir()] == ["udpgrm.prom"]
