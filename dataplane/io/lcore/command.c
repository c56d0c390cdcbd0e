#include "dataplane/io/lcore/command.h"

#include "dataplane/crypto/secure_memory.h"

#include <errno.h>
#include <string.h>

int sl_commands_create(struct sl_commands *c)
{
    *c = (struct sl_commands){.n_free = SL_COMMANDS};
    c->record = sl_secure_map(SL_COMMANDS * sizeof(*c->record));
    c->forth = sl_ring_spsc_create(2 * SL_COMMANDS); /* holds them all: a push cannot fail */
    c->back = sl_ring_spsc_create(2 * SL_COMMANDS);
    for (uint32_t i = 0; i < SL_COMMANDS; i++)
        c->free[i] = i;
    if (c->record != NULL && c->forth != NULL && c->back != NULL)
        return 0;
    sl_commands_free(c);
    return -ENOMEM;
}

void sl_commands_free(struct sl_commands *c)
{
    if (c->record != NULL)
        sl_secure_unmap(c->record, SL_COMMANDS * sizeof(*c->record));
    if (c->forth != NULL)
        sl_ring_spsc_free(c->forth);
    if (c->back != NULL)
        sl_ring_spsc_free(c->back);
    *c = (struct sl_commands){0};
}

int sl_commands_send(struct sl_commands *c, const struct sl_session_config *config, uint32_t session,
    bool close, uint64_t user)
{
    if (c->n_free == 0)
        return -EAGAIN;
    uint32_t i = c->free[--c->n_free];
    if (config != NULL)
        c->record[i].config = *config;
    c->record[i].confirm = (struct sl_lcore_confirm){.session = session, .closed = close, .user = user};
    sl_ring_spsc_push(c->forth, &i, 1);
    return 0;
}

bool sl_commands_answer(struct sl_commands *c, struct sl_lcore_confirm *out)
{
    uint32_t i;
    if (sl_ring_spsc_pop(c->back, &i, 1) == 0)
        return false;
    *out = c->record[i].confirm;
    c->free[c->n_free++] = i;
    return true;
}

struct sl_command *sl_commands_take(struct sl_commands *c)
{
    uint32_t i;
    return sl_ring_spsc_pop(c->forth, &i, 1) == 1 ? &c->record[i] : NULL;
}

void sl_commands_confirm(struct sl_commands *c, struct sl_command *command)
{
    uint32_t i = (uint32_t)(command - c->record);
    explicit_bzero(&command->config, sizeof(command->config));
    sl_ring_spsc_push(c->back, &i, 1);
}
