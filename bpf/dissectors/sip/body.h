/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright the udpgrm authors */
/*
 * sip: a message belongs to the socket that sent one of its Call-ID first. The egress hook makes
 * the flows. What has no Call-ID (keepalives) is a new flow.
 */
#include "dissectors/flow/found.h"
#include "dissectors/sip/key.h"

static __always_inline int dissect(struct steering *s)
{
	struct remote call = {}; /* no peer's, but a key as long */
	u64 ends;

	if (!sip_key(s->md, UDP_HEADER, s->md->len, &call.key, &ends))
		return to_keyed(s, &call.key);
	s->counters->total[RX_DISSECTED_OK_TOTAL]++;
	return to_unseen(s, 0);
}
