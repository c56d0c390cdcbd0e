/* Frames that ask for an answer: the answer lies within the room there is, goes back to who asked, and never
 * says that somebody else's address is ours. */
#include "dataplane/io/dpdk/answer.h"
#include "dataplane/io/dpdk/headers.h"

#include <stdlib.h>
#include <string.h>

size_t sl_fuzz_seed(unsigned index, uint8_t *buf, size_t cap);

static const uint8_t mac[6] = {2, 1, 2, 3, 4, 5}, other_mac[6] = {2, 9, 9, 9, 9, 9};
static const uint8_t own4[16] = {[10] = 0xff, [11] = 0xff, 10, 0, 0, 1}, own6[16] = {0xfd, [15] = 1};
static const uint8_t other4[16] = {[10] = 0xff, [11] = 0xff, 10, 0, 0, 2}, other6[16] = {0xfd, [15] = 2};

static bool owns(void *ctx, const uint8_t ip[16])
{
    return memcmp(ip, own4, 16) == 0 || memcmp(ip, own6, 16) == 0;
}

/* The questions of sl_ask, and the answers to them. */
size_t sl_fuzz_seed(unsigned index, uint8_t *buf, size_t cap)
{
    static struct sl_routes routes;
    struct sl_self self = {.owns = owns};
    memcpy(self.mac, mac, 6);
    if (index > 3 || cap < SL_ASK_BYTES + SL_ANSWER_ROOM)
        return 0;
    uint32_t len = index & 1 ? sl_ask(buf, other_mac, other6, own6) : sl_ask(buf, other_mac, other4, own4);
    if (index & 2) {
        if (sl_answer(&self, &routes, buf, &len) != SL_ANSWER_NEIGHBOUR)
            abort();
    }
    return len;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct sl_routes routes = {.n = 0};
    struct sl_self self = {.owns = owns};
    uint32_t len = (uint32_t)size;
    uint8_t *frame = malloc(size + SL_ANSWER_ROOM);
    if (frame == NULL)
        abort();
    memcpy(self.mac, mac, 6);
    memcpy(frame, data, size);
    sl_routes_get(&routes, other4);
    sl_routes_get(&routes, other6);
    enum sl_answer what = sl_answer(&self, &routes, frame, &len);
    if (len > size + SL_ANSWER_ROOM)
        abort();
    if (what == SL_ANSWER_NEIGHBOUR || what == SL_ANSWER_ECHO) {
        bool all_nodes = frame[0] == 0x33 && what == SL_ANSWER_NEIGHBOUR;
        if (memcmp(frame + 6, mac, 6) != 0 || (!all_nodes && memcmp(frame, data + 6, 6) != 0) ||
            (frame[0] & 1 && !all_nodes))
            abort();
    }
    free(frame);
    return 0;
}
