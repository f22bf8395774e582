/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright the udpgrm authors */
/* Finish a packet whose flow was searched for: by its group's program, or by the stage. */
#ifndef UDPGRM_FLOW_FOUND_H
#define UDPGRM_FLOW_FOUND_H

#include "steering.h"

/* The slot whose table had a flow of this hash last. */
static __always_inline u8 *hint_of(struct steering *s)
{
	return &s->counters->hint[s->md->hash & (HINTS - 1)];
}

/* No table has a fresh entry. */
static __always_inline int to_unseen(struct steering *s, u32 stale)
{
	s->counters->total[RX_FLOW_NEW_UNSEEN]++;
	if (stale)
		s->counters->total[RX_FLOW_NEW_HAD_EXPIRED]++;
	return to_new(s, 0);
}

/* The socket of a flow, as its entry in the table of a slot says. */
static __always_inline int to_flow(struct steering *s, struct flow *flow, u32 slot)
{
	if (flow->array_entry == ENTRY_NONE) {
		/* made before the daemon had entered the socket that sent */
		u64 owner = flow->owner;
		struct entry_ref *ref = bpf_map_lookup_elem(MAP(ENTRIES), &owner);

		if (ref)
			flow->array_entry = ref->array_entry;
	}
	switch (to_existing(s, flow->array_entry, slot)) {
	case 0:
		return SK_PASS;
	case -ENOENT:
		if (flow->array_entry != ENTRY_NONE)
			flow->flags |= FLOW_ORPHAN;
	}
	return to_new(s, 0);
}

/*
 * The socket of the flow of a key. One table lookup when nothing drains; else the table to look in
 * first is the last one that had a flow of this packet's hash, and a stage looks in the others.
 */
static __always_inline int to_keyed(struct steering *s, struct flow_key *key)
{
	struct steer_scratch *scratch;
	u32 first, stale, group_id = CONST(GROUP);
	u64 now = bpf_jiffies64();
	struct flow *flow;
	u8 hint;

	s->counters->total[RX_DISSECTED_OK_TOTAL]++;
	first = s->group->working_slot[0] & (GENERATION_SLOTS - 1);
	hint = *hint_of(s);
	if (hint && other_tables(s->group, first))
		first = hint & (GENERATION_SLOTS - 1);
	stale = unknown_zero(now);
	flow = fresh_flow_in(s->group, first, key, now - s->group->timeout_jiffies, &stale);
	if (flow)
		return to_flow(s, flow, first);
	scratch = other_tables(s->group, first) ? scratch_for(s, group_id) : NULL;
	if (scratch) {
		scratch->first = first;
		scratch->stale = stale;
		scratch->key = *key;
		tail_call(s->md, MAP(STEER_STAGES), STAGE_SEARCH);
	}
	return to_unseen(s, stale);
}

#endif
