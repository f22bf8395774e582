// SPDX-License-Identifier: GPL-2.0-or-later
#include "account.h"
#include "enrolled.h"
#include "options.h"

/*
 * 1 when a < b, for numbers below 2^31. Without a branch, which the compiler
 * would make of a comparison: each doubles what the verifier has to follow.
 */
static __always_inline u32 is_less(u32 a, u32 b)
{
	u32 difference = a - b;

	asm volatile("" : "+r"(difference));
	return difference >> 31;
}

/* Every name ends, and its application is one of the group's. */
static __always_inline bool is_valid_bespoke(const struct dissector *d)
{
	u32 apps = d->max_apps ?: 1, wrong = 0, i;

	if (d->digest != DIGEST_QUIC_SNI || d->max_apps > MAX_APPS || d->sni_count > MAX_SNI)
		return false;
#pragma clang loop unroll(full)
	for (i = 0; i < MAX_SNI; i++) {
		u32 last = (u8)d->sni[i].hostname[HOSTNAME_BYTES - 1];

		wrong |= is_less(i, d->sni_count) &
			 (is_less(0, last) | is_less(apps - 1, d->sni[i].app));
	}
	return !wrong;
}

static __always_inline bool is_valid(const struct dissector *d)
{
	u32 type = d->type & ~DISSECTOR_VERBOSE;

	if (type == DISSECTOR_BESPOKE)
		return is_valid_bespoke(d);
	if (d->digest)
		return false;
	if (type == DISSECTOR_NAMED)
		return d->max_apps <= MAX_APPS && d->name[0];
	if (type == DISSECTOR_CBPF)
		return d->max_apps <= MAX_APPS && d->filter_len && d->filter_len <= MAX_FILTER;
	if (type != DISSECTOR_FLOW && type != DISSECTOR_NOOP)
		return false;
	return !d->max_apps && !d->filter_len;
}

/* A prepared group's id; other than 0: there is none. Root has some of its own. */
static __always_inline long take_prepared(u32 uid, u32 *id)
{
	if (!uid && !bpf_map_pop_elem(MAP(ROOT_GROUPS), id))
		return 0;
	return bpf_map_pop_elem(MAP(FREE_GROUPS), id);
}

static __always_inline void give_back(u32 id)
{
	if (is_reserved(id))
		bpf_map_push_elem(MAP(ROOT_GROUPS), &id, 0);
	else
		bpf_map_push_elem(MAP(FREE_GROUPS), &id, 0);
}

/*
 * Make a prepared group the group of this address, with the dissector that the
 * operator has set for it, else that of the value being set, or FLOW when
 * another option is. NULL: refused with *error.
 */
static __always_inline struct group *create_group(struct bpf_sockopt *ctx, struct group_key *key,
						  const struct socket_request *request, u32 *id,
						  int *error)
{
	bool given = ctx->optname == UDP_GRM_DISSECTOR;
	struct group_key address = *key;
	struct dissector *dissector;
	u32 *words, *policy;
	struct group *group;
	struct user *user;
	u32 i;

	*error = EBADF;
	user = user_of(request->uid);
	if (!user || over(request->uid, user->groups_made, user->groups_gone, CONST(USER_GROUPS)))
		return NULL;
	address.netns = 0;
	address.ifindex = 0;
	policy = bpf_map_lookup_elem(MAP(POLICIES), &address);
	if (take_prepared(request->uid, id))
		return NULL;
	group = bpf_map_lookup_elem(MAP(GROUPS), id);
	dissector = bpf_map_lookup_elem(MAP(DISSECTORS), id);
	if (!group || !dissector)
		return NULL;
	words = (u32 *)dissector;
#pragma clang loop unroll(disable)
	for (i = 0; i < sizeof(*dissector) / 4; i++)
		words[i] = policy ? policy[i] : given ? word_at(ctx, i) : 0;
	if (!is_valid(dissector)) {
		*error = EPERM;
		give_back(*id);
		return NULL;
	}

	group->key = *key;
	group->type = dissector->type;
	group->flow_timeout_s = dissector->flow_timeout_s ?: DEFAULT_FLOW_TIMEOUT_S;
	group->timeout_jiffies = group->flow_timeout_s * CONST(HZ);
	group->max_apps = dissector->max_apps ?: 1;
	group->flows = policy ? ((struct policy *)policy)->flows : 0;
	group->uid = request->uid;
#pragma clang loop unroll(full)
	for (i = 0; i < MAX_APPS; i++)
		group->working_slot[i] = slot_of(group, i, 0);
	group->state = GROUP_LIVE;
	if (bpf_map_update_elem(MAP(GROUP_INDEX), key, id, BPF_NOEXIST)) {
		/* another socket of the address came first, or the index is full */
		group->state = GROUP_PREPARED;
		give_back(*id);
		return group_at(key, id);
	}
	__sync_fetch_and_add(&user->groups_made, 1);
	return group;
}

