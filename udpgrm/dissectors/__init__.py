# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""Every kind of dissector: its properties, parameters and value; no program is loaded here."""
