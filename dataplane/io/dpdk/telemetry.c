#include "dataplane/io/dpdk/telemetry.h"

#include <errno.h>
#include <pthread.h>
#include <rte_telemetry.h>
#include <string.h>

enum { COMMANDS_MAX = 16, LIST_MAX = RTE_TEL_MAX_ARRAY_ENTRIES };

/* DPDK gives a callback its command's name and nothing else. */
static struct {
    const char *name;
    sl_telemetry_fn fn;
    void *app;
} commands[COMMANDS_MAX];
static unsigned n_commands;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* of the table, and held while a command runs */

static int answer(const char *name, const char *params, struct rte_tel_data *data)
{
    struct sl_telemetry out = {.object = data};
    int ret = -ENOENT;
    pthread_mutex_lock(&lock);
    for (unsigned i = 0; i < n_commands; i++) {
        if (strcmp(commands[i].name, name) != 0)
            continue;
        rte_tel_data_start_dict(data);
        ret = commands[i].fn(commands[i].app, params, &out);
        break;
    }
    pthread_mutex_unlock(&lock);
    return ret;
}

int sl_telemetry_register(const char *command, const char *help, sl_telemetry_fn fn, void *app)
{
    pthread_mutex_lock(&lock);
    int ret = n_commands == COMMANDS_MAX ? -ENOSPC : rte_telemetry_register_cmd(command, answer, help);
    if (ret == 0) {
        commands[n_commands].name = command;
        commands[n_commands].fn = fn;
        commands[n_commands].app = app;
        n_commands++;
    }
    pthread_mutex_unlock(&lock);
    return ret;
}

void sl_telemetry_close(void)
{
    pthread_mutex_lock(&lock);
    n_commands = 0;
    pthread_mutex_unlock(&lock);
}

void sl_telemetry_number(struct sl_telemetry *t, const char *name, uint64_t value)
{
    rte_tel_data_add_dict_u64(t->object, name, value);
}

void sl_telemetry_text(struct sl_telemetry *t, const char *name, const char *value)
{
    rte_tel_data_add_dict_string(t->object, name, value);
}

void sl_telemetry_list(struct sl_telemetry *t, const char *name, const uint64_t *values, size_t n)
{
    struct rte_tel_data *list = rte_tel_data_alloc();
    if (list == NULL)
        return;
    rte_tel_data_start_array(list, RTE_TEL_U64_VAL);
    for (size_t i = 0; i < n && i < LIST_MAX; i++)
        rte_tel_data_add_array_u64(list, values[i]);
    if (rte_tel_data_add_dict_container(t->object, name, list, 0) != 0)
        rte_tel_data_free(list);
}

void sl_telemetry_object(
    struct sl_telemetry *t, const char *name, void (*write)(void *ctx, struct sl_telemetry *), void *ctx)
{
    struct sl_telemetry inner = {.object = rte_tel_data_alloc()};
    if (inner.object == NULL)
        return;
    rte_tel_data_start_dict(inner.object);
    write(ctx, &inner);
    if (rte_tel_data_add_dict_container(t->object, name, inner.object, 0) != 0)
        rte_tel_data_free(inner.object);
}
