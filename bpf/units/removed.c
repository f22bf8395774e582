// SPDX-License-Identifier: GPL-2.0-or-later
/* Copyright the udpgrm authors */
#include "units/units.h"

/* tp_btf/cgroup_rmdir: a service's control group is gone. Costs a lookup per removal. */
int cgroup_removed(u64 *ctx)
{
	void *cgroup = (void *)ctx[0];
	u64 id;

	if (!is_version_2(cgroup))
		return 0;
	id = cgroup_id(cgroup);
	bpf_map_delete_elem(MAP(SERVICE_CGROUPS), &id);
	return 0;
}
