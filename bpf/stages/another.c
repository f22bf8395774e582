// SPDX-License-Identifier: GPL-2.0-or-later
// Copyright the udpgrm authors
#include "stages/resume.h"

/* A generation whose last sockets have closed stays listed as long: how many to look past. */
enum { ANOTHER_TRIES = 3 };

/* Slots of the group that have living sockets, a bit each. */
static __always_inline u64 living_slots(struct steering *s)
{
	u64 living = 0, i;

#pragma clang loop unroll(disable)
	for (i = 0; i < GENERATION_SLOTS; i++) {
		u64 key = array_key(i), live;
		struct slot *slot;

		slot = bpf_map_lookup_elem(s->slots, &key);
		if (!slot)
			return 0;
		live = slot->live;
		/* hidden, or clang makes a branch of it, which is followed in every round */
		OPAQUE(live);
		living |= -live >> 63 << i;
	}
	return living;
}

/*
 * A socket of the newest other generation that lives, those that drain first: the kernel's
 * hash would give its packet to any socket of the address. -1: there is none.
 */
static __always_inline int to_another(struct steering *s, u32 working)
{
	/* slots_per_app without its branch, which the verifier would follow on */
	u32 share = GENERATION_SLOTS / s->group->max_apps, from, at;
	u64 mask = (1ULL << share) - 1, others, i;

	OPAQUE(working);
	working &= GENERATION_SLOTS - 1;
	at = working % share;
	from = working - at;
	others = living_slots(s) >> from & mask & ~(1ULL << at);
	/* the lowest bit becomes the slot just before the working one */
	others = reversed(((others | others << share) >> at & mask) << (GENERATION_SLOTS - share));
#pragma clang loop unroll(disable)
	for (i = 0; i < ANOTHER_TRIES; i++) {
		u32 slot_id, index;
		struct slot *slot;
		u64 key;

		if (!others)
			break;
		slot_id = from + (at + share - 1 - lowest_bit(others)) % share;
		/* the verifier takes its range for the same in every round */
		OPAQUE(slot_id);
		slot_id &= GENERATION_SLOTS - 1;
		others &= others - 1;
		key = array_key(slot_id);
		slot = bpf_map_lookup_elem(s->slots, &key);
		if (!slot)
			break;
		index = (u64)s->md->hash * slot->live >> 32;
		if (!select_entry(s, slot->live_entries[index & (SLOT_SOCKETS - 1)], slot_id,
				  PATH_NEW))
			return 0;
	}
	return -1;
}

/* Continues a steering program whose working generation has no living socket. */
int steer_another(struct sk_reuseport_md *md)
{
	struct steering s = { .md = md };
	const struct steer_scratch *scratch = resume(&s);

	if (!scratch)
		return SK_PASS;
	to_another(&s, scratch->working);
	return finish(&s, scratch->group_id, SK_PASS);
}
