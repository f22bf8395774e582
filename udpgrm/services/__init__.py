# SPDX-License-Identifier: Apache-2.0
"""Services: what a restart has to know about one, read from /etc/udpgrm/services.d."""
