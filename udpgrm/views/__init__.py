# SPDX-License-Identifier: Apache-2.0
"""Views for people: groups, generations and services, once or live."""
