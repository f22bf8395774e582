/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * flow: a packet belongs to the socket that last sent to its source address
 * and port. One table lookup when nothing drains; else the table to look in
 * first is the last one that had a flow of this hash, and a stage looks in the others.
 */
#include "dissectors/flow/found.h"

static __always_inline int dissect(struct steering *s)
{
	struct remote remote = {};
	struct steer_scratch *scratch;
	u32 first, stale, group_id = CONST(GROUP);
	u64 now = bpf_jiffies64();
	struct flow *flow;
	u8 hint;

	if (read_remote(s->md, &remote))
		return pass_unread(s, RX_PACKET_TOO_SHORT_ERROR);
	s->counters->total[RX_DISSECTED_OK_TOTAL]++;
	first = s->group->working_slot[0] & (GENERATION_SLOTS - 1);
	hint = *hint_of(s);
	if (hint && other_tables(s->group, first))
		first = hint & (GENERATION_SLOTS - 1);
	stale = unknown_zero(now);
	flow = fresh_flow_in(s->group, first, &remote.key, now - s->group->timeout_jiffies, &stale);
	if (flow)
		return to_flow(s, flow, first);
	scratch = other_tables(s->group, first) ? scratch_for(s, group_id) : NULL;
	if (scratch) {
		scratch->first = first;
		scratch->stale = stale;
		scratch->key = remote.key;
		tail_call(s->md, MAP(STEER_STAGES), STAGE_SEARCH);
	}
	return to_unseen(s, stale);
}
