# SPDX-License-Identifier: Apache-2.0
"""Service definitions, read from /etc/udpgrm/services.d."""
