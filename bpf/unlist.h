/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A socket that takes no new flow any more, out of the list of its generation. */
#ifndef UDPGRM_UNLIST_H
#define UDPGRM_UNLIST_H

#include "notify.h"

/* `a` where it is not `array entry`, else `b`; a branch would double what the verifier follows. */
static __always_inline u32 other_than(u32 array_entry, u32 a, u32 b)
{
	u32 difference = a ^ array_entry;

	OPAQUE(difference);
	difference = -(-difference >> 31); /* entries have 16 bits */
	return (a & difference) | (b & ~difference);
}

/*
 * Write other entries of the list over one whose socket closes or connects. No entry of a living
 * socket is overwritten, also if another writer runs; the daemon makes the list exact again.
 */
static __always_inline void unlist(struct slot *slot, u32 array_entry)
{
	u32 draw = bpf_get_prandom_u32(), other = array_entry, count, i;

	count = slot->live;
#pragma clang loop unroll(disable)
	for (i = 0; i < SLOT_SOCKETS; i++) {
		OPAQUE(i);
		if (i >= count)
			break;
		other = other_than(array_entry, slot->live_entries[i], other);
	}
	/* read again: the verifier would follow its value for every i of the loop */
	count = *(volatile u32 *)&slot->live;
#pragma clang loop unroll(disable)
	for (i = 0; i < SLOT_SOCKETS; i++) {
		u32 drawn;

		OPAQUE(i);
		if (i >= count)
			break;
		/*
		 * Drawn by lot, or one socket would get what all closed ones got; the draw before
		 * where it is the closing one's own.
		 */
		draw = draw * 1664525 + 1013904223;
		drawn = slot->live_entries[((u64)draw * count >> 32) & (SLOT_SOCKETS - 1)];
		other = other_than(array_entry, drawn, other);
		if (slot->live_entries[i] == array_entry)
			slot->live_entries[i] = other;
	}
}

/* Remove a registered socket from its group's list; NULL: it has no array entry. */
static __always_inline struct group *unlist_registration(const struct registration *registration)
{
	u32 group_id = registration->group - 1, slot_id = registration->slot;
	struct group *group;
	struct slot *slot;
	void *slots;

	if (registration->array_entry == ENTRY_NONE)
		return NULL;
	group = live_group(group_id, registration->epoch);
	if (!group)
		return NULL;
	slots = bpf_map_lookup_elem(MAP(SLOTS), &group_id);
	if (slots && slot_id < GENERATION_SLOTS) {
		slot = bpf_map_lookup_elem(slots, &slot_id);
		if (slot)
			unlist(slot, registration->array_entry);
	}
	return group;
}

#endif
