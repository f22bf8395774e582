# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""The collection's tarball: what is in it, and that it is always the same."""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import pytest

from udpgrm.build.sources import SUFFIXES

ROOT = Path(__file__).resolve().parents[3]
HOST = "roles/udpgrm/files/udpgrm-host"


def build(output: Path) -> bytes:
    command = [sys.executable, str(ROOT / "tools" / "build_collection"), "--output", str(output)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    [tarball] = output.iterdir()
    assert done.stdout == f"{tarball}\n"
    return tarball.read_bytes()


def unpacked(tarball: bytes) -> dict[str, bytes]:
    with tarfile.open(fileobj=io.BytesIO(tarball)) as tar:
        return {
            member.name: file.read() for member in tar if (file := tar.extractfile(member.name))
        }


@pytest.fixture(scope="module")
def tarball(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return build(tmp_path_factory.mktemp("built"))


@pytest.fixture(scope="module")
def contents(tarball: bytes) -> dict[str, bytes]:
    return unpacked(tarball)


def test_the_same_sources_give_the_same_bytes(tarball: bytes, tmp_path: Path) -> None:
    time.sleep(1.1)  # times in tarballs are whole seconds
    assert build(tmp_path) == tarball


def test_only_the_collection(contents: dict[str, bytes]) -> None:
    tops = {name.partition("/")[0] for name in contents}
    assert tops <= {
        *("FILES.json", "MANIFEST.json", "README.md", "CHANGELOG.md", "LICENSES", "changelogs"),
        *("extensions", "meta", "playbooks", "plugins", "roles"),
    }
    assert {"README.md", "LICENSES", "meta", "playbooks", "plugins", "roles"} <= tops


def test_checksums(contents: dict[str, bytes]) -> None:
    manifest = json.loads(contents["MANIFEST.json"])["file_manifest_file"]
    listing = contents["FILES.json"]
    assert manifest["chksum_sha256"] == hashlib.sha256(listing).hexdigest()
    files = [file for file in json.loads(listing)["files"] if file["ftype"] == "file"]
    assert {file["name"] for file in files} == contents.keys() - {"FILES.json", "MANIFEST.json"}
    for file in files:
        assert file["chksum_sha256"] == hashlib.sha256(contents[file["name"]]).hexdigest()


def test_host_package(contents: dict[str, bytes]) -> None:
    package = unpacked(contents[f"{HOST}.tar.gz"])
    assert {name.partition("/")[0] for name in package} == {"bin", "bpf", "udpgrm"}
    assert package["udpgrm/version.py"] == (ROOT / "udpgrm/version.py").read_bytes()
    assert not any("__pycache__" in name for name in package)
    assert {Path(name).suffix for name in package if name.startswith("bpf/")} == {*SUFFIXES}
    version, _, digest = contents[f"{HOST}.id"].decode().partition("-")
    assert f'"{version}"' in package["udpgrm/version.py"].decode()
    assert hashlib.sha256(contents[f"{HOST}.tar.gz"]).hexdigest().startswith(digest)
    assert len(digest) == 12


@pytest.mark.usefixtures("tarball")
def test_nothing_is_written_into_the_checkout() -> None:
    assert not list((ROOT / "roles/udpgrm").glob("files/udpgrm-host*"))


def test_host_package_names_the_modes_of_its_directories(contents: dict[str, bytes]) -> None:
    with tarfile.open(fileobj=io.BytesIO(contents[f"{HOST}.tar.gz"])) as tar:
        modes = {member.name: (member.isdir(), member.mode) for member in tar}
    parents = {str(parent) for name in modes for parent in Path(name).parents} - {"."}
    assert parents
    assert {name: modes.get(name) for name in parents} == dict.fromkeys(parents, (True, 0o755))
    assert {mode for is_directory, mode in modes.values() if not is_directory} <= {0o644, 0o755}


def test_every_relative_link_leads_to_a_file_of_the_collection(contents: dict[str, bytes]) -> None:
    pages = {name: text.decode() for name, text in contents.items() if name.endswith(".md")}
    assert "README.md" in pages
    for name, text in pages.items():
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", text):
            path = os.path.normpath(Path(name).parent / target)
            assert path in contents, f"{name} links to {target}"


def test_links_to_the_repository_lead_to_files_of_this_version(contents: dict[str, bytes]) -> None:
    text = contents["README.md"].decode()
    found = re.findall(r"\]\(https://github.com/udpgrm/udpgrm/blob/v([^/]+)/([^)#]+)", text)
    assert "docs/rolling-restart.md" in {path for _, path in found}, found
    for version, path in found:
        assert f'"{version}"' in (ROOT / "udpgrm/version.py").read_text()
        assert (ROOT / path).is_file()
