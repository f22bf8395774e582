/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The base of dissectors. A dissector's body.h defines
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

/* The results of dissect(): SK_PASS, or that the packet begins a flow. */
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
		OPAQUE(wrap);
		index += count & wrap;
		/* or clang 18 counts down from `count`, and the verifier sees no end of that */
		OPAQUE(i);
		if (i >= count)
			break;
		if (!select_entry(s, slot->live_entries[index & (SLOT_SOCKETS - 1)], slot_id, path))
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

/* The stages' state of the packet's group; NULL: there is none, and nothing to continue. */
static __always_inline struct steer_scratch *scratch_for(const struct steering *s, u32 group_id)
{
	u64 zero = array_key(0);
	struct steer_scratch *scratch = bpf_map_lookup_elem(MAP(STEER_SCRATCH), &zero);

	if (scratch) {
		scratch->group_id = group_id;
		scratch->epoch = s->group->epoch;
	}
	return scratch;
}

/*
 * A socket of the working generation; while it has none, one of another's, which a stage finds:
 * it is rare, and the verifier would follow the search in each group's program.
 */
static __always_inline void dispatch(struct steering *s, u32 group_id)
{
	struct steer_scratch *scratch;

	s->counters->total[RX_NEW_FLOW_TOTAL]++;
	if (!to_generation(s, s->working, DISPATCH_TRIES, PATH_NEW)) {
		s->counters->total[RX_NEW_FLOW_WORKING_GEN_DISPATCH_OK]++;
		return;
	}
	s->counters->total[RX_NEW_FLOW_WORKING_GEN_DISPATCH_ERROR]++;
	scratch = scratch_for(s, group_id);
	if (!scratch)
		return;
	scratch->working = s->working;
	tail_call(s->md, MAP(STEER_STAGES), STAGE_ANOTHER);
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
		dispatch(s, group_id);
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
	OPAQUE(slot);
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
