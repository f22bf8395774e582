/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright the udpgrm authors */
/*
 * radius: a request belongs to the socket that sent the challenge which it answers. The egress hook
 * makes the flows. A request without State begins a conversation.
 */
#include "dissectors/flow/found.h"
#include "dissectors/radius/key.h"

static __always_inline int dissect(struct steering *s)
{
	struct remote state = {}; /* no peer's, but a key as long */

	if (!radius_key(s->md, UDP_HEADER, s->md->len, RADIUS_ACCESS_REQUEST, &state.key))
		return to_keyed(s, &state.key);
	s->counters->total[RX_DISSECTED_OK_TOTAL]++;
	return to_unseen(s, 0);
}
