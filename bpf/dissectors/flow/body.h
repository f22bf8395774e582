/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * flow: a packet belongs to the socket that last sent to its source address
 * and port.
 */
#include "dissectors/flow/found.h"

static __always_inline int dissect(struct steering *s)
{
	struct remote remote = {};

	if (read_remote(s->md, &remote))
		return pass_unread(s, RX_PACKET_TOO_SHORT_ERROR);
	return to_keyed(s, &remote.key);
}
