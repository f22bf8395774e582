# SPDX-License-Identifier: Apache-2.0
"""The diagnosis of a process's sockets, why they are steered or not: facts, then findings."""
