/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What dissectors build on. A dissector's body.h defines
 *	static __always_inline int dissect(struct steering *s);
 * which ends in pass_unread(), to_existing(), to_cookie() or to_new(). These say
 * what is to be done; finish() does it, once, as the verifier follows every copy.
 */
#ifndef UDPGRM_STEERING_H
#define UDPGRM_STEERING_H

#include "cookie.h"
#include "flows.h"
#include "groups.h"
#include "packet.h"
#include "probes.h"

/*
 * Of two sockets that close at once one may stay listed until the daemon has looked. A
 * probe's packet that meets such a one is left to the dissector.
 */
enum { DISPATCH_TRIES = 4, PROBE_TRIES = 1 };

/* A generation whose last sockets have closed stays listed as long: how many to look past. */
enum { ANOTHER_TRIES = 3 };

/* What dissect() returns: SK_PASS, or that the packet begins a flow. */
enum { NEW_FLOW = 2 };

struct steering {
	struct sk_reuseport_md *md;
	struct group *group;
	struct counters *counters;
	void *slots; /* maps of the group */
	void *sockets;
	u32 working; /* of a new flow: the slot of its application's working generation */
	u32 path;    /* how a socket was selected; PATH_NONE: none was */
	u32 slot;    /* where it is */
	u32 array_entry;
};

/* A packet that could not be read: counted, and the kernel's hash chooses. */
static __always_inline int pass_unread(struct steering *s, u32 counter)
{
	s->counters->total[counter]++;
	return SK_PASS;
}

static __always_inline int select_entry(struct steering *s, u32 array_entry, u32 slot, u32 path)
{
	u64 key = array_key(array_entry);
	int error = bpf_sk_select_reuseport(s->md, s->sockets, &key, 0);

	if (error)
		return error;
	s->array_entry = array_entry;
	s->slot = slot;
	s->path = path;
	return 0;
}

/* A living socket of a generation, chosen by the packet's hash; -1: there is none. */
static __always_inline int to_generation(struct steering *s, u32 slot_id, u32 tries, u32 path)
{
	u64 key = array_key(slot_id), count, start, i;
	struct slot *slot;

	slot = bpf_map_lookup_elem(s->slots, &key);
	if (!slot || !slot->live)
		return -1;
	count = slot->live;
	start = s->md->hash * count >> 32;
#pragma clang loop unroll(disable)
	for (i = 0; i < tries; i++) {
		u64 index = start + i - count, wrap = (s64)index >> 63;

		/* no branch: the verifier would follow both ways out of each try */
		asm volatile("" : "+r"(wrap));
		index += count & wrap;
		/* or clang 18 counts down from `count`, and the verifier sees no end of that */
		asm volatile("" : "+r"(i));
		if (i >= count)
			break;
		if (!select_entry(s, slot->live_entries[index & (SLOT_SOCKETS - 1)], slot_id, path))
			return 0;
	}
	return -1;
}

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
		asm volatile("" : "+r"(live));
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

	asm volatile("" : "+r"(working));
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
		asm volatile("" : "+r"(slot_id));
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

/* A new flow of an application. */
static __always_inline int to_new(struct steering *s, u32 app)
{
	/* not the application: of what memory holds, the verifier takes all for the same */
	s->working = s->group->working_slot[app & (MAX_APPS - 1)];
	return NEW_FLOW;
}

/* A socket of the working generation; while it has none, one of another's. */
static __always_inline void dispatch(struct steering *s)
{
	s->counters->total[RX_NEW_FLOW_TOTAL]++;
	if (!to_generation(s, s->working, DISPATCH_TRIES, PATH_NEW)) {
		s->counters->total[RX_NEW_FLOW_WORKING_GEN_DISPATCH_OK]++;
		return;
	}
	s->counters->total[RX_NEW_FLOW_WORKING_GEN_DISPATCH_ERROR]++;
	to_another(s, s->working);
}

