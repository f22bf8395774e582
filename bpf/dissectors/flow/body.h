/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * flow: a packet belongs to the socket that last sent to its source address
 * and port.
 */
#include "dissectors/flow/found.h"

static __always_inline int dissect(struct steering *s)
{
	u32 group_id = CONST(GROUP), array_entry, slot;
	struct remote remote = {};

	if (read_remote(s->md, &remote))
		return pass_unread(s, RX_PACKET_TOO_SHORT_ERROR);
	switch (ask_line(s->group, group_id, &remote.key, &array_entry, &slot)) {
	case LINE_HAS_IT:
		if (select_entry(s, array_entry, slot, PATH_EXISTING))
			break;
		s->counters->total[RX_DISSECTED_OK_TOTAL]++;
		s->counters->total[RX_FLOW_OK]++;
		return SK_PASS;
	case LINE_KNOWS_NONE:
		s->counters->total[RX_DISSECTED_OK_TOTAL]++;
		return to_unseen(s, 0);
	}
	return to_keyed(s, &remote.key);
}
