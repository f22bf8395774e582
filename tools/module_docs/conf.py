# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""Sphinx's configuration for tools/build_module_docs."""

project = "udpgrm.fleet"
extensions = ["sphinx_antsibull_ext"]

html_copy_source = False
html_show_copyright = False
html_use_index = False
pygments_style = "ansible"
highlight_language = "YAML+Jinja"
default_role = "any"

nitpicky = True
# Of Ansible's own documentation, which is not at hand.
nitpick_ignore = [
    ("std:ref", "action_plugins"),
    ("std:ref", "ansible_configuration_settings"),
    ("std:ref", "common_return_values"),
]
