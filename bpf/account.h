/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Account a send: the counters of its group and generation, and its flow. */
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
	if (result == FLOW_CROSSED) {
		COUNT(counters->crossed);
		result = TX_FLOW_UPDATE_CONFLICT;
	}
	if (result < NR_COUNTERS)
		COUNT(counters->total[result]);
	if (result == TX_FLOW_CREATE_OK && stale)
		COUNT(counters->total[TX_FLOW_CREATE_FROM_EXPIRED_OK]);
}

/* A socket that sends. */
struct sender {
	struct group *group;
	u64 owner; /* socket cookie */
	u32 group_id;
	u32 slot; /* GENERATION_SLOTS at least: it is in no generation */
	u16 array_entry;
};

/* -1: it is in no group. */
static __always_inline int find_sender(struct bpf_sock *sk, struct sender *sender)
{
	struct registration *registration = registration_of(sk);
	struct socket_request *request;

	if (registration) {
		sender->group_id = registration->group - 1;
		sender->slot = registration->slot;
		sender->array_entry = registration->array_entry;
		sender->owner = registration->cookie;
		sender->group = live_group(sender->group_id, registration->epoch);
		if (sender->group)
			return 0;
	}
	request = request_of(sk);
	if (!request || !request->group)
		return -1;
	sender->group_id = request->group - 1;
	sender->array_entry = ENTRY_NONE;
	sender->owner = request->cookie;
	sender->group = live_group(sender->group_id, request->epoch);
	if (!sender->group)
		return -1;
	sender->slot = slot_of(sender->group, request->app, request->generation);
	return 0;
}

/* The slot of a sender's flows; if it is in no generation, that of generation -1. */
static __always_inline u32 flow_slot(const struct sender *sender)
{
	return sender->slot < GENERATION_SLOTS ? sender->slot : GENERATION_SLOTS - 1;
}

/* Make or refresh the flow of a key for a sender, and count the outcome. */
static __always_inline void account_flow(const struct sender *sender, u32 slot,
					 struct flow_key *key, struct counters *counters)
{
	u32 stale = 0, result;

	ensure_table(sender->group, sender->group_id, slot);
	result = refresh_flow(sender->group, sender->group_id, slot, key, sender->owner,
			      sender->array_entry, &stale);
	count_flow(counters, result, stale);
}

static __always_inline int account_send(struct bpf_sock *sk, struct flow_key *key)
{
	struct sender sender = {};
	struct generation_counters *of;
	struct counters *counters;
	u32 slot;

	if (find_sender(sk, &sender))
		return 1;
	counters = counters_of(sender.group_id);
	if (!counters)
		return 1;
	slot = flow_slot(&sender);
	OPAQUE(slot); /* keeps the mask: Linux 6.1 does not know the range of what was spilled */
	if (sender.slot < GENERATION_SLOTS) {
		of = &counters->generation[slot & (GENERATION_SLOTS - 1)];
		COUNT(of->packets_out);
		of->last_out = bpf_jiffies64();
	}
	if (unlikely(sender.group->probes))
		note_reply(sender.group, sender.group_id, slot, key, sender.owner);
	if (has_flow_table(sender.group))
		account_flow(&sender, slot, key, counters);
	return 1;
}

#endif
