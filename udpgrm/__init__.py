# SPDX-License-Identifier: Apache-2.0
"""udpgrm: graceful restarts of stateful UDP services."""
