/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Options of others that steering depends on: refused to sockets of a group. */
#ifndef UDPGRM_GUARD_H
#define UDPGRM_GUARD_H

#include "flows.h"
#include "notify.h"
#include "value.h"

/* The group of a socket's address, whether or not the socket is enrolled. */
static __always_inline struct group *group_around(struct bpf_sockopt *ctx, struct bpf_sock *sk,
						  const struct socket_request *request,
						  u32 *group_id)
{
	struct group_key key = {};
	struct group *group = NULL;

	if (request && request->group) {
		*group_id = request->group - 1;
		group = live_group(*group_id, request->epoch);
	}
	if (group)
		return group;
	group_key_of(ctx, sk, request, &key);
	return group_at(&key, group_id);
}

/*
 * A train goes to one socket, and may hold flows of several where they are distinguished by
 * content. UDP_GRO fails there as on a kernel that has none. What was set before the daemon turns
 * off.
 */
static __always_inline int guard_trains(struct bpf_sockopt *ctx)
{
	struct bpf_sock *sk = ctx->sk;
	struct group *group;
	union part first;
	u32 group_id = 0;

	if (!sk || !is_steered(sk) || !sk->src_port)
		return pass(ctx);
	read_first(ctx, &first);
	if (!first.words[0])
		return pass(ctx);
	group = group_around(ctx, sk, request_of(sk), &group_id);
	return group && reads_payload(group) ? refuse(ENOPROTOOPT) : pass(ctx);
}

/*
 * A reuseport program is that of all sockets of the address: a server's own
 * would take the place of ours, for the working instance as well, and stay
 * after it. Refused with EPERM, as SO_LOCK_FILTER does, for every socket of a
 * group's address, enrolled or not. The daemon calls with 12 bytes, which end
 * in a number that only it knows; the kernel gets the 4 that it expects.
 */
static __always_inline int guard_program(struct bpf_sockopt *ctx)
{
	struct message message = { .flags = MESSAGE_PROGRAM, .generation = ctx->optname };
	struct socket_request *request, unknown = {};
	struct bpf_sock *sk = ctx->sk;
	struct group *group;
	u64 token = CONST(ATTACH_TOKEN);
	union part first;
	u32 group_id = 0;

	if (!sk || !is_steered(sk) || !sk->src_port)
		return pass(ctx);
	read_first(ctx, &first);
	if (ctx->optname == SO_ATTACH_REUSEPORT_EBPF && first.words[1] == (u32)token &&
	    first.words[2] == token >> 32) {
		ctx->optlen = 4;
		return 1;
	}
	request = request_of(sk);
	group = group_around(ctx, sk, request, &group_id);
	if (!group)
		return pass(ctx);
	message.group_id = group_id;
	message.epoch = group->epoch;
	notify(&message, request ?: &unknown);
	return refuse(EPERM);
}

#endif
