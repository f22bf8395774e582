# SPDX-License-Identifier: Apache-2.0
"""From sources to loaded programs: render, compile, template, link."""
