/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Evidence about single peers, for probes: which generation got their packets
 * and on which path, which one replied. A group without probe records pays one
 * test of a word that is read anyway.
 */
#ifndef UDPGRM_PROBES_H
#define UDPGRM_PROBES_H

#include "kernel.h"

static __always_inline struct probe *find_probe(const struct group *group, u32 group_id,
						const struct flow_key *remote)
{
	struct {
		struct probe_key key;
		u32 fill; /* as in struct remote */
	} wanted = {};
	struct probe *probe;

	WRITE_WHOLE(wanted);
	wanted.key.group_id = group_id;
	wanted.key.epoch = group->epoch;
	wanted.key.remote = *remote;
	probe = bpf_map_lookup_elem(MAP(PROBES), &wanted.key);
	if (!probe || (s64)(bpf_jiffies64() - probe->expires) > 0)
		return NULL;
	return probe;
}

/* Sends can be preempted on their CPU, hence atomic. */
static __always_inline void note_reply(const struct group *group, u32 group_id, u32 slot,
				       const struct flow_key *remote, u64 owner)
{
	struct probe *probe = find_probe(group, group_id, remote);

	if (!probe)
		return;
	probe->replied = slot + 1;
	probe->replied_by = owner;
	__sync_fetch_and_add(&probe->packets_out, 1);
}

#endif