/* Of sockets that are no more: the daemon takes back what it had. */
static __always_inline void leave(struct group *group, struct group_key *key)
{
	bpf_map_delete_elem(MAP(GROUP_INDEX), key);
	group->state = GROUP_DELETED;
}

/* Once set, a dissector stays; only its verbose flag may change. */
static __always_inline int set_dissector(struct bpf_sockopt *ctx, struct group *group, u32 id)
{
	u32 *stored = bpf_map_lookup_elem(MAP(DISSECTORS), &id);
	u32 i;

	if (!stored)
		return EBADF;
	if ((word_at(ctx, 0) ^ stored[0]) & ~DISSECTOR_VERBOSE)
		return EPERM;
#pragma clang loop unroll(disable)
	for (i = 1; i < sizeof(struct dissector) / 4; i++) {
		if (word_at(ctx, i) != stored[i])
			return EPERM;
	}
	stored[0] = word_at(ctx, 0);
	group->type = stored[0];
	return 0;
}

static __always_inline int assure_flow(struct bpf_sockopt *ctx, struct bpf_sock *sk,
				       struct group *group, u32 id, struct socket_request *request)
{
	u32 head = word_at(ctx, 0);
	struct flow_key key = { .port = head >> 16 };
	struct socket_place *place = place_of(sk);
	u32 slot = slot_of(group, request->app, request->generation);
	struct counters *counters = counters_of(id);
	u16 seat = SEAT_NONE;
	u32 stale;
	u32 result;

	if (!has_flow_table(group))
		return EPERM;
	if ((head & 0xffff) == AF_INET) {
		key.addr[2] = V4_MAPPED;
		key.addr[3] = word_at(ctx, 1);
	} else if ((head & 0xffff) == AF_INET6 && sk->family == AF_INET6) {
		key.addr[0] = word_at(ctx, 2);
		key.addr[1] = word_at(ctx, 3);
		key.addr[2] = word_at(ctx, 4);
		key.addr[3] = word_at(ctx, 5);
	} else {
		return EPERM;
	}
	if (place && place->group == id + 1 && place->epoch == group->epoch) {
		seat = place->seat;
		if (place->slot < GENERATION_SLOTS)
			slot = place->slot;
	}
	ensure_table(group, id, slot);
	result = refresh_flow(group, slot, &key, request->cookie, seat, &stale);
	if (counters)
		count_flow(counters, result, stale);
	if (result == TX_FLOW_UPDATE_CONFLICT)
		return EEXIST;
	return result == TX_FLOW_CREATE_ERROR ? EAGAIN : 0;
}

/* The group of a socket's address, whether or not the socket is enrolled. */
static __always_inline struct group *group_around(struct bpf_sockopt *ctx, struct bpf_sock *sk,
						  const struct socket_request *request, u32 *id)
{
	struct group_key key = {};
	struct group *group = NULL;

	if (request && request->group) {
		*id = request->group - 1;
		group = live_group(*id, request->epoch);
	}
	if (group)
		return group;
	group_key_of(ctx, sk, request, &key);
	return group_at(&key, id);
}

/*
 * A train goes to one socket, and may hold flows of several where they are told apart by content.
 * UDP_GRO fails there as on a kernel that has none. What was set before the daemon turns off.
 */
static __always_inline int guard_trains(struct bpf_sockopt *ctx)
{
	struct bpf_sock *sk = ctx->sk;
	struct group *group;
	u32 id = 0;

	if (!sk || !is_udp(sk) || !sk->src_port || !word_at(ctx, 0))
		return pass(ctx);
	group = group_around(ctx, sk, request_of(sk), &id);
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
	u32 id = 0;

	if (!sk || !is_udp(sk) || !sk->src_port)
		return pass(ctx);
	if (ctx->optname == SO_ATTACH_REUSEPORT_EBPF && word_at(ctx, 1) == (u32)token &&
	    word_at(ctx, 2) == token >> 32) {
		ctx->optlen = 4;
		return 1;
	}
	request = request_of(sk);
	group = group_around(ctx, sk, request, &id);
	if (!group)
		return pass(ctx);
	message.group = id;
	message.epoch = group->epoch;
	notify(&message, request ?: &unknown);
	return refuse(EPERM);
}

