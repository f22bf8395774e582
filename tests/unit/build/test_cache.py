# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""The cache of templates, with the real compiler on sources of one line."""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
from collections.abc import Iterator
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Optional

import pytest

from tests.unit.bpf.support import BPF, ROOT
from udpgrm.build import cache, sources
from udpgrm.build.sources import Program

ONE = Program("one", "hooks/one.c", "answer")
TWO = Program("two", "two.c", "answer")
#: r0 = 42; exit
ANSWER_42 = bytes.fromhex("b70000002a0000009500000000000000")


@pytest.fixture(autouse=True)
def bpf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Yield a folder with sources of our own, and an empty cache.

    The compiler's process finds sources beside its package, so it gets a copy of that.
    """
    root = tmp_path / "root"
    shutil.copytree(ROOT / "udpgrm", root / "udpgrm", ignore=shutil.ignore_patterns("__pycache__"))
    directory = root / "bpf"
    shutil.copytree(BPF / "headers", directory / "headers")
    (directory / "hooks").mkdir()
    for program in (ONE, TWO):
        (directory / program.source).write_text("int answer(struct xdp_md *md) { return 42; }\n")
    monkeypatch.setattr(sources, "BPF_DIR", directory)
    monkeypatch.setattr(cache, "__file__", str(root / "udpgrm" / "build" / "cache.py"))
    monkeypatch.setattr(cache, "TEMPLATES_DIR", tmp_path / "carried")
    monkeypatch.setenv("UDPGRM_CACHE_DIR", str(tmp_path / "made" / "cache"))
    monkeypatch.chdir(root)
    clear_memory()
    yield directory
    monkeypatch.undo()
    clear_memory()


def clear_memory() -> None:
    """Clear what a new process does not have in memory."""
    sources.sources_digest.cache_clear()
    cache._compiler.cache_clear()
    cache._discarded.clear()


def templates() -> set[str]:
    return {path.name for path in cache.directory().iterdir()}


def pretend_compiled(*programs: Program) -> None:
    cache.directory().mkdir(parents=True, exist_ok=True)
    for program in programs:
        (cache.directory() / cache._file_name(program)).write_bytes(ANSWER_42)


def bcc_at(monkeypatch: pytest.MonkeyPatch, place: Optional[Path]) -> None:
    """Let bcc be a module of this folder, or not be installed."""
    spec = None
    if place is not None:
        spec = ModuleSpec("bcc", None, origin=str(place / "__init__.py"))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: spec)


def test_compile_once(tmp_path: Path) -> None:
    assert cache.directory() == tmp_path / "made" / "cache"
    assert cache.missing([ONE, TWO]) == [ONE, TWO]
    assert cache.compile_missing([ONE]) == [ONE]
    assert cache.template(ONE) == ANSWER_42
    assert cache.missing([ONE, TWO]) == [TWO]
    assert cache.compile_missing([ONE, TWO]) == [TWO]
    before = {path: path.stat().st_mtime_ns for path in cache.directory().iterdir()}
    assert cache.compile_missing([ONE, TWO]) == []
    assert {path: path.stat().st_mtime_ns for path in cache.directory().iterdir()} == before
    # no unfinished file is left
    assert templates() == {cache._file_name(ONE), cache._file_name(TWO)}


def test_messages_of_the_compiler_are_quoted(bpf: Path) -> None:
    (bpf / ONE.source).write_text("int answer(struct xdp_md *md) { return nope; }\n")
    with pytest.raises(cache.BuildError) as error:
        cache.compile_missing([ONE])
    assert "use of undeclared identifier 'nope'" in str(error.value)
    assert cache._file_name(ONE) in str(error.value)
    assert templates() == set()
    (bpf / ONE.source).write_text("int answer(struct xdp_md *md) { return 7; }\n")
    clear_memory()
    assert cache.compile_missing([ONE]) == [ONE]


@pytest.mark.parametrize("name", ["udpgrm", "json", "bcc"])
def test_modules_in_the_working_directory_are_left_alone(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # root starts daemons from anywhere
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / f"{name}.py").write_text("raise SystemExit('a module of another user')\n")
    monkeypatch.chdir(elsewhere)
    assert cache.compile_missing([ONE]) == [ONE]


def test_warnings_are_errors(bpf: Path) -> None:
    (bpf / ONE.source).write_text("int answer(struct xdp_md *md) { int unused; return 1; }\n")
    with pytest.raises(cache.BuildError, match="unused variable"):
        cache.compile_missing([ONE])


def test_what_was_compiled_before_an_error_stays(bpf: Path) -> None:
    (bpf / TWO.source).write_text("int answer(struct xdp_md *md) { return nope; }\n")
    with pytest.raises(cache.BuildError):
        cache.compile_missing([ONE, TWO])
    assert cache.missing([ONE, TWO]) == [TWO]


@pytest.mark.parametrize(
    "changed", ["hooks/one.c", "two.c", "new.h", "headers/include/linux/kconfig.h"]
)
def test_a_changed_source_makes_all_templates_stale(bpf: Path, changed: str) -> None:
    # includes are not followed: any file may be part of any program
    pretend_compiled(ONE, TWO)
    assert cache.missing([ONE, TWO]) == []
    (bpf / changed).parent.mkdir(parents=True, exist_ok=True)
    (bpf / changed).write_text("/* changed */\n")
    clear_memory()
    assert cache.missing([ONE, TWO]) == [ONE, TWO]


def test_so_do_a_moved_and_a_removed_one(bpf: Path) -> None:
    names = set()
    for change in (
        lambda: None,
        lambda: (bpf / "two.c").rename(bpf / "three.c"),
        lambda: (bpf / "three.c").rename(bpf / "hooks" / "three.c"),
        lambda: (bpf / "hooks" / "three.c").unlink(),
    ):
        change()
        clear_memory()
        names.add(cache._file_name(ONE))
    assert len(names) == 4


def test_the_same_sources_elsewhere_have_the_same_templates(
    bpf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # or no fleet could be given templates
    name = cache._file_name(ONE)
    monkeypatch.setattr(sources, "BPF_DIR", bpf.rename(tmp_path / "elsewhere"))
    clear_memory()
    assert cache._file_name(ONE) == name


def test_pages_and_tests_beside_sources_are_no_part_of_templates(bpf: Path) -> None:
    name = cache._file_name(ONE)
    for other in ("README.md", "packets.py"):
        (bpf / "hooks" / other).write_text("text\n")
    clear_memory()
    assert cache._file_name(ONE) == name


def test_another_compiler_makes_other_templates(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = set()
    for version in ("0.26.0", "0.29.1", "0.26.0"):
        (tmp_path / "version.py").write_text(f"__version__ = '{version}'\n")
        bcc_at(monkeypatch, tmp_path)
        clear_memory()
        names.add(cache._file_name(ONE))
    assert len(names) == 2


def test_every_program_has_a_template_of_its_own() -> None:
    names = [cache._file_name(program) for program in sources.all_programs()]
    assert len(set(names)) == len(names) > 5


@pytest.mark.parametrize(
    "number, kind, reason",
    [
        (signal.SIGKILL, cache.Unavailable, "killed"),
        (signal.SIGTERM, cache.Unavailable, "terminated"),
        (signal.SIGABRT, cache.BuildError, "exit status -6"),
    ],
)
def test_a_compiler_that_is_ended(
    number: signal.Signals, kind: type[cache.BuildError], reason: str
) -> None:
    """Report a compiler that the machine ended as no fault of the program, to be compiled later."""
    compilation = cache.Compilation([ONE])
    os.kill(compilation.pid, number)
    with pytest.raises(cache.BuildError, match=reason) as error:
        compilation.finish()
    assert type(error.value) is kind


def test_without_a_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    bcc_at(monkeypatch, None)
    with pytest.raises(cache.BuildError) as error:
        cache.compile_missing([ONE])
    assert "install python3-bpfcc" in str(error.value)
    assert str(cache.directory()) in str(error.value)
    assert len(str(error.value).splitlines()) == 1


def test_delivered_templates_need_no_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend_compiled(ONE)
    bcc_at(monkeypatch, None)
    clear_memory()
    assert cache.missing([ONE]) == []


def carry(program: Program) -> Path:
    """Write a package's template of a program, made by another compiler than this machine's."""
    carried = cache.directory().parents[1] / "carried"
    carried.mkdir(exist_ok=True)
    path = carried / f"{cache._prefix(program)}0123.bpf"
    path.write_bytes(ANSWER_42)
    return path


@pytest.mark.parametrize("has_compiler", [True, False])
def test_templates_of_the_package(has_compiler: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    carry(ONE)
    if not has_compiler:
        bcc_at(monkeypatch, None)
        clear_memory()
    assert cache.missing([ONE, TWO]) == [TWO]
    assert cache.template(ONE) == ANSWER_42
    assert not cache.directory().exists()


def test_templates_of_the_package_are_of_its_sources(bpf: Path) -> None:
    carry(ONE)
    (bpf / ONE.source).write_text("/* changed */\n")
    clear_memory()
    assert cache.missing([ONE]) == [ONE]


def test_a_template_of_the_package_that_does_not_load_is_compiled() -> None:
    carried = carry(ONE)
    assert cache.discard([ONE])
    assert cache.compile_missing([ONE]) == [ONE]
    assert templates() == {cache._file_name(ONE)}
    assert carried.exists()


def test_a_cache_that_cannot_be_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("UDPGRM_CACHE_DIR", str(tmp_path / "file" / "cache"))
    with pytest.raises(cache.BuildError, match=r"cannot use the cache directory .*/file/cache: "):
        cache.compile_missing([ONE])


def test_an_empty_variable_is_no_directory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("UDPGRM_CACHE_DIR")
    assert cache.directory() == Path("/var/cache/udpgrm")
