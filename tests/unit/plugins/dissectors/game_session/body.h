/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the udpgrm authors */
/* the body of game_session */
