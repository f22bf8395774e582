// SPDX-License-Identifier: GPL-2.0-or-later
/* Copyright the udpgrm authors */
#include "units/units.h"

/*
 * A unit's name without its instance, so that one record serves all instances of a template:
 * edge@7.service becomes edge@.
 */
static __always_inline void cut_instance(struct unit_key *key)
{
	u32 i;
	u8 keep = 0xff;

#pragma clang loop unroll(disable)
	for (i = 0; i < UNIT_NAME_BYTES; i++) {
		u8 letter = key->name[i];

		key->name[i] = letter & keep;
		if (letter == '@')
			keep = 0;
	}
}

/*
 * tp_btf/cgroup_mkdir: notes which service a new control group belongs to, by the one above it and
 * its name; one below a service's is that service's too. Costs two lookups per new control group.
 */
int cgroup_made(u64 *ctx)
{
	void *cgroup = (void *)ctx[0], *node, *parent, *name;
	struct unit_key key = {};
	u64 id, *service;

	if (!is_version_2(cgroup))
		return 0;
	/* the first member of struct cgroup is that of its own, the parent's likewise */
	parent = (void *)member_of(cgroup, CONST(CSS_PARENT_OFFSET));
	if (!parent)
		return 0;
	id = cgroup_id(cgroup);
	key.parent = cgroup_id(parent);
	service = bpf_map_lookup_elem(MAP(SERVICE_CGROUPS), &key.parent);
	if (!service) {
		node = (void *)member_of(cgroup, CONST(CGROUP_KN_OFFSET));
		name = (void *)member_of(node, CONST(KN_NAME_OFFSET));
		((long (*)(void *, u32, const void *))BPF_FUNC_probe_read_kernel_str)(
			key.name, sizeof(key.name), name);
		cut_instance(&key);
		service = bpf_map_lookup_elem(MAP(SERVICE_UNITS), &key);
	}
	if (service)
		bpf_map_update_elem(MAP(SERVICE_CGROUPS), &id, service, BPF_ANY);
	return 0;
}
