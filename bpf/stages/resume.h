/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright the udpgrm authors */
/*
 * Shared by the programs that continue those of the groups, reached by a tail call and
 * loaded once for all: the group's maps come from the maps of maps.
 */
#ifndef UDPGRM_RESUME_H
#define UDPGRM_RESUME_H

#include "steering.h"

/* Fill in the group's record, counters and maps; false: it was deleted meanwhile. */
static __always_inline bool resume_group(struct steering *s, u32 group_id, u32 epoch)
{
	u64 zero = array_key(0);
	void *counters = bpf_map_lookup_elem(MAP(COUNTERS), &group_id);

	if (!counters)
		return false;
	s->counters = bpf_map_lookup_elem(counters, &zero);
	if (!s->counters)
		return false;
	s->slots = bpf_map_lookup_elem(MAP(SLOTS), &group_id);
	s->sockets = bpf_map_lookup_elem(MAP(SOCKMAPS), &group_id);
	if (!s->sockets)
		s->sockets = bpf_map_lookup_elem(MAP(SOCKETS), &group_id);
	s->group = live_group(group_id, epoch);
	if (s->group && s->slots && s->sockets)
		return true;
	s->counters->total[RX_INTERNAL_STATE_ERROR]++;
	return false;
}

/* Resume what a steering program has handed on; NULL: its group was deleted meanwhile. */
static __always_inline struct steer_scratch *resume(struct steering *s)
{
	u64 zero = array_key(0);
	struct steer_scratch *scratch = bpf_map_lookup_elem(MAP(STEER_SCRATCH), &zero);

	return scratch && resume_group(s, scratch->group_id, scratch->epoch) ? scratch : NULL;
}

#endif
