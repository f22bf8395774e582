# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""Files of distributions beside the package: manual pages, completions, packages."""
