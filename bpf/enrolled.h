/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright the udpgrm authors */
/*
 * Processes that have enrolled sockets themselves: further sockets that they bind at the address
 * are of the same generation when they connect. Looked up at bind: a process by itself, by its
 * parent (a worker of its master) and by its cgroup.
 */
#ifndef UDPGRM_ENROLLED_H
#define UDPGRM_ENROLLED_H

#include "notify.h"

static __always_inline u32 parents_pid(void)
{
	void *task = (void *)bpf_get_current_task(), *parent = NULL;
	u32 pid = 0;

	read_kernel(&parent, sizeof(parent), task + CONST(PARENT_OFFSET));
	read_kernel(&pid, sizeof(pid), parent + CONST(TGID_OFFSET));
	return pid;
}

/* Write a record, unless it is a new one of a user that has too many. */
static __always_inline void note_one(u32 uid, struct enrolled_count *count,
				     const struct adopted_key *who, const struct adopted *value)
{
	if (!bpf_map_update_elem(MAP(ENROLLED), (void *)who, (void *)value, BPF_EXIST))
		return;
	if (over(uid, count->made, count->gone, USER_ENROLLED))
		return;
	if (!bpf_map_update_elem(MAP(ENROLLED), (void *)who, (void *)value, BPF_NOEXIST))
		__sync_fetch_and_add(&count->made, 1);
}

/* The caller has enrolled a socket of its own. */
static __always_inline void note_enrolled(u32 group_id, const struct group *group, u32 app,
					  u32 generation)
{
	struct adopted_key who = { .cgroup = bpf_get_current_cgroup_id(),
				   .group_id = group_id,
				   .epoch = group->epoch };
	struct adopted value = { .generation = generation, .app = app };
	u32 uid = group->uid, user = user_index(uid);
	struct enrolled_count *count = bpf_map_lookup_elem(MAP(ENROLLED_COUNTS), &user);

	if (!count)
		return;
	note_one(uid, count, &who, &value);
	who.cgroup = ENROLLED_PROCESS | own_pid();
	note_one(uid, count, &who, &value);
}

static __always_inline void set_membership(struct membership *found, u32 group_id, u32 epoch,
					   const struct adopted *of)
{
	found->generation = of->generation;
	found->app = of->app;
	found->epoch = epoch;
	found->group = group_id + 1;
}

/* Find the generation that the caller, or its parent, has enrolled a socket in; NULL: none. */
static __always_inline struct adopted *enrolled_by_process(struct adopted_key *who)
{
	struct adopted *value;

	who->cgroup = ENROLLED_PROCESS | own_pid();
	value = bpf_map_lookup_elem(MAP(ENROLLED), who);
	if (value)
		return value;
	who->cgroup = ENROLLED_PROCESS | parents_pid();
	return bpf_map_lookup_elem(MAP(ENROLLED), who);
}

/*
 * The generation of a group that the caller has enrolled in. For a socket of another user than the
 * group's, as of a server that was root, its cgroup is not enough: it may have processes of several
 * users.
 */
static __always_inline void find_enrolled(u32 group_id, u32 epoch, bool is_owner,
					  struct membership *found)
{
	struct adopted_key who = { .group_id = group_id, .epoch = epoch };
	struct adopted *value = enrolled_by_process(&who);

	if (!value && is_owner) {
		who.cgroup = bpf_get_current_cgroup_id();
		value = bpf_map_lookup_elem(MAP(ENROLLED), &who);
	}
	if (value)
		set_membership(found, group_id, epoch, value);
}

/* The generation of a group that the caller's cgroup was adopted for; else as find_enrolled(). */
static __always_inline void find_generation(u32 group_id, u32 epoch, bool is_owner,
					    struct membership *found)
{
	struct adopted_key who = { .cgroup = bpf_get_current_cgroup_id(),
				   .group_id = group_id,
				   .epoch = epoch };
	struct adopted *adopted = bpf_map_lookup_elem(MAP(ADOPTED), &who);

	if (adopted)
		set_membership(found, group_id, epoch, adopted);
	else
		find_enrolled(group_id, epoch, is_owner, found);
}

#endif
