/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * State for UDP sockets that bind with SO_REUSEPORT set. Here because the socket
 * cookie is not to be had in the sockopt hooks.
 */
#ifndef UDPGRM_BIND_H
#define UDPGRM_BIND_H

#include "notify.h"

/* The state of a socket that is about to be bound; false: it gets none. */
static __always_inline bool new_request(struct bpf_sock_addr *ctx, struct socket_request *request)
{
	struct bpf_sock *sk = ctx->sk;
	int reuseport = 0;

	/* a second bind(2) fails */
	if (!sk || ctx->protocol != IPPROTO_UDP || sk->src_port)
		return false;
	if (bpf_getsockopt(ctx, SOL_SOCKET, SO_REUSEPORT, &reuseport, sizeof(reuseport)))
		return false;
	/* of an attempt that failed, or of a port that it has left */
	bpf_sk_storage_delete(MAP(SOCKET_REQUEST), sk);
	if (!reuseport)
		return false;
	request->generation = GENERATION_NONE;
	request->cookie = socket_cookie(ctx);
	request->uid = field_of(sk, CONST(SK_UID_OFFSET));
	return true;
}

static __always_inline void store_request(struct bpf_sock_addr *ctx, struct socket_request *request)
{
	bpf_sk_storage_get(MAP(SOCKET_REQUEST), ctx->sk, request, BPF_SK_STORAGE_GET_F_CREATE);
}

#endif
