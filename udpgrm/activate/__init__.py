# SPDX-License-Identifier: Apache-2.0
"""Sockets of a service's next instance, made before it starts: `udpgrm activate`."""
