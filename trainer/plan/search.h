/* Moves and swaps: what the planner does with a whole plan once its cuts are whole numbers (rules P5). A user
 * moves to another server, or another cut, or both (the cut then near its own: the next move finds the rest);
 * two users change places. Each is first judged by the bound at the servers' prices (value.h), which no true
 * gain escapes, and then by the servers' exact values. Ends where no single one helps. */
#pragma once

#include "trainer/plan/value.h"

enum { SL_SEARCH_CUTS = 1, SL_SEARCH_SERVERS = 2 };

/* server: [n_users] (SL_PLAN_NOBODY: takes no part), alpha: [n_users]; both in and out. *value: the sum over
 * servers. moves: how many were made; NULL allowed. -ENOMEM. */
int sl_plan_search(const struct sl_plan_value *, int what, uint32_t *server, uint32_t *alpha, double *value,
    uint32_t *moves);

/* The sum over servers, and each user's choice with its shares. choice, prices [n_servers]: NULL allowed. */
int sl_plan_whole_value(const struct sl_plan_value *, const uint32_t *server, const uint32_t *alpha,
    double *value, struct sl_plan_choice *choice, struct sl_plan_prices *prices);
