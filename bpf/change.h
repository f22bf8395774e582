/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The changes of options: a new group, its dissector, a flow. */
#ifndef UDPGRM_CHANGE_H
#define UDPGRM_CHANGE_H

#include "account.h"
#include "valid.h"
#include "value.h"

/*
 * Take the id of a group that is not in use, a prepared one if any is left. Root has some of its
 * own. Returns other than 0 if there is none.
 */
static __always_inline long take_group(u32 uid, u32 *group_id)
{
	if (!uid && !bpf_map_pop_elem(MAP(ROOT_GROUPS), group_id))
		return 0;
	if (!bpf_map_pop_elem(MAP(FREE_GROUPS), group_id))
		return 0;
	if (!bpf_map_pop_elem(MAP(SPARE_GROUPS), group_id))
		return 0;
	return uid ? -ENOENT : bpf_map_pop_elem(MAP(ROOT_SPARES), group_id);
}

static __always_inline void give_back(const struct group *group, u32 group_id)
{
	bool has_maps = group->state == GROUP_PREPARED;

	if (is_reserved(group_id) && has_maps)
		bpf_map_push_elem(MAP(ROOT_GROUPS), &group_id, 0);
	else if (is_reserved(group_id))
		bpf_map_push_elem(MAP(ROOT_SPARES), &group_id, 0);
	else if (has_maps)
		bpf_map_push_elem(MAP(FREE_GROUPS), &group_id, 0);
	else
		bpf_map_push_elem(MAP(SPARE_GROUPS), &group_id, 0);
}

/* Make a group live, for an address and with a dissector. */
static __always_inline void fill_group(struct group *group, const struct group_key *key,
				       const struct dissector *dissector)
{
	u32 i;

	group->key = *key;
	group->type = dissector->type;
	group->flow_timeout_s = dissector->flow_timeout_s ?: DEFAULT_FLOW_TIMEOUT_S;
	group->timeout_jiffies = group->flow_timeout_s * CONST(HZ);
	group->max_apps = dissector->max_apps ?: 1;
#pragma clang loop unroll(full)
	for (i = 0; i < MAX_APPS; i++)
		group->working_slot[i] = slot_of(group, i, 0);
	group->state = GROUP_LIVE;
}

/*
 * Make an unused group the group of this address, with the dissector that the
 * operator has set for it, else that of the value being set, or FLOW when
 * another option is. NULL: refused with *error.
 */
static __always_inline struct group *create_group(struct bpf_sockopt *ctx, struct group_key *key,
						  const struct socket_request *request,
						  u32 *group_id, int *error)
{
	bool given = ctx->optname == UDP_GRM_DISSECTOR;
	u64 netns = key->netns;
	u32 ifindex = key->ifindex;
	struct dissector *dissector;
	struct policy *policy;
	struct group *group;
	struct user *user;
	u32 before;

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
	if (take_group(request->uid, group_id))
		return NULL;
	group = bpf_map_lookup_elem(MAP(GROUPS), group_id);
	dissector = bpf_map_lookup_elem(MAP(DISSECTORS), group_id);
	if (!group || !dissector)
		return NULL;
	if (policy)
		read_kernel(dissector, sizeof(*dissector), &policy->dissector);
	else if (given)
		read_dissector(ctx, dissector);
	else
		read_kernel(dissector, sizeof(*dissector), NULL); /* fails, and leaves zeroes */
	/* of TCP's packets only the first of a connection is to be steered */
	if (key->protocol && !given)
		dissector->type = DISSECTOR_NOOP;
	if (!is_valid(dissector) || (key->protocol && dissector->type != DISSECTOR_NOOP)) {
		*error = EPERM;
		give_back(group, *group_id);
		return NULL;
	}

	group->flows = policy ? policy->flows : 0;
	group->lines_since = bpf_jiffies64();
	group->uid = request->uid;
	before = group->state;
	fill_group(group, key, dissector);
	note_port(ntohs(key->port));
	if (bpf_map_update_elem(MAP(GROUP_INDEX), key, group_id, BPF_NOEXIST)) {
		/* another socket of the address came first, or the index is full */
		group->state = before;
		give_back(group, *group_id);
		return group_at(key, group_id);
	}
	__sync_fetch_and_add(&user->groups_made, 1);
	return group;
}

/* Delete a group whose sockets are closed; the daemon releases its maps. */
static __always_inline void leave(struct group *group, struct group_key *key)
{
	bpf_map_delete_elem(MAP(GROUP_INDEX), key);
	group->state = GROUP_DELETED;
}

/* Once set, a dissector stays; only its verbose flag may change. */
static __always_inline int set_dissector(struct bpf_sockopt *ctx, union part *first,
					 struct group *group, u32 group_id)
{
	u32 type = first->words[0];
	struct dissector *stored = bpf_map_lookup_elem(MAP(DISSECTORS), &group_id);

	if (!stored)
		return EBADF;
	if (differs(ctx, first, stored))
		return EPERM;
	stored->type = type;
	group->type = type;
	return 0;
}

/* Whether packets of this address family, one of the socket's, reach a group's address. */
static __always_inline bool reaches(const struct group *group, const struct flow_key *peer)
{
	bool is_four = !peer->addr[0] && !peer->addr[1] && peer->addr[2] == V4_MAPPED;

	if (group->key.family == AF_INET)
		return is_four;
	return !is_four || is_wildcard(&group->key);
}

static __always_inline int assure_flow(const u32 *words, struct bpf_sock *sk, struct group *group,
				       u32 group_id, struct socket_request *request)
{
	struct flow_key key = { .port = words[0] >> 16 };
	struct registration *registration = registration_of(sk);
	u32 slot = slot_of(group, request->app, request->generation);
	struct counters *counters = counters_of(group_id);
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
	if (!reaches(group, &key))
		return EPERM;
	if (registration && registration->group == group_id + 1 &&
	    registration->epoch == group->epoch) {
		array_entry = registration->array_entry;
		if (registration->slot < GENERATION_SLOTS)
			slot = registration->slot;
	}
	ensure_table(group, group_id, slot);
	result = refresh_flow(group, group_id, slot, &key, request->cookie, array_entry, &stale);
	if (counters)
		count_flow(counters, result, stale);
	if (result == TX_FLOW_UPDATE_CONFLICT || result == FLOW_CROSSED)
		return EEXIST;
	return result == TX_FLOW_CREATE_ERROR ? EAGAIN : 0;
}

#endif
