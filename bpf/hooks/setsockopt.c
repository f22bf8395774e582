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

enum { PART_BYTES = 32 }; /* of a value: the stack has no room for a dissector */

/* A part of the value being set; the first has all of any option's but a dissector's. */
union part {
	u32 words[PART_BYTES / 4];
	u64 longs[PART_BYTES / 8];
};

static __always_inline void read_first(struct bpf_sockopt *ctx, union part *first)
{
	read_value(ctx, set_length(ctx), 0, first->longs, sizeof(*first));
}

/* Whole parts of a dissector; what is left of it is the last, shorter one. */
enum {
	WHOLE_PARTS = sizeof(struct dissector) / PART_BYTES * PART_BYTES,
	LAST_PART = sizeof(struct dissector) - WHOLE_PARTS,
};

/* The value being set. */
static __always_inline void read_dissector(struct bpf_sockopt *ctx, struct dissector *to)
{
	s64 length = set_length(ctx), offset;

#pragma clang loop unroll(disable)
	for (offset = 0; offset < WHOLE_PARTS; offset += PART_BYTES)
		read_value(ctx, length, offset, (void *)to + offset, PART_BYTES);
	read_value(ctx, length, WHOLE_PARTS, (void *)to + WHOLE_PARTS, LAST_PART);
}

/* The bits of a part of the value being set that a dissector has otherwise, but those ignored. */
static __always_inline u64 difference_of(struct bpf_sockopt *ctx, s64 length, s64 offset, s64 size,
					 union part *part, const struct dissector *from,
					 u64 ignored)
{
	const u64 *stored = (const void *)from + offset;
	u64 difference;
	s32 i;

	read_value(ctx, length, offset, part->longs, size);
	difference = (part->longs[0] ^ stored[0]) & ~ignored;
#pragma clang loop unroll(full)
	for (i = 1; i < size / 8; i++)
		difference |= part->longs[i] ^ stored[i];
	return difference;
}

