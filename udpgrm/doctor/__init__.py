# SPDX-License-Identifier: Apache-2.0
"""Why a process's sockets are steered, or are not: facts, then findings."""
