# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""Sphinx's configuration for tools/build_site."""

project = "udpgrm"
extensions = ["myst_parser", "sphinx_antsibull_ext"]
root_doc = "docs/index"
include_patterns = [
    *("*.md", "docs/**"),
    *(f"{folder}/README.md" for folder in ("bpf/dissectors/*", "testbed", "roles/udpgrm")),
]
html_theme = "furo"

myst_heading_anchors = 4
# ansible's own lexers are for the modules' pages; code blocks of others say what they are
suppress_warnings = ["misc.highlighting_failure"]
html_copy_source = False
html_show_copyright = False
html_use_index = False
pygments_style = "ansible"
default_role = "any"

nitpicky = True
# Of Ansible's own documentation, which is not at hand.
nitpick_ignore = [
    ("std:ref", "action_plugins"),
    ("std:ref", "ansible_configuration_settings"),
    ("std:ref", "common_return_values"),
]
