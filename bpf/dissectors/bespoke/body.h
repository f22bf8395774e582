/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright the udpgrm authors */
/*
 * bespoke, digest 0xDEAD: QUIC version 1, new connections by the server name
 * that their client asks for. A packet whose connection ID says enough costs
 * two loads. An Initial packet is handed to the programs in keys.c, decrypt.c,
 * name.c and choose.c, which all groups share.
 */

#include "dissectors/bespoke/connection.h"
#include "dissectors/bespoke/scratch.h"

static __always_inline int dissect(struct steering *s)
{
	struct connection found = {};
	struct quic_scratch *scratch;
	u32 zero = 0;

	if (read_connection(s->md, &found))
		return pass_unread(s, RX_PACKET_TOO_SHORT_ERROR);
	/* a name decides nothing where there is one application, unless it shows
	 * that the connection ID is the client's own */
	if (!found.is_initial || (s->group->max_apps <= 1 && !found.is_ours)) {
		s->counters->total[RX_DISSECTED_OK_TOTAL]++;
		return to_connection(s, &found);
	}
	scratch = bpf_map_lookup_elem(MAP(QUIC_SCRATCH), &zero);
	if (scratch) {
		scratch->group_id = CONST(GROUP);
		scratch->epoch = CONST(EPOCH);
		tail_call(s->md, MAP(QUIC_STAGES), QUIC_KEYS);
	}
	/* its daemon has gone, and took the programs along */
	return pass_unread(s, RX_INTERNAL_STATE_ERROR);
}
