# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""The long form: atheris mutates inputs of a target by the coverage that they reach.

    python3 -m tests.fuzz TARGET [LIBFUZZER OPTIONS]

Begins with the kept inputs. Inputs that reach new code go to build/fuzz/TARGET. An input that
makes a parser fail is written to build/fuzz/TARGET-crash-*: keep it in tests/fuzz/corpus/TARGET.
"""

from __future__ import annotations

import sys

import atheris

with atheris.instrument_imports(include=["udpgrm"]):
    from tests.fuzz import targets


def main() -> int:
    """Run the command line; does not return unless it is wrong."""
    if len(sys.argv) < 2 or sys.argv[1] not in targets.TARGETS:
        names = " ".join(targets.TARGETS)
        print(f"usage: python3 -m tests.fuzz TARGET [OPTIONS], one of: {names}", file=sys.stderr)
        return 2
    name = sys.argv.pop(1)
    found = targets.CORPUS.parents[2] / "build/fuzz" / name
    found.mkdir(parents=True, exist_ok=True)
    arguments = [sys.argv[0], f"-artifact_prefix={found}-", "-max_len=4096", "-timeout=10"]
    arguments += [*sys.argv[1:], str(found), str(targets.CORPUS / name)]
    atheris.Setup(arguments, targets.TARGETS[name])
    atheris.Fuzz()
    return 0


if __name__ == "__main__":
    sys.exit(main())
