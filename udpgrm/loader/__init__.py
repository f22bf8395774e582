# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""Programs and maps into the kernel: for the daemon, and for commands that check or repair."""
