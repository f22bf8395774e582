// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Steering and sends up to a certain step (PART), made of the functions of
 * bpf/: the difference of two steps is what the later one costs. Each prefix
 * does what the program of bpf/ does so far, and then leaves.
 */
#include "steering.h"
#include "dissectors/flow/body.h"

enum {
	STEER_GROUP = 1, /* counters and group record */
	STEER_KEY,	 /* remote address and port */
	STEER_LINE,	 /* the flow in its line, and its age */
	STEER_SELECT,	 /* its socket */
	STEER_SLOT,	 /* NOOP: the working generation's record */
	STEER_SLOT_SELECT,
};

int part_steer(struct sk_reuseport_md *md)
{
	struct steering s = { .md = md };
	u32 group_id = CONST(GROUP), zero = 0, slot_id, array_entry;
	struct remote remote = {};
	struct slot *slot;

	s.counters = bpf_map_lookup_elem(MAP(OWN_COUNTERS), &zero);
	if (!s.counters)
		return SK_PASS;
	s.group = bpf_map_lookup_elem(MAP(GROUPS), &group_id);
	s.counters->total[RX_PROCESSED_TOTAL]++;
	if (!s.group || s.group->state != GROUP_LIVE || s.group->epoch != (u32)CONST(EPOCH))
		return SK_PASS;
	s.counters->total[RX_DISSECTED_OK_TOTAL]++;
	slot_id = s.group->working_slot[0] & (GENERATION_SLOTS - 1);
	if (PART == STEER_GROUP)
		return SK_PASS;
	if (PART >= STEER_SLOT) {
		slot = bpf_map_lookup_elem(MAP(OWN_SLOTS), &slot_id);
		if (!slot || !slot->live)
			return SK_PASS;
		array_entry =
			slot->live_entries[((u64)md->hash * slot->live >> 32) & (SLOT_SOCKETS - 1)];
		if (PART == STEER_SLOT_SELECT)
			bpf_sk_select_reuseport(md, MAP(OWN_SOCKETS), &array_entry, 0);
		return array_entry == ENTRY_NONE ? SK_DROP : SK_PASS;
	}
	if (read_remote(md, &remote) || PART == STEER_KEY)
		return SK_PASS;
	if (ask_line(s.group, group_id, &remote.key, &array_entry, &slot_id) != LINE_HAS_IT ||
	    PART == STEER_LINE)
		return SK_PASS;
	bpf_sk_select_reuseport(md, MAP(OWN_SOCKETS), &array_entry, 0);
	return SK_PASS;
}

enum {
	SEND_STORAGE = 1, /* the socket's registration record */
	SEND_FRESH,	  /* nothing but an entry in a table, made again */
};

/* MAP(FLOW_TABLES) is one table here. */
int part_send(struct bpf_sock_addr *ctx)
{
	struct flow_key key = { .addr = { 0, 0, V4_MAPPED, ctx->user_ip4 },
				.port = ctx->user_port };
	struct flow entry = { .last = bpf_jiffies64() };

	if (PART == SEND_STORAGE)
		return ctx->sk && registration_of(ctx->sk) ? 1 : 1;
	bpf_map_update_elem(MAP(FLOW_TABLES), &key, &entry, BPF_ANY);
	return 1;
}
