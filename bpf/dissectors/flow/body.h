/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * flow: a packet belongs to the socket that last sent to its source address
 * and port. One table lookup when nothing drains; else the table to look in
 * first is the last one that had a flow of this hash.
 */

static __always_inline int dissect(struct steering *s)
{
	struct remote remote = {};
	u32 slot, working, first, stale;
	struct flow *flow;
	u8 *hint;

	if (read_remote(s->md, &remote))
		return pass_unread(s, RX_PACKET_TOO_SHORT_ERROR);
	s->counters->total[RX_DISSECTED_OK_TOTAL]++;
	working = s->group->working_slot[0] & (GENERATION_SLOTS - 1);
	hint = &s->counters->hint[s->md->hash & (HINTS - 1)];
	first = working;
	if (*hint && s->group->table_mask & ~(1ULL << working))
		first = *hint & (GENERATION_SLOTS - 1);
	flow = find_flow(s->group, first, &remote.key, bpf_jiffies64(), &slot, &stale);
	if (flow && slot != first)
		*hint = slot | 0x80;
	if (!flow) {
		s->counters->total[RX_FLOW_NEW_UNSEEN]++;
		if (stale)
			s->counters->total[RX_FLOW_NEW_HAD_EXPIRED]++;
		return to_new(s, 0);
	}
	if (flow->array_entry == ENTRY_NONE) {
		/* made before the daemon had entered the socket that sent */
		u64 owner = flow->owner;
		struct entry_ref *ref = bpf_map_lookup_elem(MAP(ENTRIES), &owner);

		if (ref)
			flow->array_entry = ref->array_entry;
	}
	switch (to_existing(s, flow->array_entry, slot)) {
	case 0:
		return SK_PASS;
	case -ENOENT:
		if (flow->array_entry != ENTRY_NONE)
			flow->flags |= FLOW_ORPHAN;
	}
	return to_new(s, 0);
}
