/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Notifications of the daemon by hooks: a group or a socket needs it. */
#ifndef UDPGRM_NOTIFY_H
#define UDPGRM_NOTIFY_H

#include "groups.h"

/* The calling process in the first pid namespace. */
static __always_inline u32 own_pid(void)
{
	void *task = (void *)bpf_get_current_task();
	u32 pid = 0;

	read_kernel(&pid, sizeof(pid), task + CONST(TGID_OFFSET));
	return pid;
}

/* The calling process as the daemon knows it; 0: it lives in another pid namespace. */
static __always_inline u32 daemons_pid(void)
{
	struct bpf_pidns_info ns = {};

	if (!CONST(PIDNS_INO))
		return own_pid();
	bpf_get_ns_current_pid_tgid(CONST(PIDNS_DEV), CONST(PIDNS_INO), &ns, sizeof(ns));
	return ns.tgid;
}

/* The first argument of the present system call. */
static __always_inline s32 called_with(void)
{
	void *regs = (void *)((u64(*)(void *))BPF_FUNC_task_pt_regs)(
		(void *)((u64(*)(void))BPF_FUNC_get_current_task_btf)());
	u64 arg0 = 0;

	read_kernel(&arg0, sizeof(arg0), regs + CONST(SYSCALL_ARG0_OFFSET));
	return arg0;
}

/* A number that bpf_setsockopt takes. */
static __always_inline bool set_option(struct bpf_sock_addr *ctx, u32 option, int value)
{
	return !bpf_setsockopt(ctx, SOL_SOCKET, option, &value, sizeof(value));
}

static __always_inline bool has_option(struct bpf_sock_addr *ctx, u32 option)
{
	int value = 0;

	return !bpf_getsockopt(ctx, SOL_SOCKET, option, &value, sizeof(value)) && value;
}

/*
 * Notify the daemon. The process is named by its thread group, and the
 * descriptor by the call's first argument: a hint the daemon checks by the
 * socket's cookie, and searches when it is wrong. Root's messages have a ring
 * of their own; one user's fill no more than a share of the other.
 */
static __always_inline int notify(struct message *message, const struct socket_request *request)
{
	u32 uid = bpf_get_current_uid_gid(); /* the user that made the socket */
	struct user *user = user_of(uid);
	long error;

	message->cookie = request->cookie;
	message->uid = uid;
	if (!user || over(uid, user->messages_sent, user->messages_served, CONST(USER_MESSAGES)))
		return -EAGAIN;
	message->pid = own_pid();
	message->fd = called_with();
	message->ns_pid = daemons_pid();
	if (uid)
		error = bpf_ringbuf_output(MAP(MESSAGES), message, sizeof(*message), 0);
	else
		error = bpf_ringbuf_output(MAP(ROOT_MESSAGES), message, sizeof(*message), 0);
	if (error)
		return -EAGAIN;
	__sync_fetch_and_add(&user->messages_sent, 1);
	return 0;
}

/* Note where a socket is, for the daemon: without it, it searches in all processes. */
static __always_inline void note_holder(struct socket_request *request)
{
	request->bound_pid = daemons_pid();
	request->bound_fd = called_with();
}

/* Have the daemon check a group's sockets in a moment; notified once until it does. */
static __always_inline void request_recheck(struct group *group, u32 group_id,
					    struct socket_request *request)
{
	struct message message = { .flags = MESSAGE_RECHECK,
				   .group_id = group_id,
				   .epoch = group->epoch };

	request->bound_at = bpf_jiffies64();
	if (!group->awaited && !notify(&message, request))
		group->awaited = 1;
}

#endif
