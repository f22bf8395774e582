// SPDX-License-Identifier: GPL-2.0-or-later
/* Copyright the udpgrm authors */
#include "enrolled.h"
#include "unlist.h"

/* The generation of a socket that has asked for none, of a process that has by now. */
static __always_inline void find_process(struct bpf_sock_addr *ctx, struct bpf_sock *sk,
					 struct socket_request *request)
{
	struct group_key key = {};
	struct group *group;
	u32 group_id = 0;

	group_key_of(ctx, sk, request, &key);
	group = group_covering(&key, &group_id);
	if (group)
		find_generation(group_id, group->epoch, may_join(request, group),
				&request->process);
}

/*
 * State for a socket that connects and has none: it shares the address by SO_REUSEADDR alone, as
 * servers of DTLS do for each peer, or was bound before the hooks. No option can put it into a
 * group, but while it is connected it is a flow. NULL: there is no group there.
 */
static __always_inline struct socket_request *note_ungrouped(struct bpf_sock_addr *ctx,
							     struct bpf_sock *sk)
{
	struct socket_request request = { .generation = GENERATION_NONE, .ungrouped = 1 };
	struct group_key key = {};
	u32 group_id = 0;

	group_key_of(ctx, sk, NULL, &key);
	request.ifindex = key.ifindex;
	request.wildcard = any_address_of(&key);
	if (!group_covering(&key, &group_id))
		return NULL;
	request.cookie = socket_cookie(ctx);
	request.uid = field_of(sk, CONST(SK_UID_OFFSET));
	return bpf_sk_storage_get(MAP(SOCKET_REQUEST), sk, &request, BPF_SK_STORAGE_GET_F_CREATE);
}

enum {
	REUSE_WITHIN = 24, /* the first bytes of struct sock, which have the bits */
};

/* SO_REUSEADDR and SO_REUSEPORT, in one read: bpf_getsockopt takes longer, once for each. */
static __always_inline u32 reuse_bits(struct bpf_sock *sk)
{
	u8 begin[REUSE_WITHIN] = {};

	read_kernel(begin, sizeof(begin), sk);
	return begin[CONST(SK_REUSE_OFFSET)];
}

/*
 * From Linux 6.13 on, connect(2) takes a socket out of its reuseport group even if it was bound
 * to a particular address, but leaves it SO_REUSEPORT. The next socket to bind finds it first (of
 * IPv6, if no older one is left) and makes a second group with it, which gets all new flows, or
 * none. Without SO_REUSEPORT it is passed by; with SO_REUSEADDR on both, it is no conflict. The
 * packets of others that come before connect(2) has its way, for about a microsecond, are the
 * socket's: as they may be anyhow, from bind(2) on, where nothing steers. Where connect(2) fails,
 * the daemon sets it right.
 */
static __always_inline void part(struct bpf_sock_addr *ctx, struct bpf_sock *sk,
				 struct socket_request *request)
{
	u32 group_id = (request->registered ? request->group : request->process.group) - 1;
	u32 epoch = request->registered ? request->epoch : request->process.epoch;
	struct group *group = live_group(group_id, epoch);
	u32 bits;
	bool had;

	/* at any address: the socket is at one of its own, where no other of the group is */
	if (!group || is_wildcard(&group->key))
		return;
	bits = reuse_bits(sk);
	if (!(bits & REUSES_PORT))
		return;
	had = bits & REUSES_ADDRESS;
	if (!had && !set_option(ctx, SO_REUSEADDR, 1))
		return;
	if (!group->parted) /* a line that all CPUs read */
		group->parted = 1;
	request->parted = had ? PARTED_OF_ONE : PARTED_OF_BOTH;
	set_option(ctx, SO_REUSEPORT, 0);
	request_recheck(group, group_id, request);
}

/* A socket that asked for a generation gives its array entry back. */
static __always_inline void give_back(struct bpf_sock *sk, struct socket_request *request)
{
	/* the daemon registers no socket that has asked for nothing */
	struct registration *registration = request->group ? registration_of(sk) : NULL;
	struct group *group = registration ? unlist_registration(registration) : NULL;
	struct message message = { .flags = MESSAGE_CONNECT };

	if (!group)
		return;
	message.group_id = registration->group - 1;
	message.epoch = group->epoch;
	notify(&message, request);
}

/*
 * connect4, connect6: a socket that connects takes packets of one peer only. It gets no new flow
 * any more, and gives its array entry back; the daemon looks whether it has connected. Refuses
 * nothing. Costs bound UDP sockets one lookup in an array; at ports of groups, those without state
 * a storage lookup and up to three for a group.
 */
int hook_connect(struct bpf_sock_addr *ctx)
{
	struct bpf_sock *sk = ctx->sk;
	struct socket_request *request;

	if (!sk || ctx->protocol != IPPROTO_UDP || !sk->src_port || !port_has_groups(sk->src_port))
		return 1;
	request = request_of(sk);
	if (request)
		give_back(sk, request);
	else
		request = note_ungrouped(ctx, sk);
	if (!request)
		return 1;
	if (!request->registered && !request->process.group)
		find_process(ctx, sk, request);
	if (CONST(CONNECT_PARTS) && !request->wildcard)
		part(ctx, sk, request);
	return 1;
}
