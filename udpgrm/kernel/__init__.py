# SPDX-License-Identifier: Apache-2.0
"""Mechanisms of the kernel: bpf(2), links, pidfd, cgroups. No policy."""
