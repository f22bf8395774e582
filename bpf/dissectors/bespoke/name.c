// SPDX-License-Identifier: GPL-2.0-or-later
// Copyright the udpgrm authors
#include "dissectors/bespoke/frames.h"
#include "dissectors/bespoke/hello.h"

/* The application whose name the packet has, else the first. */
static __always_inline u32 app_by_name(struct quic_scratch *scratch)
{
	struct dissector *dissector;
	struct host_name name = {};
	u32 group_id = scratch->group_id;
	int app;

	dissector = bpf_map_lookup_elem(MAP(DISSECTORS), &group_id);
	if (!dissector || find_name(scratch, &name))
		return 0;
	app = find_app(scratch, &name, dissector);
	return app < 0 ? 0 : app;
}

/*
 * The third program for an Initial packet: its application. Calls itself while
 * there are frames; a step each, and per 8 bytes of PADDING.
 */
int quic_name(struct sk_reuseport_md *md)
{
	struct quic_scratch *scratch;
	struct quic_tables *tables;
	u32 zero = 0;

	scratch = bpf_map_lookup_elem(MAP(QUIC_SCRATCH), &zero);
	tables = bpf_map_lookup_elem(MAP(QUIC_TABLES), &zero);
	if (!scratch || !tables)
		return SK_PASS;
	scratch->is_garbled = read_frames(tables, scratch) != 0;
	if (!scratch->is_garbled && scratch->position < scratch->there)
		tail_call(md, MAP(QUIC_STAGES), QUIC_NAME);
	scratch->app = scratch->is_garbled ? 0 : app_by_name(scratch);
	tail_call(md, MAP(QUIC_STAGES), QUIC_CHOOSE);
	return SK_PASS;
}
