/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright the udpgrm authors */
/*
 * Find the control groups of a service's instances. systemd makes a new one at each start
 * of a unit, before it runs anything in it; a tracepoint sees that, so a unit's first bind(2) is
 * known already, also when systemd has started the unit again after a crash.
 */
#ifndef UDPGRM_UNITS_H
#define UDPGRM_UNITS_H

#include "kernel.h"

/* A member of a struct of the kernel's, which is read without a type. */
static __always_inline u64 member_of(void *from, u64 offset)
{
	u64 value = 0;

	read_kernel(&value, sizeof(value), from + offset);
	return value;
}

static __always_inline u64 cgroup_id(void *cgroup)
{
	void *node = (void *)member_of(cgroup, CONST(CGROUP_KN_OFFSET));

	return member_of(node, CONST(KN_ID_OFFSET));
}

/* Ids are unique in one hierarchy only; that of version 2 is number 0. */
static __always_inline bool is_version_2(void *cgroup)
{
	void *root = (void *)member_of(cgroup, CONST(CGROUP_ROOT_OFFSET));

	return !(u32)member_of(root, CONST(ROOT_HIERARCHY_OFFSET));
}

#endif
