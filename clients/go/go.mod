// SPDX-License-Identifier: Apache-2.0
// Copyright the udpgrm authors

module udpgrm

go 1.19
