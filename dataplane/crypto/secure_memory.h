/* Memory for keys, session tables and slots: our own mapping, never EAL's (memif maps EAL memory into the
 * peer: rules T14), excluded from core dumps, on huge pages where there are some, between guard pages. What a
 * thread with a NUMA policy of its own maps (set_mempolicy(2)) lies where that says, whoever touches it
 * first. */
#pragma once

#include <stddef.h>

void *sl_secure_map(size_t bytes);          /* zeroed, page-aligned; NULL: out of memory */
void sl_secure_unmap(void *, size_t bytes); /* wiped first */
