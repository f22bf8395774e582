/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What dissectors build on. A dissector's body.h defines
 *	static __always_inline int dissect(struct steering *s);
 * which ends in pass_unread(), to_existing(), to_cookie() or to_new().
 */
#ifndef UDPGRM_STEERING_H
#define UDPGRM_STEERING_H

#include "cookie.h"
#include "flows.h"
#include "groups.h"
#include "packet.h"
#include "probes.h"

/* Of two sockets that close at once one may stay listed until the daemon has looked. */
enum { DISPATCH_TRIES = 4 };

struct steering {
	struct sk_reuseport_md *md;
	struct group *group;
	struct counters *counters;
	void *slots; /* maps of the group */
	void *sockets;
	struct probe *probe; /* of this packet's peer, mostly none */
};

/* A packet that could not be read: counted, and the kernel's hash chooses. */
static __always_inline int pass_unread(struct steering *s, u32 counter)
{
	s->counters->total[counter]++;
	return SK_PASS;
}

static __always_inline int select_seat(struct steering *s, u32 seat, u32 slot)
{
	struct generation_counters *generation;
	int error;

	error = bpf_sk_select_reuseport(s->md, s->sockets, &seat, 0);
	if (error)
		return error;
	generation = &s->counters->generation[slot & (GENERATION_SLOTS - 1)];
	generation->packets_in++;
	generation->last_in = bpf_jiffies64();
	if (unlikely(s->probe)) {
		s->probe->received = slot + 1;
		s->probe->received_seat = seat;
		s->probe->packets_in++;
	}
	return 0;
}

static __always_inline void note_path(struct steering *s, enum probe_path path)
{
	if (unlikely(s->probe))
		s->probe->path = path;
}

/* A living socket of a generation, chosen by the packet's hash; -1: there is none. */
static __always_inline int to_generation(struct steering *s, u32 slot_id)
{
	u32 i, count, start;
	struct slot *slot;

	slot = bpf_map_lookup_elem(s->slots, &slot_id);
	if (!slot || !slot->live)
		return -1;
	count = slot->live;
	start = (u64)s->md->hash * count >> 32;
#pragma clang loop unroll(disable)
	for (i = 0; i < DISPATCH_TRIES; i++) {
		u32 index = start + i;

		/* or clang 18 counts down from `count`, and the verifier sees no end of that */
		asm volatile("" : "+r"(i));
		if (i >= count)
			break;
		if (index >= count)
			index -= count;
		if (!select_seat(s, slot->live_seat[index & (SLOT_SOCKETS - 1)], slot_id))
			return 0;
	}
	return -1;
}

/*
 * A socket of the newest other generation that lives, those that drain first: the kernel's
 * hash would give its packet to any socket of the address. -1: there is none.
 */
static __always_inline int to_another(struct steering *s, u32 working)
{
	/* slots_per_app without its branch, which the verifier would follow through the loop */
	u32 share = GENERATION_SLOTS / s->group->max_apps, first = working - working % share, i;

#pragma clang loop unroll(disable)
	for (i = 1; i < GENERATION_SLOTS; i++) {
		u32 slot_id, index;
		struct slot *slot;

		/* as in to_generation */
		asm volatile("" : "+r"(i));
		if (i >= share)
			break;
		slot_id = first + (working + share - i) % share;
		slot = bpf_map_lookup_elem(s->slots, &slot_id);
		if (!slot || !slot->live)
			continue;
		index = (u64)s->md->hash * slot->live >> 32;
		if (!select_seat(s, slot->live_seat[index & (SLOT_SOCKETS - 1)], slot_id))
			return 0;
	}
	return -1;
}

/*
 * A socket of the application's working generation; while it has none, one of another's.
 */
static __always_inline int to_new(struct steering *s, u32 app)
{
	u32 working = s->group->working_slot[app & (MAX_APPS - 1)];

	s->counters->total[RX_NEW_FLOW_TOTAL]++;
	if (to_generation(s, working)) {
		s->counters->total[RX_NEW_FLOW_WORKING_GEN_DISPATCH_ERROR]++;
		if (!to_another(s, working))
			note_path(s, PATH_NEW);
		return SK_PASS;
	}
	s->counters->total[RX_NEW_FLOW_WORKING_GEN_DISPATCH_OK]++;
	note_path(s, PATH_NEW);
	return SK_PASS;
}

/*
 * A probe's packet: whether its record, not the dissector, decides. Leaves the
 * record in s->probe for what follows.
 */
static __always_inline bool to_probed(struct steering *s, u32 id)
{
	struct flow_key remote = {};

	if (read_remote(s->md, &remote))
		return false;
	s->probe = find_probe(s->group, id, &remote);
	if (!s->probe || !s->probe->steer || to_generation(s, s->probe->steer - 1))
		return false;
	note_path(s, PATH_STEERED);
	return true;
}

/*
 * Dissectors without a flow table: which peers of a generation that drains are
 * still there. It has a table since it stopped being the working one.
 */
static __always_inline void note_seen(struct steering *s, u32 slot, u32 seat)
{
	struct flow entry = { .last = bpf_jiffies64(), .seat = seat };
	struct flow_key remote = {};
	void *table;

	/* the compiler knows its range and would drop the mask that the verifier needs */
	asm volatile("" : "+r"(slot));
	slot &= GENERATION_SLOTS - 1;
	if (!s->group->table[slot] || read_remote(s->md, &remote))
		return;
	table = flow_table(s->group, slot);
	if (table)
		bpf_map_update_elem(table, &remote, &entry, BPF_ANY);
}

/*
 * The socket of a known flow; a new flow when it cannot be had. Returns the
 * error of the selection, 0 when the flow's own socket was chosen.
 */
static __always_inline int to_existing(struct steering *s, u32 seat, u32 slot)
{
	int error = select_seat(s, seat, slot);

	if (!error) {
		s->counters->total[RX_FLOW_OK]++;
		note_path(s, PATH_EXISTING);
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
	u32 slot_id = cookie & (GENERATION_SLOTS - 1), index = cookie >> 8 & 0xff, seat, app;
	struct slot *slot;

	if (make_cookie(slot_id, index) != cookie) {
		s->counters->total[RX_FLOW_NEW_UNSEEN]++;
		s->counters->total[RX_FLOW_NEW_BAD_COOKIE]++;
		return to_new(s, 0);
	}
	slot = bpf_map_lookup_elem(s->slots, &slot_id);
	if (!slot)
		return pass_unread(s, RX_INTERNAL_STATE_ERROR);
	seat = slot->seat[index];
	if (seat == SEAT_NONE) {
		s->counters->total[RX_FLOW_NEW_UNSEEN]++;
	} else if (!to_existing(s, seat, slot_id)) {
		note_seen(s, slot_id, seat);
		return SK_PASS;
	}
	/* of three applications, none has the last two slots */
	app = slot_id / slots_per_app(s->group);
	return to_new(s, app < s->group->max_apps ? app : 0);
}

#endif
