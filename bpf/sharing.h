/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright the udpgrm authors */
/*
 * SO_REUSEPORT for servers that do not set it: on sockets of a service's instances, at the
 * addresses that its definition names. The kernel's rule that sockets of one user share an
 * address stays, and a process elsewhere still gets EADDRINUSE.
 */
#ifndef UDPGRM_SHARING_H
#define UDPGRM_SHARING_H

#include "kernel.h"

/* Set SO_REUSEPORT if the caller is of a service that shares this address; key: of no device. */
static __always_inline bool share_address(struct bpf_sock_addr *ctx, const struct group_key *where)
{
	u64 cgroup = bpf_get_current_cgroup_id();
	struct shared_key key = { .address = *where };
	u64 *service = bpf_map_lookup_elem(MAP(SERVICE_CGROUPS), &cgroup);
	int one = 1;

	if (!service)
		return false;
	key.service = *service;
	if (!bpf_map_lookup_elem(MAP(SHARED_ADDRESSES), &key))
		return false;
	return !bpf_setsockopt(ctx, SOL_SOCKET, SO_REUSEPORT, &one, sizeof(one));
}

#endif
