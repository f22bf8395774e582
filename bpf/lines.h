/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright the udpgrm authors */
/*
 * Lines in front of the flow tables: a cache line for the flows of IPv4 peers of one hash, all
 * groups' in one array. What a table has cost three cache lines in memory for 65,536 flows; here it
 * costs one, also to know that no table has it.
 *
 * Every flow that a table has, and that was refreshed after the line's `lacks`, is in its line.
 * Sends keep it so: they note a flow before its table has it. What a line says of a flow is not
 * used if that was last refreshed by the group's `lines_since`. Tables alone are listed and
 * counted.
 */
#ifndef UDPGRM_LINES_H
#define UDPGRM_LINES_H

#include "groups.h"

enum {
	/*
	 * Jiffies, 5 s at least. A flow that was refreshed that recently is refreshed without a
	 * claim of its line. A writer that has the claim may replace it, but then the line lacks
	 * it.
	 */
	LINE_RECENT = 5000,
};

/* The address and port of a peer, as in struct line_flow. */
static __always_inline u64 line_peer(const struct flow_key *key)
{
	return (u64)key->addr[3] << 32 | (u64)key->port << 16;
}

/* The state of a flow that is refreshed now. */
static __always_inline u64 line_state(u32 group_id, u32 slot, u64 now)
{
	return now << 24 | (u64)group_id << 5 | slot;
}

/* Jiffies since a flow's last refresh; very many if another CPU's clock is ahead. */
static __always_inline u64 line_age(u64 state, u64 now)
{
	return (now & (1ULL << 40) - 1) - (state >> 24);
}

/* Ports in a row, as of a NAT, are spread like peers drawn by chance. */
static __always_inline u64 line_hash(u32 group_id, const struct flow_key *key)
{
	u64 hash = (line_peer(key) >> 16 | (u64)group_id << 48) * 0x9e3779b97f4a7c15ULL;

	return (hash ^ hash >> 32) * 0x9e3779b97f4a7c15ULL;
}

/* The line of a key; NULL: it is not of an IPv4 peer. */
static __always_inline struct line *line_of(u32 group_id, const struct flow_key *key)
{
	u64 number = array_key(line_hash(group_id, key) >> (64 - CONST(LINE_BITS)));

	if (key->addr[0] | key->addr[1] | (key->addr[2] ^ V4_MAPPED) | key->keyed_by)
		return NULL;
	return bpf_map_lookup_elem(MAP(LINES), &number);
}

/* Other CPUs write the same words: read and write each once, and in this order. */
#define READ_ONCE(field) (*(volatile __typeof__(field) *)&(field))
#define WRITE_ONCE(field, value) (*(volatile __typeof__(field) *)&(field) = (value))

/* Where a line has a flow; LINE_FLOWS: nowhere. Without branches, for the verifier. */
static __always_inline u64 index_in(struct line *line, u64 peer, u64 state)
{
	u64 index = LINE_FLOWS, i;

#pragma clang loop unroll(full)
	for (i = 0; i < LINE_FLOWS; i++) {
		struct line_flow *flow = &line->flow[i];
		u64 differs = (READ_ONCE(flow->peer) ^ peer) >> 16 |
			      ((READ_ONCE(flow->state) ^ state) & 0xffffe0);
		u64 is_it = -((differs - 1) >> 63);

		OPAQUE(is_it);
		index ^= (index ^ i) & is_it;
	}
	return index;
}

/* LINE_FLOWS is no flow's, but inside of the line. */
static __always_inline struct line_flow *flow_at(struct line *line, u64 index)
{
	OPAQUE(index);
	return &line->flow[index & LINE_FLOWS];
}

/* The index of a line's free place, or of the flow that was refreshed first. */
static __always_inline u64 oldest_in(struct line *line, u64 now)
{
	s64 oldest = 0;
	u64 i;

#pragma clang loop unroll(full)
	for (i = 0; i < LINE_FLOWS; i++) {
		s64 here = line_age(READ_ONCE(line->flow[i].state), now) << 2 | i;

		if (here > oldest)
			oldest = here;
	}
	return oldest & 3;
}

/* Write a flow into its line, of which the caller has the claim. */
static __always_inline void write_flow(struct line *line, u64 peer, u64 state, u64 now)
{
	u64 index = index_in(line, peer, state), lacks = now, age;
	struct line_flow *flow;

	if (index == LINE_FLOWS) {
		index = oldest_in(line, now);
		flow = flow_at(line, index);
		age = line_age(READ_ONCE(flow->state), now);
		/* one as recent may be refreshed at this moment */
		if (age > 2 * LINE_RECENT)
			lacks = now - age;
		if (flow->peer && (s64)(lacks - READ_ONCE(line->lacks)) > 0)
			WRITE_ONCE(line->lacks, lacks);
	}
	flow = flow_at(line, index);
	WRITE_ONCE(flow->state, state);
	WRITE_ONCE(flow->peer, peer);
}

/* Have the line of a flow know it: of a slot, to an array entry, refreshed now. */
static __always_inline void note_flow(u32 group_id, const struct flow_key *key, u32 slot,
				      u16 array_entry, u64 now)
{
	u64 peer = line_peer(key) | array_entry, state = line_state(group_id, slot, now);
	struct line *line = line_of(group_id, key);
	struct line_flow *flow;
	u64 index, before;

	if (!line)
		return;
	index = index_in(line, peer, state);
	flow = flow_at(line, index);
	before = READ_ONCE(flow->state);
	if (index != LINE_FLOWS && READ_ONCE(flow->peer) == peer &&
	    !((before ^ state) & 0xffffff) && line_age(before, now) < LINE_RECENT) {
		WRITE_ONCE(flow->state, state);
		if (READ_ONCE(flow->peer) != peer)
			WRITE_ONCE(line->lacks, now);
		return;
	}
	/* Sends can be preempted: none waits for the claim. */
	__sync_fetch_and_add(&line->writers, 1);
	if (READ_ONCE(line->writers) == 1)
		write_flow(line, peer, state, now);
	else
		WRITE_ONCE(line->lacks, now);
	__sync_fetch_and_add(&line->writers, -1);
}

enum line_answer {
	LINE_IS_UNSURE, /* tables have to be asked */
	LINE_HAS_IT,
	LINE_KNOWS_NONE, /* no table has a fresh entry */
};

/* Ask the line of a packet's flow; if it has the flow, get its array entry and slot. */
static __always_inline u32 ask_line(struct group *group, u32 group_id, const struct flow_key *key,
				    u32 *array_entry, u32 *slot)
{
	u64 now = bpf_jiffies64(), peer = line_peer(key), index, oldest, state, found, age;
	struct line *line = line_of(group_id, key);
	struct line_flow *flow;

	if (!line)
		return LINE_IS_UNSURE;
	index = index_in(line, peer, line_state(group_id, 0, now));
	if (index == LINE_FLOWS) {
		oldest = now - group->timeout_jiffies;
		return (s64)(READ_ONCE(line->lacks) - oldest) < 0 ? LINE_KNOWS_NONE
								  : LINE_IS_UNSURE;
	}
	flow = flow_at(line, index);
	state = READ_ONCE(flow->state);
	found = READ_ONCE(flow->peer);
	age = line_age(state, now);
	*slot = state & (GENERATION_SLOTS - 1);
	*array_entry = found & 0xffff;
	/* a writer may have replaced it meanwhile */
	if ((found ^ peer) >> 16 || *array_entry == ENTRY_NONE || age > group->timeout_jiffies ||
	    (s64)(now - age - group->lines_since) <= 0)
		return LINE_IS_UNSURE;
	return LINE_HAS_IT;
}

#endif
