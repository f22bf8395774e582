/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The flow table of each generation: remote address and port -> the socket
 * that sent there last. A packet looks in the working generation's table, then
 * in the others', newest first; one lookup when nothing drains.
 */
#ifndef UDPGRM_FLOWS_H
#define UDPGRM_FLOWS_H

#include "groups.h"

static __always_inline void *flow_table(struct group *group, u32 slot)
{
	u32 table = group->table[slot & (GENERATION_SLOTS - 1)];

	return bpf_map_lookup_elem(MAP(FLOW_TABLES), &table);
}

static __always_inline struct flow *flow_in(struct group *group, u32 slot, struct flow_key *key)
{
	void *table = flow_table(group, slot);

	return table ? bpf_map_lookup_elem(table, key) : NULL;
}

static __always_inline bool is_fresh(const struct group *group, const struct flow *flow, u64 now)
{
	return (s64)(now - flow->last) <= (s64)group->timeout_jiffies;
}

/*
 * Position of the highest bit of a word that is not 0. Without branches: each
 * would double what the verifier has to follow, and BPF has no such instruction.
 */
static __always_inline u32 highest_bit(u32 word)
{
	word |= word >> 1;
	word |= word >> 2;
	word |= word >> 4;
	word |= word >> 8;
	word |= word >> 16;
	word -= (word >> 1) & 0x55555555;
	word = (word & 0x33333333) + ((word >> 2) & 0x33333333);
	word = (word + (word >> 4)) & 0x0f0f0f0f;
	return ((u32)(word * 0x01010101) >> 24) - 1;
}

/*
 * The fresh entry of a flow, looked for first in the table of slot `first`.
 * *slot tells where it is, *stale whether an expired one was passed on the way.
 */
static __always_inline struct flow *find_flow(struct group *group, u32 first, struct flow_key *key,
					      u64 now, u32 *slot, bool *stale)
{
	struct flow *flow = flow_in(group, first, key);
	u64 others;
	u32 i;

	*slot = first;
	*stale = false;
	if (flow) {
		if (is_fresh(group, flow, now))
			return flow;
		*stale = true;
	}
	others = group->table_mask;
	others &= ~(1ULL << first);
	/* bit 31 becomes the slot just before `first`: the newest that drains */
	others = (u32)((others | others << 32) >> first);
#pragma clang loop unroll(disable)
	for (i = 0; i < GENERATION_SLOTS - 1; i++) {
		u32 bit;

		if (!others)
			break;
		bit = highest_bit(others);
		others &= ~(1ULL << bit);
		*slot = (first + bit) & (GENERATION_SLOTS - 1);
		flow = flow_in(group, *slot, key);
		if (!flow)
			continue;
		if (is_fresh(group, flow, now))
			return flow;
		*stale = true;
	}
	return NULL;
}

/* A generation's flow table, taken from the prepared ones at its first socket. */
static __always_inline void ensure_table(struct group *group, u32 id, u32 slot)
{
	struct table_key key = { .group = id, .epoch = group->epoch, .slot = slot };
	struct user *user;
	u32 table;

	/* tables of another size are the daemon's to make */
	if (group->table[slot & (GENERATION_SLOTS - 1)] || group->flows)
		return;
	user = user_of(group->uid);
	if (!user ||
	    over(group->uid, user->tables_taken, user->tables_returned, CONST(USER_TABLES)))
		return;
	if ((group->uid || bpf_map_pop_elem(MAP(ROOT_TABLES), &table)) &&
	    bpf_map_pop_elem(MAP(FREE_TABLES), &table))
		return;
	if (bpf_map_update_elem(MAP(TABLE_INDEX), &key, &table, BPF_NOEXIST)) {
		if (is_reserved(table))
			bpf_map_push_elem(MAP(ROOT_TABLES), &table, 0);
		else
			bpf_map_push_elem(MAP(FREE_TABLES), &table, 0);
		return;
	}
	__sync_fetch_and_add(&user->tables_taken, 1);
	group->table[slot & (GENERATION_SLOTS - 1)] = table;
}

static __always_inline bool has_flow_table(const struct group *group)
{
	return (group->type & ~DISSECTOR_VERBOSE) == DISSECTOR_FLOW;
}

/*
 * Flows are told apart by what packets hold, not by their peer. A generation of such a group that
 * stops being the working one gets a table of who is still there.
 */
static __always_inline bool reads_payload(const struct group *group)
{
	u32 type = group->type & ~DISSECTOR_VERBOSE;

	return type != DISSECTOR_FLOW && type != DISSECTOR_NOOP;
}

/*
 * Create or refresh the entry of a flow for the socket that sends to it. A
 * fresh entry never moves to another socket, unless its own was found closed.
 * Returns the counter of the outcome.
 */
static __always_inline u32 refresh_flow(struct group *group, u32 slot, struct flow_key *key,
					u64 owner, u16 seat, bool *stale)
{
	struct flow entry = { .owner = owner, .last = bpf_jiffies64(), .seat = seat };
	struct flow *flow;
	void *table;
	u32 where;

	flow = find_flow(group, slot, key, entry.last, &where, stale);
	if (flow) {
		if (flow->owner == owner) {
			if (flow->last != entry.last)
				flow->last = entry.last;
			if (flow->seat != seat)
				flow->seat = seat;
			return TX_FLOW_UPDATE_OK;
		}
		if (!(flow->flags & FLOW_ORPHAN))
			return TX_FLOW_UPDATE_CONFLICT;
		*stale = true;
		if (where != slot)
			flow->last = 0;
	}
	table = flow_table(group, slot);
	if (!table || bpf_map_update_elem(table, key, &entry, BPF_ANY))
		return TX_FLOW_CREATE_ERROR;
	return TX_FLOW_CREATE_OK;
}

#endif