/*
 * setsockopt: carries out options 200..204 on the caller's own socket and on
 * the group it is bound to, with no daemon needed; what only user space can
 * do (a socket's index) is asked of it. Keeps a group's program from being
 * replaced, and trains out of groups that tell flows apart by content. Any other option costs
 * two comparisons, of SOL_SOCKET five.
 */
int hook_setsockopt(struct bpf_sockopt *ctx)
{
	struct socket_request *request;
	struct message message = {};
	struct group_key key = {};
	struct group *group = NULL;
	struct bpf_sock *sk;
	u32 id = 0, value, app, before;
	int error = 0;

	if (asks_for_trains(ctx))
		return guard_trains(ctx);
	if (!is_ours(ctx))
		return changes_program(ctx) ? guard_program(ctx) : pass(ctx);
	sk = ctx->sk;
	if (!sk || !is_udp(sk) || ctx->optlen == -1 || ctx_retval())
		return pass(ctx);
	request = request_of(sk);
	if (!request || !sk->src_port)
		return refuse(EBADF);
	value = word_at(ctx, 0);

	if (request->group) {
		id = request->group - 1;
		group = live_group(id, request->epoch);
		if (group && group->key.port != htons(sk->src_port))
			group = NULL; /* it had a port of the kernel's choice, and gave it back */
		if (!group) {
			/* forgotten meanwhile: the socket starts anew */
			request->group = 0;
			request->generation = GENERATION_NONE;
			request->registered = 0;
			request->app = 0;
		}
	}
	if (!group) {
		group_key_of(ctx, sk, request, &key);
		group = group_at(&key, &id);
		if (group && !request->uid && group->uid) {
			leave(group, &key);
			group = NULL;
		}
		if (!group)
			group = create_group(ctx, &key, request, &id, &error);
		if (!group)
			return refuse(error);
		if (!may_join(request, group)) {
			/* only the daemon can tell whether all its sockets are gone */
			message.group = id;
			message.epoch = group->epoch;
			notify(&message, request);
			return refuse(EBADF);
		}
		error = 0;
		message.flags = MESSAGE_JOIN;
	}
	app = request->app & (MAX_APPS - 1);
	if (app >= group->max_apps) {
		/* chosen for another group, which it could not join in the end */
		app = 0;
		request->app = 0;
	}

	switch (ctx->optname) {
	case UDP_GRM_WORKING_GEN:
		if (reads_payload(group))
			ensure_table(group, id, group->working_slot[app]);
		group->working[app] = value;
		group->working_slot[app] = slot_of(group, app, value);
		message.flags |= MESSAGE_WORKING_GEN;
		break;
	case UDP_GRM_SOCKET_GEN:
		message.flags |= MESSAGE_REGISTER;
		break;
	case UDP_GRM_DISSECTOR:
		error = set_dissector(ctx, group, id);
		break;
	case UDP_GRM_FLOW_ASSURE:
		error = assure_flow(ctx, sk, group, id, request);
		break;
	default:
		if (value == request->app)
			break;
		if (request->registered)
			error = EEXIST;
		else if (value >= group->max_apps)
			error = EOVERFLOW;
		else
			request->app = value;
		break;
	}

	if (message.flags) {
		message.group = id;
		message.epoch = group->epoch;
		message.app = app;
		message.generation = value;
		before = request->generation;
		/* before the daemon hears of it: it goes by what it finds here */
		if (message.flags & MESSAGE_REGISTER)
			request->generation = value;
		if (!notify(&message, request)) {
			request->group = id + 1;
			request->epoch = group->epoch;
			if (message.flags & MESSAGE_REGISTER) {
				request->registered = 1;
				request->adopted = 0;
				note_enrolled(id, group->epoch, app, value);
				if (has_flow_table(group))
					ensure_table(group, id, slot_of(group, app, value));
			}
		} else if (message.flags & MESSAGE_REGISTER) {
			request->generation = before;
			error = EAGAIN;
		}
	}
	if (error)
		return refuse(error);
	ctx->optlen = -1;
	return 1;
}
