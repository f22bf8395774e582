# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""The headers of bpf/ on this machine."""

from __future__ import annotations

import ctypes
import subprocess
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
BPF = ROOT / "bpf"
HERE = Path(__file__).resolve().parent
FUNCTIONS = HERE / "functions.c"
TYPES = """\
#include <stdint.h>
#include <stdio.h>
typedef uint8_t u8;
typedef uint16_t u16;
typedef uint32_t u32;
typedef uint64_t u64;
typedef int32_t s32;
"""


def compile_c(source: Path, target: Path, *options: str) -> Path:
    """Compile one file that includes headers of bpf/."""
    command = [
        "gcc",
        "-std=gnu11",
        "-O1",
        f"-I{BPF}",
        f"-I{HERE}",
        *options,
        "-o",
        str(target),
        str(source),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return target


def evaluate(scratch: Path, includes: str, expressions: Iterable[str]) -> dict[str, int]:
    """Return the values that the compiler gives integer expressions."""
    lines = [f'printf("%s=%lld\\n", "{item}", (long long)({item}));' for item in expressions]
    source = scratch / "evaluate.c"
    source.write_text(f"{TYPES}{includes}\nint main(void)\n{{\n" + "\n".join(lines) + "\n}\n")
    program = compile_c(source, scratch / "evaluate")
    printed = subprocess.run([str(program)], stdout=subprocess.PIPE, text=True, check=True).stdout
    answers = (line.rpartition("=") for line in printed.splitlines())
    return {expression: int(value) for expression, _, value in answers}


def load_functions(scratch: Path) -> ctypes.CDLL:
    """functions.c as a library, its arguments declared."""
    library = ctypes.CDLL(str(compile_c(FUNCTIONS, scratch / "functions.so", "-shared", "-fPIC")))
    pointer, flag = ctypes.c_void_p, ctypes.c_bool
    u16, u32, u64 = ctypes.c_uint16, ctypes.c_uint32, ctypes.c_uint64
    for name, result, arguments in (
        ("test_make_cookie", u32, [u32, u32]),
        ("test_slot_of", u32, [pointer, u32, u32]),
        ("test_lowest_bit", u32, [u32]),
        ("test_reversed", u32, [u32]),
        ("test_has_flow_table", flag, [pointer]),
        ("test_reads_payload", flag, [pointer]),
        ("test_group_key", None, [pointer, u32, u16, pointer, pointer]),
        ("test_word", flag, [pointer, u32, ctypes.c_int32, u32, pointer]),
        ("test_set_length", ctypes.c_int32, [ctypes.c_int32]),
        ("test_clear", None, [u64]),
        ("test_put", flag, [u32, pointer, pointer]),
        ("test_get", flag, [u32, pointer, pointer]),
        ("test_find", u32, [pointer, u32, pointer, pointer, pointer, pointer]),
        ("test_refresh", u32, [pointer, u32, pointer, u64, u16, pointer]),
        ("test_draw_from", None, [u64]),
        ("test_unlist", None, [pointer, u32]),
        ("test_set_clock", None, [u64]),
        ("test_line_hash", u64, [pointer]),
        ("test_ask_line", u32, [pointer, pointer, pointer, pointer]),
    ):
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    return library
