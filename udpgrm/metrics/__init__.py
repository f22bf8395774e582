# SPDX-License-Identifier: Apache-2.0
"""Groups, generations and the daemon as Prometheus wants them."""
