// SPDX-License-Identifier: GPL-2.0-or-later
// Copyright the udpgrm authors
#include "dissectors/bespoke/frames.h"
#include "dissectors/bespoke/initial.h"

/* The second program for an Initial packet: its payload. Costs an AES block per 16 bytes. */
int quic_decrypt(struct sk_reuseport_md *md)
{
	struct quic_scratch *scratch;
	struct quic_tables *tables;
	u32 zero = 0;

	scratch = bpf_map_lookup_elem(MAP(QUIC_SCRATCH), &zero);
	tables = bpf_map_lookup_elem(MAP(QUIC_TABLES), &zero);
	if (!scratch || !tables)
		return SK_PASS;
	scratch->is_garbled = decrypt(md, tables, scratch) != 0;
	begin_frames(tables, scratch);
	tail_call(md, MAP(QUIC_STAGES), scratch->is_garbled ? QUIC_CHOOSE : QUIC_NAME);
	return SK_PASS;
}
