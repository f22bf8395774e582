// SPDX-License-Identifier: GPL-2.0-or-later
#include "notify.h"

/* `a` where it is not `seat`, else `b`; a branch would double what the verifier follows. */
static __always_inline u32 other_than(u32 seat, u32 a, u32 b)
{
	u32 difference = a ^ seat;

	asm volatile("" : "+r"(difference));
	difference = -(-difference >> 31); /* seats have 16 bits */
	return (a & difference) | (b & ~difference);
}

/*
 * Write other seats of the list over one whose socket closes. No entry of a living socket is
 * written over, whoever else writes meanwhile; the daemon makes the list exact again.
 */
static __always_inline void unlist(struct slot *slot, u32 seat)
{
	u32 draw = bpf_get_prandom_u32(), other = seat, count, i;

	count = slot->live;
#pragma clang loop unroll(disable)
	for (i = 0; i < SLOT_SOCKETS; i++) {
		asm volatile("" : "+r"(i));
		if (i >= count)
			break;
		other = other_than(seat, slot->live_seat[i], other);
	}
	/* read anew: what the loop has told of it would be followed for every i */
	count = *(volatile u32 *)&slot->live;
#pragma clang loop unroll(disable)
	for (i = 0; i < SLOT_SOCKETS; i++) {
		u32 drawn;

		asm volatile("" : "+r"(i));
		if (i >= count)
			break;
		/* drawn by lot, or one socket would get what all closed ones got */
		draw = draw * 1664525 + 1013904223;
		drawn = slot->live_seat[((u64)draw * count >> 32) & (SLOT_SOCKETS - 1)];
		drawn = other_than(seat, drawn, other);
		if (slot->live_seat[i] == seat)
			slot->live_seat[i] = drawn;
	}
}

/*
 * sock_release: a socket that closes gets no new flow any more, with or without a daemon, which
 * is told. Costs other UDP sockets one storage lookup, those of a generation two passes through
 * its list.
 */
int hook_release(struct bpf_sock *ctx)
{
	struct socket_request *request;
	struct message message = {};
	struct socket_place *place;
	struct group *group;
	struct slot *slot;
	void *slots;
	u32 id;

	if (ctx->protocol != IPPROTO_UDP)
		return 1;
	place = bpf_sk_storage_get(MAP(SOCKET_PLACE), ctx, NULL, 0);
	if (!place)
		return 1;
	id = place->group - 1;
	group = live_group(id, place->epoch);
	request = bpf_sk_storage_get(MAP(SOCKET_REQUEST), ctx, NULL, 0);
	if (!group || !request)
		return 1;
	slots = bpf_map_lookup_elem(MAP(SLOTS), &id);
	if (slots && place->slot < GENERATION_SLOTS) {
		u32 slot_id = place->slot;

		slot = bpf_map_lookup_elem(slots, &slot_id);
		if (slot)
			unlist(slot, place->seat);
	}
	message.group = id;
	message.epoch = group->epoch;
	notify(&message, request);
	return 1;
}
