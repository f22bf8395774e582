# SPDX-License-Identifier: Apache-2.0
"""What people look at: groups, generations and services, once or live."""
