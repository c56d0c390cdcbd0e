/* The reader of recordings. Checks are put right first: without that no mutation would get past them. */
#include "tests/device-sim/replay/recordings.h"

#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
size_t sl_fuzz_seed(unsigned index, uint8_t *buf, size_t cap);

enum { HEADER_CHECKED = 72, ENTRY_CHECKED = 56 };

static void put_right(uint8_t *file, size_t len)
{
    size_t at = SL_RECORDING_HEADER;
    uint64_t check;

    if (len < at)
        return;
    check = sl_recording_check(SL_RECORDING_BASIS, file, HEADER_CHECKED);
    memcpy(file + HEADER_CHECKED, &check, sizeof(check));
    while (len - at >= SL_RECORDING_ENTRY) {
        uint32_t units[2];
        memcpy(units, file + at + 48, sizeof(units));
        uint64_t bytes = ((uint64_t)units[0] + units[1]) * SL_UNIT_BYTES;
        if (bytes > len - at - SL_RECORDING_ENTRY)
            return;
        check = sl_recording_check(SL_RECORDING_BASIS, file + at, ENTRY_CHECKED);
        check = sl_recording_check(check, file + at + SL_RECORDING_ENTRY, bytes);
        memcpy(file + at + ENTRY_CHECKED, &check, sizeof(check));
        at += SL_RECORDING_ENTRY + bytes;
    }
}

size_t sl_fuzz_seed(unsigned index, uint8_t *buf, size_t cap)
{
    char path[] = "/tmp/sluice-fuzz-recording-XXXXXX", err[100];
    struct sl_recorder *r;
    uint64_t kept, left;

    if (index >= SL_CODEC_COUNT)
        return 0;
    struct sl_replay_model m = recording_model((enum sl_codec)index);
    int fd = mkstemp(path);
    if (fd < 0 || sl_recorder_open(path, &m, 0, &r, err, sizeof(err)))
        abort();
    for (uint32_t i = 0; i < 2; i++) {
        struct sl_recording_entry e = recording_entry((enum sl_codec)index, 2 + i, 1 + i, i);
        sl_recorder_add(r, &e);
        free((void *)(uintptr_t)e.units);
    }
    if (sl_recorder_close(r, &kept, &left, err, sizeof(err)))
        abort();
    ssize_t n = pread(fd, buf, cap, 0);
    close(fd);
    unlink(path);
    return n > 0 ? (size_t)n : 0;
}

/* Whatever it takes for an entry lies in the file, and its targets in the vocabulary. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint8_t *file = malloc(size ? size : 1);
    struct sl_recording rec;
    struct sl_recording_entry e;
    const char *wrong;
    size_t at = SL_RECORDING_HEADER;

    memcpy(file, data, size);
    put_right(file, size);
    if (sl_recording_header(file, size, &rec, &wrong) == 0) {
        while (sl_recording_next(&rec, file, size, &at, &e, &wrong) > 0) {
            const uint8_t *targets = e.units + (size_t)e.tensor_units * SL_UNIT_BYTES;
            for (uint32_t i = 0; i < e.rows; i++) {
                uint32_t id;
                memcpy(&id, targets + 4 * (size_t)i, sizeof(id));
                if (id >= rec.model.vocab || targets + 4 * (size_t)i + 4 > file + size)
                    abort();
            }
        }
    }
    free(file);
    return 0;
}
