/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright the udpgrm authors */
/*
 * SO_REUSEPORT for servers that do not set it: on sockets of a service's instances, at the
 * addresses that its definition names. The kernel's rule that sockets of one user share an
 * address stays, and a process elsewhere still gets EADDRINUSE. So does an instance at other
 * addresses of the one that serves, where nothing would steer, whatever it sets itself.
 */
#ifndef UDPGRM_SHARING_H
#define UDPGRM_SHARING_H

#include "notify.h"

/*
 * Set SO_REUSEPORT if the caller is of a service that shares this address, clear it if the
 * address is reserved; key: of no device; shares: whether it is set. Returns whether it is then.
 */
static __always_inline bool share_address(struct bpf_sock_addr *ctx, const struct group_key *where,
					  bool shares)
{
	u64 cgroup = bpf_get_current_cgroup_id();
	struct shared_key key = { .address = *where };
	u64 *service = bpf_map_lookup_elem(MAP(SERVICE_CGROUPS), &cgroup);
	u32 *use;

	if (!service)
		return shares;
	key.service = *service;
	use = bpf_map_lookup_elem(MAP(SHARED_ADDRESSES), &key);
	if (use && *use == ADDRESS_SHARED)
		return shares || set_option(ctx, SO_REUSEPORT, 1);
	if (!use) { /* a socket there would get the packets of one at any address */
		make_any(&key.address);
		use = bpf_map_lookup_elem(MAP(SHARED_ADDRESSES), &key);
	}
	if (!use || *use == ADDRESS_SHARED || *use == ADDRESS_STEERED)
		return shares;
	*use = ADDRESS_TRIED;
	set_option(ctx, SO_REUSEPORT, 0);
	set_option(ctx, SO_REUSEADDR, 0);
	return false;
}

#endif
