/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A socket that takes no new flow any more, out of the list of its generation. */
#ifndef UDPGRM_UNLIST_H
#define UDPGRM_UNLIST_H

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
 * Write other seats of the list over one whose socket closes or connects. No entry of a living
 * socket is written over, whoever else writes meanwhile; the daemon makes the list exact again.
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

/* What a socket's place says, out of its group's list; NULL: it has no array entry. */
static __always_inline struct group *unlist_place(const struct socket_place *place)
{
	u32 id = place->group - 1, slot_id = place->slot;
	struct group *group;
	struct slot *slot;
	void *slots;

	if (place->seat == SEAT_NONE)
		return NULL;
	group = live_group(id, place->epoch);
	if (!group)
		return NULL;
	slots = bpf_map_lookup_elem(MAP(SLOTS), &id);
	if (slots && slot_id < GENERATION_SLOTS) {
		slot = bpf_map_lookup_elem(slots, &slot_id);
		if (slot)
			unlist(slot, place->seat);
	}
	return group;
}

#endif
