# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""Messages of errors of the operating system."""

from __future__ import annotations

import errno

import pytest

from udpgrm.kernel import limits
from udpgrm.kernel.libbpf import VerifierError


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (FileNotFoundError(errno.ENOENT, "No such file or directory", "/none"), "/none: No such "),
        (OSError(errno.ENOSPC, "No space left on device"), "No space left on device"),
        (OSError("a sentence of its own"), "a sentence of its own"),
        (
            VerifierError(errno.EACCES, "steer", "R1 type=inv"),
            "cannot load steer: Permission denied: ",
        ),
        (OSError(errno.ENFILE, "Too many", "/f"), "/f: Too many: the kernel's file table is full"),
        (OSError(errno.EFBIG, "File too large"), "File too large: the limit of file sizes is "),
        (ValueError("no number"), "no number"),
    ],
)
def test_a_message_names_the_file_and_no_number(error: Exception, message: str) -> None:
    assert limits.explain(error).startswith(message)
