// SPDX-License-Identifier: GPL-2.0-or-later
#include "change.h"
#include "enrolled.h"
#include "guard.h"

/* The group that the socket has joined; NULL: none, or one that is gone, and it starts again. */
static __always_inline struct group *joined_group(struct bpf_sock *sk,
						  struct socket_request *request, u32 *group_id)
{
	struct group *group;

	*group_id = request->group - 1;
	group = live_group(*group_id, request->epoch);
	if (group && group->key.port != htons(sk->src_port))
		group = NULL; /* it had a port of the kernel's choice, and gave it back */
	if (!group) {
		request->group = 0;
		request->generation = GENERATION_NONE;
		request->registered = 0;
		request->app = 0;
	}
	return group;
}

/* The group of the socket's address, made if there is none. NULL: refused with *error. */
static __always_inline struct group *join_group(struct bpf_sockopt *ctx, struct bpf_sock *sk,
						struct socket_request *request, u32 *group_id,
						struct message *message, struct group_key *key,
						int *error)
{
	struct group *group;

	group_key_of(ctx, sk, request, key);
	group = group_at(key, group_id);
	if (group && !request->uid && group->uid) {
		leave(group, key);
		group = NULL;
	}
	if (!group)
		group = create_group(ctx, key, request, group_id, error);
	if (!group)
		return NULL;
	if (!may_join(request, group)) {
		/* only the daemon knows whether all its sockets are closed */
		message->group_id = *group_id;
		message->epoch = group->epoch;
		notify(message, request);
		*error = EBADF;
		return NULL;
	}
	*error = 0;
	message->flags = MESSAGE_JOIN;
	return group;
}

/* The application of the socket in its group. */
static __always_inline u32 application_of(struct socket_request *request, const struct group *group)
{
	u32 app = request->app & (MAX_APPS - 1);

	if (app >= group->max_apps) {
		/* chosen for another group, which it could not join in the end */
		app = 0;
		request->app = 0;
	}
	return app;
}

/* Apply what no daemon is needed for. Returns an error, or 0. */
static __always_inline int apply(struct bpf_sockopt *ctx, struct bpf_sock *sk,
				 struct socket_request *request, struct group *group, u32 group_id,
				 u32 app, union part *first, struct message *message)
{
	u32 value = first->words[0];
	int error = 0;

	switch (ctx->optname) {
	case UDP_GRM_WORKING_GEN:
		if (reads_payload(group) && group->working[app] != value)
			ensure_table(group, group_id, group->working_slot[app]);
		group->working[app] = value;
		group->working_slot[app] = slot_of(group, app, value);
		message->flags |= MESSAGE_WORKING_GEN;
		break;
	case UDP_GRM_SOCKET_GEN:
		message->flags |= MESSAGE_REGISTER;
		break;
	case UDP_GRM_DISSECTOR:
		error = set_dissector(ctx, first, group, group_id);
		break;
	case UDP_GRM_FLOW_ASSURE:
		error = assure_flow(first->words, sk, group, group_id, request);
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
	return error;
}

/* Notify the daemon of what only it can do. Returns false if it cannot be notified of a socket. */
static __always_inline bool notify_daemon(struct socket_request *request, struct group *group,
					  u32 group_id, u32 app, u32 value, struct message *message)
{
	u32 before;

	message->group_id = group_id;
	message->epoch = group->epoch;
	message->app = app;
	message->generation = value;
	before = request->generation;
	/* before the daemon is notified: it reads what is written here */
	if (message->flags & MESSAGE_REGISTER)
		request->generation = value;
	if (!notify(message, request)) {
		request->group = group_id + 1;
		request->epoch = group->epoch;
		if (message->flags & MESSAGE_REGISTER) {
			request->registered = 1;
			request->adopted = 0;
			note_enrolled(group_id, group, app, value);
			if (has_flow_table(group))
				ensure_table(group, group_id, slot_of(group, app, value));
		}
	} else if (message->flags & MESSAGE_REGISTER) {
		request->generation = before;
		return false;
	}
	return true;
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
	u32 group_id = 0, app;
	int error = 0;

	sk = ctx->sk;
	if (!sk || !is_steered(sk) || sk->protocol != ctx->level || ctx->optlen == -1 ||
	    ctx_retval())
		return pass(ctx);
	request = request_of(sk);
	if (!request || request->ungrouped || !sk->src_port)
		return refuse(EBADF);
	read_first(ctx, &first);

	if (request->group)
		group = joined_group(sk, request, &group_id);
	if (!group)
		group = join_group(ctx, sk, request, &group_id, &message, &key, &error);
	if (!group)
		return refuse(error);
	app = application_of(request, group);
	error = apply(ctx, sk, request, group, group_id, app, &first, &message);
	if (message.flags &&
	    !notify_daemon(request, group, group_id, app, first.words[0], &message))
		error = EAGAIN;
	if (error)
		return refuse(error);
	ctx->optlen = -1;
	return 1;
}

/*
 * setsockopt: carries out options 200..204 on the caller's own socket and on
 * the group it is bound to, with no daemon needed; what only user space can
 * do (a socket's index) is asked of it. Keeps a group's program from being
 * replaced, and trains out of groups that distinguish flows by content. Any other option costs
 * three comparisons, of SOL_SOCKET six.
 */
int hook_setsockopt(struct bpf_sockopt *ctx)
{
	if (is_ours(ctx))
		return carry_out(ctx);
	if (asks_for_trains(ctx))
		return guard_trains(ctx);
	return changes_program(ctx) ? guard_program(ctx) : pass(ctx);
}
