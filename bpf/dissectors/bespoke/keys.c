// SPDX-License-Identifier: GPL-2.0-or-later
// Copyright the udpgrm authors
#include "dissectors/bespoke/initial.h"

/*
 * The first of four programs for an Initial packet: its keys, and its header
 * without protection. Costs 14 compressions of SHA-256.
 */
int quic_keys(struct sk_reuseport_md *md)
{
	struct quic_scratch *scratch;
	struct quic_tables *tables;
	u32 zero = 0;

	scratch = bpf_map_lookup_elem(MAP(QUIC_SCRATCH), &zero);
	tables = bpf_map_lookup_elem(MAP(QUIC_TABLES), &zero);
	if (!scratch || !tables)
		return SK_PASS;
	scratch->is_garbled = open_packet(md, tables, scratch) != 0;
	tail_call(md, MAP(QUIC_STAGES), scratch->is_garbled ? QUIC_CHOOSE : QUIC_DECRYPT);
	return SK_PASS;
}
