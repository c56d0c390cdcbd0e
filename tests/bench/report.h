/* A result on stdout: JSON as it is, or the same fields as an indented table. */
#pragma once

#include <cjson/cJSON.h>
#include <stdbool.h>

void bench_report(const cJSON *, bool as_json);
