// SPDX-License-Identifier: GPL-2.0-or-later
// Copyright the udpgrm authors
#include "dissectors/bespoke/connection.h"
#include "dissectors/bespoke/scratch.h"
#include "stages/resume.h"

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
	int verdict;

	scratch = bpf_map_lookup_elem(MAP(QUIC_SCRATCH), &zero);
	if (!scratch)
		return SK_PASS;
	group_id = scratch->group_id;
	if (!resume_group(&s, group_id, scratch->epoch))
		return SK_PASS;
	if (read_connection(md, &found))
		return pass_unread(&s, RX_INTERNAL_STATE_ERROR);
	if (unlikely(s.group->probes) && to_probed(&s, group_id))
		return finish(&s, group_id, SK_PASS);
	s.counters->total[RX_DISSECTED_OK_TOTAL]++;
	verdict = scratch->is_garbled ? to_connection(&s, &found) : to_new_of(&s, scratch->app);
	return finish(&s, group_id, verdict);
}
