# SPDX-License-Identifier: Apache-2.0
"""Typed views of the pinned maps: groups, generations, sockets, flows."""
