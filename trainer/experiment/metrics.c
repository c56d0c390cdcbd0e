#include "trainer/experiment/metrics.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <unistd.h>

struct sl_metrics {
    int fd;
};

int sl_metrics_open(const char *path, struct sl_metrics **out, char *err, size_t err_cap)
{
    struct sl_metrics *m = malloc(sizeof *m);

    if (!m)
        return -ENOMEM;
    m->fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (m->fd < 0) {
        int e = errno;
        snprintf(err, err_cap, "%s: %s; give a run directory that can be written (--run)", path, strerror(e));
        free(m);
        return -e;
    }
    *out = m;
    return 0;
}

int sl_metrics_write(struct sl_metrics *m, const char *event, cJSON *object)
{
    struct timeval now;
    cJSON *line = cJSON_CreateObject();
    int status = -ENOMEM;

    gettimeofday(&now, NULL);
    cJSON_AddNumberToObject(line, "t", (double)now.tv_sec + (double)now.tv_usec * 1e-6);
    cJSON_AddStringToObject(line, "event", event);
    while (object && object->child) {
        cJSON *item = cJSON_DetachItemViaPointer(object, object->child);
        cJSON_AddItemToObject(line, item->string, item);
    }
    cJSON_Delete(object);

    char *text = cJSON_PrintUnformatted(line);
    if (text) {
        size_t n = strlen(text);
        text[n] = '\n'; /* in place of the terminator: the line leaves in one write() */
        ssize_t w = write(m->fd, text, n + 1);
        status = w == (ssize_t)(n + 1) ? 0 : w < 0 ? -errno : -ENOSPC;
        cJSON_free(text);
    }
    cJSON_Delete(line);
    return status;
}

void sl_metrics_number(cJSON *object, const char *key, double value)
{
    char text[32];

    if (!isfinite(value)) {
        cJSON_AddNullToObject(object, key);
        return;
    }
    snprintf(text, sizeof text, "%.17g", value);
    cJSON_AddRawToObject(object, key, text);
}

void sl_metrics_close(struct sl_metrics *m)
{
    if (!m)
        return;
    close(m->fd);
    free(m);
}
