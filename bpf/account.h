/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What a send does: the counters of its group and generation, and its flow. */
#ifndef UDPGRM_ACCOUNT_H
#define UDPGRM_ACCOUNT_H

#include "flows.h"
#include "groups.h"
#include "probes.h"

/* Sends can be preempted on their CPU, so unlike receives they add atomically. */
#define COUNT(field) __sync_fetch_and_add(&(field), 1)

static __always_inline struct counters *counters_of(u32 group_id)
{
	void *own = bpf_map_lookup_elem(MAP(COUNTERS), &group_id);
	u32 zero = 0;

	return own ? bpf_map_lookup_elem(own, &zero) : NULL;
}

/* A send in a group with a flow table, or an assurance: what became of its flow. */
static __always_inline void count_flow(struct counters *counters, u32 result, bool stale)
{
	COUNT(counters->total[TX_TOTAL]);
	if (result < NR_COUNTERS)
		COUNT(counters->total[result]);
	if (result == TX_FLOW_CREATE_OK && stale)
		COUNT(counters->total[TX_FLOW_CREATE_FROM_EXPIRED_OK]);
}

static __always_inline int account_send(struct bpf_sock *sk, struct flow_key *key)
{
	struct registration *registration = registration_of(sk);
	u32 group_id = 0, slot = 0, stale = 0, result;
	u16 array_entry = ENTRY_NONE;
	struct counters *counters;
	struct group *group = NULL;
	u64 owner = 0;

	if (registration) {
		group_id = registration->group - 1;
		slot = registration->slot;
		array_entry = registration->array_entry;
		owner = registration->cookie;
		group = live_group(group_id, registration->epoch);
	}
	if (!group) {
		struct socket_request *request = request_of(sk);

		if (!request || !request->group)
			return 1;
		group_id = request->group - 1;
		array_entry = ENTRY_NONE;
		owner = request->cookie;
		group = live_group(group_id, request->epoch);
		if (!group)
			return 1;
		slot = slot_of(group, request->app, request->generation);
	}
	counters = counters_of(group_id);
	if (!counters)
		return 1;
	if (slot < GENERATION_SLOTS) {
		COUNT(counters->generation[slot].packets_out);
		counters->generation[slot].last_out = bpf_jiffies64();
	} else { /* entered, in no generation: that of -1 */
		slot = GENERATION_SLOTS - 1;
	}
	if (unlikely(group->probes))
		note_reply(group, group_id, slot, key, owner);
	if (!has_flow_table(group))
		return 1;
	ensure_table(group, group_id, slot);
	result = refresh_flow(group, slot, key, owner, array_entry, &stale);
	count_flow(counters, result, stale);
	return 1;
}

#endif
