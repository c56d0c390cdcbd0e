/* The secrets of the data sessions, for whoever has to look into a capture of his own run (off by default).
 * A line a session, as scripts/decrypt-capture reads it:
 *
 *   SLUICE_DATA_V1 <edge's session id> <device's session id> <S of rules T8>      all in hex
 */
#include "trainer/edge/edge.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

int edge_open_key_log(struct edge *e)
{
    const char *path = e->options.key_log;
    if (!path)
        return 0;
    struct stat st;
    int fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0) {
        snprintf(
            e->err, sizeof e->err, "--key-log %s: %s: name a file that can be made", path, strerror(errno));
        return -errno;
    }
    if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode) || (st.st_mode & 077) != 0) {
        close(fd);
        snprintf(e->err, sizeof e->err,
            "--key-log %s: others can read it, or it is no regular file: remove it or chmod 600 it", path);
        return -EACCES;
    }
    e->key_log = fdopen(fd, "a");
    edge_say(e, "WARNING: --key-log writes the keys of every data session to %s: who reads it reads the run",
        path);
    return 0;
}

void edge_log_key(struct edge *e, uint64_t session_id, uint64_t receive_id, const uint8_t secret[32])
{
    if (!e->key_log)
        return;
    fprintf(e->key_log, "SLUICE_DATA_V1 %016" PRIx64 " %016" PRIx64 " ", session_id, receive_id);
    for (int i = 0; i < 32; i++)
        fprintf(e->key_log, "%02x", secret[i]);
    fputc('\n', e->key_log);
    fflush(e->key_log);
}

void edge_close_key_log(struct edge *e)
{
    if (e->key_log)
        fclose(e->key_log);
    e->key_log = NULL;
}
