/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * State for sockets that bind with SO_REUSEPORT set, by their server or here. Here because the
 * socket cookie is not to be had in the sockopt hooks.
 */
#ifndef UDPGRM_BIND_H
#define UDPGRM_BIND_H

#include "notify.h"
#include "sharing.h"

/* Whether sockets that connect(2) has parted from their group are at the address. */
static __always_inline bool has_parted(const struct group_key *key, u32 uid)
{
	struct group *group;
	u32 group_id = 0;

	group = group_at(key, &group_id);
	return group && group->parted && group->uid == uid;
}

/* Give state to a socket that is about to be bound; key: its address alone. Allows every bind. */
static __always_inline int bind_at(struct bpf_sock_addr *ctx, struct group_key *key)
{
	struct socket_request request = { .generation = GENERATION_NONE }, *earlier;
	struct bpf_sock *sk = ctx->sk;
	int reuseport = 0;

	/* a second bind(2) fails */
	if (!sk || !has_groups(ctx->protocol) || sk->src_port)
		return 1;
	if (bpf_getsockopt(ctx, SOL_SOCKET, SO_REUSEPORT, &reuseport, sizeof(reuseport)))
		return 1;
	key->protocol = key_protocol(ctx->protocol);
	/* of an attempt that failed, or of a port that it has left */
	earlier = request_of(sk);
	if (earlier && earlier->lent)
		set_option(ctx, SO_REUSEADDR, 0);
	bpf_sk_storage_delete(MAP(SOCKET_REQUEST), sk);
	if (!share_address(ctx, key, reuseport))
		return 1;
	request.cookie = socket_cookie(ctx);
	request.uid = field_of(sk, CONST(SK_UID_OFFSET));
	key->netns = bpf_get_netns_cookie(ctx);
	key->ifindex = sk->bound_dev_if;
	/* it would conflict with those; the daemon takes this back when it registers the socket */
	if (CONST(CONNECT_PARTS) && has_parted(key, request.uid) && !has_option(ctx, SO_REUSEADDR))
		request.lent = set_option(ctx, SO_REUSEADDR, 1);
	bpf_sk_storage_get(MAP(SOCKET_REQUEST), sk, &request, BPF_SK_STORAGE_GET_F_CREATE);
	return 1;
}

#endif