/* Whether the value being set differs from a dissector in more than the verbose flag. */
static __always_inline bool differs(struct bpf_sockopt *ctx, union part *part,
				    const struct dissector *from)
{
	u64 difference = 0, ignored = DISSECTOR_VERBOSE; /* of the first word */
	s64 length = set_length(ctx), offset;

#pragma clang loop unroll(disable)
	for (offset = 0; offset < WHOLE_PARTS; offset += PART_BYTES) {
		difference |= difference_of(ctx, length, offset, PART_BYTES, part, from, ignored);
		ignored = 0;
	}
	return difference | difference_of(ctx, length, offset, LAST_PART, part, from, 0);
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
	u64 netns = key->netns;
	u32 ifindex = key->ifindex;
	struct dissector *dissector;
	struct policy *policy;
	struct group *group;
	struct user *user;
	u32 i;

	*error = EBADF;
	user = user_of(request->uid);
	if (!user || over(request->uid, user->groups_made, user->groups_gone, CONST(USER_GROUPS)))
		return NULL;
	/* of any device and namespace; not in a copy, for which the stack has no room */
	key->netns = 0;
	key->ifindex = 0;
	policy = bpf_map_lookup_elem(MAP(POLICIES), key);
	key->netns = netns;
	key->ifindex = ifindex;
	if (take_prepared(request->uid, id))
		return NULL;
	group = bpf_map_lookup_elem(MAP(GROUPS), id);
	dissector = bpf_map_lookup_elem(MAP(DISSECTORS), id);
	if (!group || !dissector)
		return NULL;
	if (policy)
		read_kernel(dissector, sizeof(*dissector), &policy->dissector);
	else if (given)
		read_dissector(ctx, dissector);
	else
		read_kernel(dissector, sizeof(*dissector), NULL); /* fails, and leaves zeroes */
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
	group->flows = policy ? policy->flows : 0;
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
static __always_inline int set_dissector(struct bpf_sockopt *ctx, union part *first,
					 struct group *group, u32 id)
{
	u32 type = first->words[0];
	struct dissector *stored = bpf_map_lookup_elem(MAP(DISSECTORS), &id);

	if (!stored)
		return EBADF;
	if (differs(ctx, first, stored))
		return EPERM;
	stored->type = type;
	group->type = type;
	return 0;
}

static __always_inline int assure_flow(const u32 *words, struct bpf_sock *sk, struct group *group,
				       u32 id, struct socket_request *request)
{
	struct flow_key key = { .port = words[0] >> 16 };
	struct registration *registration = registration_of(sk);
	u32 slot = slot_of(group, request->app, request->generation);
	struct counters *counters = counters_of(id);
	u32 family = words[0] & 0xffff, six, stale, result;
	u16 array_entry = ENTRY_NONE | unknown_zero(request->cookie);

	if (!has_flow_table(group))
		return EPERM;
	if (family != AF_INET && (family != AF_INET6 || sk->family != AF_INET6))
		return EPERM;
	/* without branches for the families, and below: refresh_flow() is followed once for each */
	six = -(family >> 3 & 1);
	key.addr[0] = words[2] & six;
	key.addr[1] = words[3] & six;
	key.addr[2] = (words[4] & six) | (V4_MAPPED & ~six);
	key.addr[3] = (words[5] & six) | (words[1] & ~six);
	if (registration && registration->group == id + 1 && registration->epoch == group->epoch) {
		array_entry = registration->array_entry;
		if (registration->slot < GENERATION_SLOTS)
			slot = registration->slot;
	}
	ensure_table(group, id, slot);
	result = refresh_flow(group, slot, &key, request->cookie, array_entry, &stale);
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
	union part first;
	u32 id = 0;

	if (!sk || !is_udp(sk) || !sk->src_port)
		return pass(ctx);
	read_first(ctx, &first);
	if (!first.words[0])
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
	union part first;
	u32 id = 0;

	if (!sk || !is_udp(sk) || !sk->src_port)
		return pass(ctx);
	read_first(ctx, &first);
	if (ctx->optname == SO_ATTACH_REUSEPORT_EBPF && first.words[1] == (u32)token &&
	    first.words[2] == token >> 32) {
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

/* Carry out one of the options 200..204. */
static __always_inline int carry_out(struct bpf_sockopt *ctx)
{
	struct socket_request *request;
	struct message message = {};
	struct group_key key = {};
	struct group *group = NULL;
	struct bpf_sock *sk;
	union part first;
	u32 id = 0, value, app, before;
	int error = 0;

	sk = ctx->sk;
	if (!sk || !is_udp(sk) || ctx->optlen == -1 || ctx_retval())
		return pass(ctx);
	request = request_of(sk);
	if (!request || !sk->src_port)
		return refuse(EBADF);
	read_first(ctx, &first);
	value = first.words[0];

	if (request->group) {
		id = request->group - 1;
		group = live_group(id, request->epoch);
		if (group && group->key.port != htons(sk->src_port))
			group = NULL; /* it had a port of the kernel's choice, and gave it back */
		if (!group) {
			/* forgotten meanwhile: the socket starts again */
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
		error = set_dissector(ctx, &first, group, id);
		break;
	case UDP_GRM_FLOW_ASSURE:
		error = assure_flow(first.words, sk, group, id, request);
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

/*
 * setsockopt: carries out options 200..204 on the caller's own socket and on
 * the group it is bound to, with no daemon needed; what only user space can
 * do (a socket's index) is asked of it. Keeps a group's program from being
 * replaced, and trains out of groups that tell flows apart by content. Any other option costs
 * two comparisons, of SOL_SOCKET five.
 */
int hook_setsockopt(struct bpf_sockopt *ctx)
{
	if (is_ours(ctx))
		return carry_out(ctx);
	if (asks_for_trains(ctx))
		return guard_trains(ctx);
	return changes_program(ctx) ? guard_program(ctx) : pass(ctx);
}
