/* Plaintext of a control connection, as a device or an edge with a good certificate may send it. The first
 * byte chooses the role and how far the connection is; with its top bit set, what follows is put behind a
 * right length. */
#include "dataplane/control/peer_internal.h"
#include "tests/fuzz/fuzz_tls_contexts.h"

#include <stdlib.h>
#include <string.h>

static double sum; /* so that every float of an adapter is read */

static void established(void *app, struct sl_control *c)
{
}

static void message(void *app, struct sl_control *c, const Sluice__Envelope *e)
{
    if (e->body_case == SLUICE__ENVELOPE__BODY_HEARTBEAT)
        sl_control_refuse(c, SLUICE__ERROR_CODE__ERROR_CONTENT, "refused in a callback");
}

static void adapter(void *app, struct sl_control *c, const struct sl_adapter_transfer *t)
{
    for (size_t i = 0; i < t->n; i++)
        sum += (double)t->data[i];
}

static void closed(void *app, struct sl_control *c, Sluice__ErrorCode code, const char *text)
{
    if (strlen(text) > SL_CONTROL_TEXT_MAX)
        abort();
}

/* Seeds: one legal message for each role and state, behind the byte that puts the connection there. */
size_t sl_fuzz_seed(unsigned index, uint8_t *buf, size_t cap)
{
    static float floats[5000];
    Sluice__Codec codecs[] = {SLUICE__CODEC__CODEC_F32, SLUICE__CODEC__CODEC_BF16};
    Sluice__Hello hello = SLUICE__HELLO__INIT;
    Sluice__LoraConfig lora = SLUICE__LORA_CONFIG__INIT;
    Sluice__Welcome welcome = SLUICE__WELCOME__INIT;
    Sluice__Plan plan = SLUICE__PLAN__INIT;
    Sluice__AdapterPull pull = SLUICE__ADAPTER_PULL__INIT;
    Sluice__AdapterChunk chunk = SLUICE__ADAPTER_CHUNK__INIT;
    Sluice__Heartbeat heartbeat = SLUICE__HEARTBEAT__INIT;
    Sluice__Error error = SLUICE__ERROR__INIT;
    Sluice__Envelope e = SLUICE__ENVELOPE__INIT;
    size_t len;

    buf[0] = 0x85; /* an edge in OPEN, right length */
    switch (index) {
    case 0:
        buf[0] = 0x81; /* before Hello */
        hello.codecs = codecs;
        hello.n_codecs = 2;
        hello.device_class = (char *)"midrange";
        hello.model_hash = (ProtobufCBinaryData){32, (uint8_t *)floats};
        e.body_case = SLUICE__ENVELOPE__BODY_HELLO;
        e.hello = &hello;
        break;
    case 1:
        buf[0] = 0x82; /* a device that waits for Welcome */
        welcome.lora = &lora;
        welcome.notice = (char *)"the edge reads your text";
        e.body_case = SLUICE__ENVELOPE__BODY_WELCOME;
        e.welcome = &welcome;
        break;
    case 2:
        buf[0] = 0x84;
        plan.cut = 3;
        plan.give_moments = true;
        e.body_case = SLUICE__ENVELOPE__BODY_PLAN;
        e.plan = &plan;
        break;
    case 3:
        pull.version = 7;
        e.body_case = SLUICE__ENVELOPE__BODY_ADAPTER_PULL;
        e.adapter_pull = &pull;
        break;
    case 4:
    case 5:
        chunk.last = 2;
        chunk.total_bytes = index == 4 ? sizeof(floats) : 2 * sizeof(floats);
        chunk.data = (ProtobufCBinaryData){sizeof(floats), (uint8_t *)floats};
        e.body_case = SLUICE__ENVELOPE__BODY_ADAPTER_CHUNK;
        e.adapter_chunk = &chunk;
        break;
    case 6:
        heartbeat.battery = 0.5;
        e.body_case = SLUICE__ENVELOPE__BODY_HEARTBEAT;
        e.heartbeat = &heartbeat;
        break;
    case 7:
        error.code = SLUICE__ERROR_CODE__ERROR_FULL;
        error.text = (char *)"full";
        e.body_case = SLUICE__ENVELOPE__BODY_ERROR;
        e.error = &error;
        break;
    case 8:
    case 9:
        chunk.kind =
            index == 8 ? SLUICE__ADAPTER_KIND__ADAPTER_GRADIENTS : SLUICE__ADAPTER_KIND__ADAPTER_MOMENTS;
        chunk.last = 1;
        chunk.step = 12;
        chunk.total_bytes = sizeof(floats);
        chunk.data = (ProtobufCBinaryData){sizeof(floats), (uint8_t *)floats};
        e.body_case = SLUICE__ENVELOPE__BODY_ADAPTER_CHUNK;
        e.adapter_chunk = &chunk;
        break;
    default:
        return 0;
    }
    len = sluice__envelope__get_packed_size(&e);
    if (1 + len > cap)
        return 0;
    return 1 + sluice__envelope__pack(&e, buf + 1);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const struct sl_control_ops ops = {established, message, adapter, closed};
    struct sl_control_config config = {.adapter_bytes_max = 100000};
    struct sl_control *c;
    uint8_t mode, head[4] = {0};

    if (size < 2)
        return 0;
    mode = *data++;
    size--;
    config.role = mode & 1 ? SL_CONTROL_EDGE : SL_CONTROL_DEVICE;
    if (sl_control_create(&config, fuzz_tls_context(), &ops, NULL, 0, &c) != 0)
        abort();
    c->state = (enum sl_control_state)(SL_CONTROL_HELLO + (mode >> 1) % 3);
    if (mode & 0x80) {
        head[1] = (uint8_t)(size >> 16);
        head[2] = (uint8_t)(size >> 8);
        head[3] = (uint8_t)size;
        sl_control_input(c, head, sizeof(head));
    }
    /* in two pieces, so that every cut is tried */
    sl_control_input(c, data, size / 2);
    sl_control_input(c, data + size / 2, size - size / 2);
    sl_control_eof(c, NULL);
    sl_control_free(c);
    return 0;
}