/* A probe's packet: whether its record, not the dissector, decides. */
static __always_inline bool to_probed(struct steering *s, u32 group_id)
{
	struct remote remote = {};
	struct probe *probe;

	if (read_remote(s->md, &remote))
		return false;
	probe = find_probe(s->group, group_id, &remote.key);
	return probe && probe->steer &&
	       !to_generation(s, probe->steer - 1, PROBE_TRIES, PATH_STEERED);
}

static __always_inline void note_probed(struct steering *s, u32 group_id)
{
	struct remote remote = {};
	struct probe *probe;

	if (read_remote(s->md, &remote))
		return;
	probe = find_probe(s->group, group_id, &remote.key);
	if (!probe)
		return;
	probe->received = s->slot + 1;
	probe->received_entry = s->array_entry;
	probe->path = s->path;
	probe->packets_in++;
}

/* Act on a dissector's result; returns the result of the program. */
static __always_inline int finish(struct steering *s, u32 group_id, int verdict)
{
	struct generation_counters *generation;

	if (verdict == NEW_FLOW)
		dispatch(s);
	if (s->path == PATH_NONE)
		return SK_PASS;
	generation = &s->counters->generation[s->slot & (GENERATION_SLOTS - 1)];
	generation->packets_in++;
	generation->last_in = bpf_jiffies64();
	if (unlikely(s->group->probes))
		note_probed(s, group_id);
	return SK_PASS;
}

/*
 * Dissectors without a flow table: which peers of a generation that drains are
 * still there. It has a table since it stopped being the working one.
 */
static __always_inline void note_seen(struct steering *s, u32 slot, u32 array_entry)
{
	struct flow entry = { .last = bpf_jiffies64(), .array_entry = array_entry };
	struct remote remote = {};
	void *table;

	/* the compiler knows its range and would drop the mask that the verifier needs */
	asm volatile("" : "+r"(slot));
	slot &= GENERATION_SLOTS - 1;
	if (!s->group->table[slot] || read_remote(s->md, &remote))
		return;
	table = flow_table(s->group, slot);
	if (table)
		bpf_map_update_elem(table, &remote.key, &entry, BPF_ANY);
}

/*
 * The socket of a known flow; a new flow when it cannot be had. Returns the
 * error of the selection, 0 when the flow's own socket was chosen.
 */
static __always_inline int to_existing(struct steering *s, u32 array_entry, u32 slot)
{
	int error = select_entry(s, array_entry, slot, PATH_EXISTING);

	if (!error) {
		s->counters->total[RX_FLOW_OK]++;
	} else if (error == -ENOENT) {
		s->counters->total[RX_FLOW_OTHER_ERROR]++;
	} else {
		s->counters->total[RX_FLOW_RG_CONFLICT]++;
	}
	return error;
}

/* The socket that a udpgrm cookie names; its application's new flow if there is none. */
static __always_inline int to_cookie(struct steering *s, u32 cookie)
{
	u32 slot_id = cookie & (GENERATION_SLOTS - 1), index = cookie >> 8 & 0xff, array_entry, app;
	struct slot *slot;
	u64 key;

	if (make_cookie(slot_id, index) != cookie) {
		s->counters->total[RX_FLOW_NEW_UNSEEN]++;
		s->counters->total[RX_FLOW_NEW_BAD_COOKIE]++;
		return to_new(s, 0);
	}
	key = array_key(slot_id);
	slot = bpf_map_lookup_elem(s->slots, &key);
	if (!slot)
		return pass_unread(s, RX_INTERNAL_STATE_ERROR);
	array_entry = slot->array_entry[index];
	if (array_entry == ENTRY_NONE) {
		s->counters->total[RX_FLOW_NEW_UNSEEN]++;
	} else if (!to_existing(s, array_entry, slot_id)) {
		note_seen(s, slot_id, array_entry);
		return SK_PASS;
	}
	/* of three applications, none has the last two slots */
	app = slot_id / slots_per_app(s->group);
	return to_new(s, app < s->group->max_apps ? app : 0);
}

#endif
