# shellcheck shell=sh
# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
#
# A part of the packages' scripts before removal, Debian's and RPM's.

# Addresses with living sockets, one a line; nothing without a state that can be read.
steered() {
	udpgrm list --json 2>/dev/null | python3 -c '
import json, sys
for group in json.loads(sys.stdin.read() or "{}").get("groups", ()):
    if any(generation["sockets_alive"] for generation in group["generations"]):
        print(group["address"])'
}

refuse_removal() {
	addresses=$(steered | paste -sd' ')
	if [ -n "$addresses" ] && [ "${UDPGRM_REMOVE_STEERED:-}" != yes ]; then
		echo "udpgrm: sockets at $addresses would no longer be steered, and lose flows:" >&2
		echo "udpgrm: stop their services, or set UDPGRM_REMOVE_STEERED=yes in the environment" >&2
		exit 1
	fi
}
