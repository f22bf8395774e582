# SPDX-License-Identifier: Apache-2.0
"""The daemon: does for hooks what only user space can."""
