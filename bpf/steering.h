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

/* Sockets that closed stay listed until the daemon has looked: try past them. */
enum { DISPATCH_TRIES = 16 };

struct steering {
	struct sk_reuseport_md *md;
	struct group *group;
	struct counters *counters;
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

	error = bpf_sk_select_reuseport(s->md, MAP(OWN_SOCKETS), &seat, 0);
	if (error)
		return error;
	generation = &s->counters->generation[slot & (GENERATION_SLOTS - 1)];
	generation->packets_in++;
	generation->last_in = bpf_jiffies64();
	return 0;
}

/* A socket of the application's working generation, chosen by the packet's hash. */
static __always_inline int to_new(struct steering *s, u32 app)
{
	u32 slot_id = s->group->working_slot[app & (MAX_APPS - 1)];
	u32 i, count, start;
	struct slot *slot;

	s->counters->total[RX_NEW_FLOW_TOTAL]++;
	slot = bpf_map_lookup_elem(MAP(OWN_SLOTS), &slot_id);
	if (slot && slot->live) {
		count = slot->live;
		start = (u64)s->md->hash * count >> 32;
#pragma clang loop unroll(disable)
		for (i = 0; i < DISPATCH_TRIES; i++) {
			u32 index = start + i;

			if (i >= count)
				break;
			if (index >= count)
				index -= count;
			if (!select_seat(s, slot->live_seat[index & (SLOT_SOCKETS - 1)], slot_id)) {
				s->counters->total[RX_NEW_FLOW_WORKING_GEN_DISPATCH_OK]++;
				return SK_PASS;
			}
		}
	}
	s->counters->total[RX_NEW_FLOW_WORKING_GEN_DISPATCH_ERROR]++;
	return SK_PASS;
}

/*
 * The socket of a known flow; a new flow when it cannot be had. Returns the
 * error of the selection, 0 when the flow's own socket was chosen.
 */
static __always_inline int to_existing(struct steering *s, u32 seat, u32 slot)
{
	int error = select_seat(s, seat, slot);

	if (!error)
		s->counters->total[RX_FLOW_OK]++;
	else if (error == -ENOENT)
		s->counters->total[RX_FLOW_OTHER_ERROR]++;
	else
		s->counters->total[RX_FLOW_RG_CONFLICT]++;
	return error;
}

/* The socket that a udpgrm cookie names; its application's new flow if there is none. */
static __always_inline int to_cookie(struct steering *s, u32 cookie)
{
	u32 slot_id = cookie & (GENERATION_SLOTS - 1), index = cookie >> 8 & 0xff;
	struct slot *slot;

	if (make_cookie(slot_id, index) != cookie) {
		s->counters->total[RX_FLOW_NEW_UNSEEN]++;
		s->counters->total[RX_FLOW_NEW_BAD_COOKIE]++;
		return to_new(s, 0);
	}
	slot = bpf_map_lookup_elem(MAP(OWN_SLOTS), &slot_id);
	if (!slot)
		return pass_unread(s, RX_INTERNAL_STATE_ERROR);
	if (!to_existing(s, slot->seat[index], slot_id))
		return SK_PASS;
	return to_new(s, slot_id / slots_per_app(s->group));
}

#endif
