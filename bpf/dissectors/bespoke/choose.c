// SPDX-License-Identifier: GPL-2.0-or-later
// Copyright the udpgrm authors
#include "dissectors/bespoke/connection.h"
#include "dissectors/bespoke/scratch.h"

/*
 * The last program for an Initial packet: gives it to a socket of the group
 * that it was for. What is under other keys than those of its connection ID,
 * as all that a client sends after the server's first answer, goes where its
 * connection ID says.
 */
int quic_choose(struct sk_reuseport_md *md)
{
	struct steering s = { .md = md };
	struct connection found = {};
	struct quic_scratch *scratch;
	u32 group_id, zero = 0;
	void *counters;
	int verdict;

	scratch = bpf_map_lookup_elem(MAP(QUIC_SCRATCH), &zero);
	if (!scratch)
		return SK_PASS;
	group_id = scratch->group_id;
	counters = bpf_map_lookup_elem(MAP(COUNTERS), &group_id);
	if (!counters)
		return SK_PASS;
	s.counters = bpf_map_lookup_elem(counters, &zero);
	if (!s.counters)
		return SK_PASS;
	s.slots = bpf_map_lookup_elem(MAP(SLOTS), &group_id);
	s.sockets = bpf_map_lookup_elem(MAP(SOCKMAPS), &group_id);
	if (!s.sockets)
		s.sockets = bpf_map_lookup_elem(MAP(SOCKETS), &group_id);
	s.group = live_group(group_id, scratch->epoch);
	if (!s.group)
		return pass_unread(&s, RX_INTERNAL_STATE_ERROR);
	if (!s.slots || !s.sockets || read_connection(md, &found))
		return pass_unread(&s, RX_INTERNAL_STATE_ERROR);
	if (unlikely(s.group->probes) && to_probed(&s, group_id))
		return finish(&s, group_id, SK_PASS);
	s.counters->total[RX_DISSECTED_OK_TOTAL]++;
	verdict = scratch->is_garbled ? to_connection(&s, &found) : to_new_of(&s, scratch->app);
	return finish(&s, group_id, verdict);
}
