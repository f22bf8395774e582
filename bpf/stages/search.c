// SPDX-License-Identifier: GPL-2.0-or-later
// Copyright the udpgrm authors
#include "stages/resume.h"
#include "dissectors/flow/found.h"

/* Continues a steering program whose first table has no fresh entry of the packet's flow. */
int steer_search(struct sk_reuseport_md *md)
{
	struct steering s = { .md = md };
	const struct steer_scratch *scratch = resume(&s);
	struct remote remote = {};
	u32 first, slot, stale;
	u64 now = bpf_jiffies64();
	struct flow *flow;

	if (!scratch)
		return SK_PASS;
	WRITE_WHOLE(remote);
	remote.key = scratch->key;
	first = scratch->first & (GENERATION_SLOTS - 1);
	stale = scratch->stale;
	flow = find_in_others(s.group, first, &remote.key, now - s.group->timeout_jiffies, &slot,
			      &stale);
	if (!flow)
		return finish(&s, scratch->group_id, to_unseen(&s, stale));
	*hint_of(&s) = slot | 0x80;
	return finish(&s, scratch->group_id, to_flow(&s, flow, slot));
}
