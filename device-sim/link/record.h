/* Recorded links from files: Mahimahi's traces and series of rates as CSV. Read whole, checked line by line;
 * an error is "FILE:LINE: what is wrong; what to do" and leaves nothing behind. */
#pragma once

#include "device-sim/link/service.h"

enum {
    SL_RECORD_LINES_MAX = 10000000, /* a day at 115 opportunities a second; 40 MB in memory */
};

/* One decimal number of milliseconds a line, not falling (Mahimahi: Netravali et al., ATC 2015; mm-link's
 * format). -ENOENT, -EINVAL, -ENOMEM. */
int sl_trace_load(const char *file, struct sl_trace *, char *err, size_t err_cap);
int sl_trace_parse(
    const char *text, size_t len, const char *name, struct sl_trace *, char *err, size_t err_cap);
void sl_trace_free(struct sl_trace *);

/* CellReplay's records of packet trains: on a line, by blanks, when a train was sent, how long its first
 * packet took, and how long after that one each of its packets came (the first one's 0 included), all in
 * whole ms. At least two lines; the last one's time is the record's length. At most SL_RECORD_LINES_MAX
 * packets in all. */
int sl_light_load(const char *file, struct sl_light *, char *err, size_t err_cap);
int sl_light_parse(
    const char *text, size_t len, const char *name, struct sl_light *, char *err, size_t err_cap);
void sl_light_free(struct sl_light *);

/* CSV with a header. Time is the column time_s or time_ms, or Timestamp with one row a second, as the UCC
 * data set has it (Raca et al., MMSys 2020); the rate is the named column, in what its name ends with (_bps,
 * _kbps, _mbps), or in kbit/s (DL_bitrate, UL_bitrate of that data set). A row's rate holds until the next
 * row's time; the last one's as long as the one before it (one second, where there is none). An empty or "-"
 * rate is 0. */
int sl_series_load(const char *file, const char *column, struct sl_series *, char *err, size_t err_cap);
int sl_series_parse(const char *text, size_t len, const char *name, const char *column, struct sl_series *,
    char *err, size_t err_cap);
void sl_series_free(struct sl_series *);
