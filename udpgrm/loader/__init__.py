# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""Loading of programs and maps: for the daemon, and for commands that check or repair."""
