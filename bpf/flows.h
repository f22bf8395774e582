/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The flow table of each generation: remote address and port -> the socket
 * that sent there last. A packet looks in the working generation's table, then
 * in the others', newest first; one lookup when nothing drains.
 */
#ifndef UDPGRM_FLOWS_H
#define UDPGRM_FLOWS_H

#include "lines.h"

static __always_inline void *flow_table(struct group *group, u32 slot)
{
	u64 table = array_key(group->table[slot & (GENERATION_SLOTS - 1)]);

	return bpf_map_lookup_elem(MAP(FLOW_TABLES), &table);
}

static __always_inline struct flow *flow_in(struct group *group, u32 slot, struct flow_key *key)
{
	void *table = flow_table(group, slot);

	return table ? bpf_map_lookup_elem(table, key) : NULL;
}

/* Whether an entry was refreshed since `oldest`. */
static __always_inline bool is_fresh(const struct flow *flow, u64 oldest)
{
	return (s64)(flow->last - oldest) >= 0;
}

/* The fresh entry of a flow in the table of a slot; counts an expired one in *stale. */
static __always_inline struct flow *fresh_flow_in(struct group *group, u32 slot,
						  struct flow_key *key, u64 oldest, u32 *stale)
{
	struct flow *flow = flow_in(group, slot, key);

	if (!flow)
		return NULL;
	if (is_fresh(flow, oldest))
		return flow;
	++*stale;
	return NULL;
}

/* Slots but this one whose tables packets are searched for in, a bit each. */
static __always_inline u64 other_tables(const struct group *group, u32 slot)
{
	return group->table_mask & ~(1ULL << slot);
}

/*
 * The fresh entry of a flow in the tables of slots other than `first`. *slot is its slot;
 * expired ones that were skipped are counted in *stale.
 */
static __always_inline struct flow *find_in_others(struct group *group, u32 first,
						   struct flow_key *key, u64 oldest, u32 *slot,
						   u32 *stale)
{
	u64 others = other_tables(group, first), i;
	struct flow *flow;

	/* the lowest bit becomes the slot just before `first`: the newest that drains */
	others = reversed((others | others << 32) >> first);
#pragma clang loop unroll(disable)
	for (i = 0; i < GENERATION_SLOTS - 1; i++) {
		u32 bit;

		if (!others)
			break;
		bit = lowest_bit(others);
		others &= others - 1;
		*slot = (first - 1 - bit) & (GENERATION_SLOTS - 1);
		flow = fresh_flow_in(group, *slot, key, oldest, stale);
		if (flow)
			return flow;
	}
	return NULL;
}

/*
 * The fresh entry of a flow, looked for first in the table of slot `first`.
 * *slot is its slot, *stale the number of expired ones that were skipped.
 */
static __always_inline struct flow *find_flow(struct group *group, u32 first, struct flow_key *key,
					      u64 now, u32 *slot, u32 *stale)
{
	u64 oldest = now - group->timeout_jiffies;
	struct flow *flow;

	*slot = first;
	*stale = unknown_zero(now);
	flow = fresh_flow_in(group, first, key, oldest, stale);
	return flow ? flow : find_in_others(group, first, key, oldest, slot, stale);
}

/* A generation's flow table, taken from the prepared ones at its first socket. */
static __always_inline void ensure_table(struct group *group, u32 group_id, u32 slot)
{
	struct table_key key = { .group_id = group_id, .epoch = group->epoch, .slot = slot };
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
 * Flows are distinguished by the content of packets, not by peer. A generation of such a group that
 * stops being the working one gets a table of its remaining peers.
 */
static __always_inline bool reads_payload(const struct group *group)
{
	u32 type = group->type & ~DISSECTOR_VERBOSE;

	return type != DISSECTOR_FLOW && type != DISSECTOR_NOOP;
}

/* A conflict with the socket of another generation: which of the two the peer reaches matters. */
enum { FLOW_CROSSED = NR_COUNTERS };

/*
 * Create or refresh the entry of a flow for the socket that sends to it. A
 * fresh entry never moves to another socket, unless its own was found closed. Another socket of its
 * generation refreshes it: servers receive on one of their sockets and answer with another.
 * Returns the counter of the outcome, or FLOW_CROSSED.
 */
static __always_inline u32 refresh_flow(struct group *group, u32 group_id, u32 slot,
					struct flow_key *key, u64 owner, u16 array_entry,
					u32 *stale)
{
	struct flow entry = { .owner = owner, .last = bpf_jiffies64(), .array_entry = array_entry };
	u32 found_at, at = slot, result = TX_FLOW_CREATE_OK;
	void *table = flow_table(group, slot);
	struct flow *flow;

	flow = find_flow(group, slot, key, entry.last, &found_at, stale);
	if (flow && flow->owner == owner) {
		result = TX_FLOW_UPDATE_OK;
		at = found_at;
	} else if (flow && !(flow->flags & FLOW_ORPHAN)) {
		if (found_at != slot)
			return FLOW_CROSSED;
		result = TX_FLOW_UPDATE_CONFLICT;
		array_entry = flow->array_entry;
	} else if (!table) {
		return TX_FLOW_CREATE_ERROR;
	}
	if (flow && result != TX_FLOW_CREATE_OK) {
		if (flow->last == entry.last && flow->array_entry == array_entry)
			return result; /* its line knows, too */
	}
	note_flow(group_id, key, at, array_entry, entry.last);
	if (flow && result != TX_FLOW_CREATE_OK) {
		flow->last = entry.last;
		flow->array_entry = array_entry;
		return result;
	}
	if (flow) {
		++*stale;
		if (found_at != slot)
			flow->last = 0;
	}
	if (!table || bpf_map_update_elem(table, key, &entry, BPF_ANY))
		return TX_FLOW_CREATE_ERROR;
	return TX_FLOW_CREATE_OK;
}

#endif
