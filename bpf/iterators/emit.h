/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright the udpgrm authors */
/* Write an iterator's records to the process that reads them. */
#ifndef UDPGRM_ITERATORS_EMIT_H
#define UDPGRM_ITERATORS_EMIT_H

#include "kernel.h"

/* Head of the kernel's struct bpf_iter_meta. */
struct iterator_meta {
	void *seq;
	u64 session;
};

static __always_inline void emit(struct iterator_meta *meta, void *record, u32 size)
{
	((long (*)(void *, void *, u32))BPF_FUNC_seq_write)(meta->seq, record, size);
}

#endif
