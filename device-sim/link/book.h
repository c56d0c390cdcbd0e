/* The links of an experiment's phones: reads the records that its classes name, once each, and says what each
 * phone's two directions are. */
#pragma once

#include "device-sim/link/link.h"
#include "trainer/experiment/experiment.h"

struct sl_link_book;
/* err: of a file, "FILE:LINE: ...". The book must outlive the links that are made from it. */
int sl_link_book_open(const struct sl_experiment *, struct sl_link_book **, char *err, size_t err_cap);
void sl_link_book_close(struct sl_link_book *);

struct sl_link_pair {
    struct sl_link_params up, down;
};
/* start_ns: time 0 of the run, on the clock of the links. A phone's start phase is the same in both
 * directions, whole milliseconds into the longer record, a function of (seed, phone). */
void sl_link_book_phone(
    const struct sl_link_book *, uint32_t phone, uint64_t start_ns, struct sl_link_pair *);
