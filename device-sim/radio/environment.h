/* From the experiment file's `radio` to the radio of all phones. */
#pragma once

#include "device-sim/radio/radio.h"
#include "trainer/experiment/experiment.h"

struct sl_radio_book; /* configurations and recorded paths; must outlive the radio */
/* err: of a path's file, "FILE:LINE: ...". No environments: a book without any. */
int sl_radio_book_open(const struct sl_experiment *, struct sl_radio_book **, char *err, size_t err_cap);
void sl_radio_book_close(struct sl_radio_book *);
const struct sl_radio_config *sl_radio_book_config(const struct sl_radio_book *, uint32_t environment);
/* As sl_radio_create, with every phone where its class's link says. */
int sl_radio_book_create(const struct sl_radio_book *, uint64_t start_ns,
    void (*moved)(void *app, uint32_t phone, uint64_t now_ns), void *app, struct sl_radio **);
