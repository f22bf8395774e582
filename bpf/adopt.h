/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A process of a generation has bound another socket of the group. One of an
 * adopted cgroup is enrolled, but gets an array entry only from the daemon, a
 * little later: of UDP, it may be about to connect; of TCP, to listen. Refuses
 * nothing. Costs binds with SO_REUSEPORT up to five lookups.
 */
#ifndef UDPGRM_ADOPT_H
#define UDPGRM_ADOPT_H

#include "enrolled.h"

/*
 * The storage of a socket that has just been bound and is in no group yet, with
 * what the bind hook cannot know: a scope id sets the device after it.
 */
static __always_inline struct socket_request *newly_bound(struct bpf_sock *ctx)
{
	struct socket_request *request;

	if (!has_groups(ctx->protocol))
		return NULL;
	request = bpf_sk_storage_get(MAP(SOCKET_REQUEST), ctx, NULL, 0);
	if (!request || request->group)
		return NULL;
	request->ifindex = field_of(ctx, CONST(SK_DEVICE_OFFSET));
	return request;
}

/* Have the daemon register a socket of TCP once it listens. */
static __always_inline void have_registered(struct group *group, u32 group_id,
					    const struct socket_request *request)
{
	struct message message = { .flags = MESSAGE_JOIN | MESSAGE_REGISTER,
				   .group_id = group_id,
				   .epoch = group->epoch,
				   .generation = request->generation,
				   .app = request->app };

	notify(&message, request);
}

/* Have the daemon enter a socket that is still unconnected in a moment. */
static __always_inline void have_rechecked(struct group *group, u32 group_id,
					   struct socket_request *request)
{
	note_holder(request);
	request_recheck(group, group_id, request);
}

static __always_inline int adopt(struct socket_request *request, struct group_key *key)
{
	struct adopted_key who = { .cgroup = bpf_get_current_cgroup_id() };
	struct adopted *adopted;
	struct group *group;
	u32 group_id = 0;

	group = group_at(key, &group_id);
	if (!group)
		return 1;
	if (!may_join(request, group)) {
		find_generation(group_id, group->epoch, false, &request->process);
		return 1;
	}
	who.group_id = group_id;
	who.epoch = group->epoch;
	adopted = bpf_map_lookup_elem(MAP(ADOPTED), &who);
	if (!adopted) {
		find_enrolled(group_id, group->epoch, true, &request->process);
		if (request->lent) /* its server may never enroll it */
			have_rechecked(group, group_id, request);
		return 1;
	}
	request->group = group_id + 1;
	request->epoch = group->epoch;
	request->generation = adopted->generation;
	request->registered = 1;
	request->app = adopted->app;
	request->adopted = 1;
	if (key->protocol)
		have_registered(group, group_id, request);
	else
		have_rechecked(group, group_id, request);
	return 1;
}

#endif
