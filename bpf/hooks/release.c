// SPDX-License-Identifier: GPL-2.0-or-later
#include "unlist.h"

/*
 * sock_release: a socket that closes gets no new flow any more, with or without a daemon, which
 * is told. A connected one has left when it connected: it costs nothing. Costs other sockets
 * one storage lookup, those of a generation two passes through its list.
 */
int hook_release(struct bpf_sock *ctx)
{
	struct socket_request *request;
	struct message message = {};
	struct registration *registration;
	struct group *group;

	if (!has_groups(ctx->protocol) || ctx->state == TCP_ESTABLISHED)
		return 1;
	registration = bpf_sk_storage_get(MAP(REGISTRATIONS), ctx, NULL, 0);
	if (!registration)
		return 1;
	request = bpf_sk_storage_get(MAP(SOCKET_REQUEST), ctx, NULL, 0);
	group = unlist_registration(registration);
	if (!group || !request)
		return 1;
	message.group_id = registration->group - 1;
	message.epoch = group->epoch;
	notify(&message, request);
	return 1;
}
