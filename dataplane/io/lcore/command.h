/* Commands from the control thread to the data lcore and back (rules T13): records in a secure mapping,
 * handed over by number on two rings. A record is the control thread's, then the lcore's from the push until
 * the answer, then the control thread's again. */
#pragma once

#include "dataplane/io/lcore/lcore.h"
#include "dataplane/ring/ring.h"

enum { SL_COMMANDS = 256 }; /* under way at a time; a power of two */

struct sl_command {
    struct sl_session_config config; /* wiped by the lcore once it is carried out */
    struct sl_lcore_confirm confirm;
};

struct sl_commands {
    struct sl_command *record;
    struct sl_ring_spsc *forth, *back;
    uint32_t free[SL_COMMANDS], n_free; /* control thread */
};

int sl_commands_create(struct sl_commands *);
void sl_commands_free(struct sl_commands *);

/* Control thread. */
int sl_commands_send(
    struct sl_commands *, const struct sl_session_config *, uint32_t session, bool close, uint64_t user);
bool sl_commands_answer(struct sl_commands *, struct sl_lcore_confirm *);

/* Lcore: NULL where there is none. Each one taken is answered with confirm.status set. */
struct sl_command *sl_commands_take(struct sl_commands *);
void sl_commands_confirm(struct sl_commands *, struct sl_command *);
