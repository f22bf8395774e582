# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""Documentation that names files, functions and maps names those that exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from udpgrm.state import layout

ROOT = Path(__file__).resolve().parents[3]
ARCHITECTURE = (ROOT / "docs/architecture.md").read_text()
GLOSSARY = (ROOT / "docs/glossary.md").read_text()
PAGES = sorted(
    [
        *ROOT.glob("*.md"),
        *(ROOT / "docs").rglob("*.md"),
        *ROOT.glob("bpf/dissectors/*/README.md"),
        ROOT / "roles/udpgrm/README.md",
    ]
)
#: Written while the site is built.
GENERATED = {"modules/index"}
QUESTIONS = (
    "Where is a packet's socket chosen?",
    "Where does a restart decide to roll back?",
    "Where is a new dissector added?",
    "Where is a module's error worded?",
    "Where does a flow entry expire?",
)
MAX_TERMS = 30


def rows(text: str, heading: str) -> list[list[str]]:
    """Return the cells of the first table below a heading, without its head."""
    lines = text.split(f"{heading}\n", 1)[1].splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith("|"))
    table = []
    for line in lines[start:]:
        if not line.startswith("|"):
            break
        table.append([cell.strip() for cell in line.strip("|").split(" | ")])
    return table[2:]


WHERE_TO_LOOK = rows(ARCHITECTURE, "## Where to look")


def files_and_functions(answer: str) -> list[tuple[str, list[str]]]:
    """Return each linked file of an answer with the functions named after it."""
    parts = re.split(r"\]\(\.\./([^)]+)\)", answer)[1:]
    return [
        (path, re.findall(r"`(\w+)\(\)`", after)) for path, after in zip(parts[::2], parts[1::2])
    ]


@pytest.mark.parametrize("question", QUESTIONS)
def test_question_has_an_answer(question: str) -> None:
    assert question in [row[0] for row in WHERE_TO_LOOK]


@pytest.mark.parametrize("row", WHERE_TO_LOOK, ids=lambda row: row[0])
def test_where_to_look(row: list[str]) -> None:
    named = files_and_functions(row[1])
    assert named
    for path, functions in named:
        text = (ROOT / path).read_text()
        for function in functions:
            # in Python, or in C, whose functions begin in the first column
            definition = rf"^(?: *def |[a-z].*\b){function}\("
            assert re.search(definition, text, re.MULTILINE), (path, function)


def test_maps() -> None:
    named = [name for row in rows(ARCHITECTURE, "## State") for name in row[0].split(", ")]
    assert sorted(name.strip("`") for name in named) == sorted(layout.MAPS)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links(page: Path) -> None:
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)\s#]+)(?:#[^)]*)?\)", text):
        assert target.startswith("https://") or (page.parent / target).exists(), target


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub and the site make them."""
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
    plain = [
        re.sub(r"\[([^]]*)\]\([^)]*\)|`", r"\1", line)
        for line in re.findall(r"^#+ (.*)$", text, re.M)
    ]
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in plain}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_anchors(page: Path) -> None:
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
    for target, anchor in re.findall(r"\]\(([^)\s#]*\.md|)#([^)]+)\)", text):
        named = page.parent / target if target else page
        if not target.startswith("https://"):
            assert anchor in anchors(named), (target, anchor)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_yaml_examples(page: Path) -> None:
    for example in re.findall(r"```yaml\n(.*?)```", page.read_text(), re.DOTALL):
        yaml.safe_load(example)


def test_index_names_every_page() -> None:
    index = (ROOT / "docs/index.md").read_text()
    names = {
        line
        for tree in re.findall(r"```\{toctree\}\n(.*?)```", index, re.DOTALL)
        for line in tree.splitlines()
        if line and not line.startswith((":", "../"))
    }
    pages = {page.stem for page in (ROOT / "docs").glob("*.md")} - {"index"}
    assert names - GENERATED == pages


def test_glossary() -> None:
    terms = [row[0] for row in rows(GLOSSARY, "# Glossary")]
    assert terms == sorted(terms)
    assert len(terms) == len(set(terms)) <= MAX_TERMS


def test_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) < 150
