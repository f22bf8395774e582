/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright the udpgrm authors */
/* dns: a query is answered at once, so no packet belongs to an earlier one. */
#include "dissectors/noop/body.h"
