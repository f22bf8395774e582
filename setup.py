# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""The wheel beyond pyproject.toml: bpf/ is a part of the package, and generated files go beside it.

The wheel has the units, manual pages and completions of the other packages. Units name the command
where pip puts it for root, below /usr/local; systemd reads units there, too.
"""

import sys
from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).resolve().parent
sys.path.insert(0, str(ROOT))

from distribution import completions, directory, manual, units  # noqa: E402
from udpgrm.build import sources  # noqa: E402

#: Relative, as setuptools wants it.
MADE = Path("build/wheel")
#: Beside them are pages and test packets of dissectors.
SOURCES = [f"**/*{suffix}" for suffix in sources.SUFFIXES]
SHELLS = {
    "udpgrm": "share/bash-completion/completions",
    "_udpgrm": "share/zsh/site-functions",
    "udpgrm.fish": "share/fish/vendor_completions.d",
}


def write(kind, texts):
    """Write files by name; return their paths."""
    directory.write(ROOT / MADE / kind, texts)
    return [str(MADE / kind / name) for name in sorted(texts)]


rendered = {
    name: text.replace("/usr/bin/udpgrm", "/usr/local/bin/udpgrm")
    for name, text in units.rendered().items()
}
configuration = {units.CONFIGURATION: rendered.pop(units.CONFIGURATION)}
data_files = [
    ("lib/systemd/system", write("units", rendered)),
    ("share/doc/udpgrm/examples", write("examples", configuration)),
    ("share/man/man8", write("man", manual.pages())),
]
for name, text in completions.completions().items():
    data_files.append((SHELLS[name], write("completions", {name: text})))

setup(
    packages=[*find_packages(include=["udpgrm", "udpgrm.*"]), "udpgrm.bpf"],
    package_dir={"udpgrm.bpf": "bpf"},
    package_data={
        "udpgrm": ["**/*.json", "servers/*.yaml"],
        "udpgrm.bpf": ["**/*.c", "**/*.h", "**/*.j2", "**/*.json"],
    },
    data_files=data_files,
)
