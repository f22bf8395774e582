# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""What distributions and users get beside the package: manual pages, completions, packages."""
