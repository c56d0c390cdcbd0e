/* Messages from one thread to one other, by index: a table of entries made once, a ring of posted indices and
 * a ring of free ones. An entry belongs to the producer between claim and post, to the consumer between take
 * and release. */
#pragma once

#include <stddef.h>
#include <stdint.h>

struct sl_mailbox;
/* `entries`: a power of two; entries - 1 can be on their way. NULL: out of memory. */
struct sl_mailbox *sl_mailbox_create(uint32_t entries, size_t entry_bytes);
void sl_mailbox_free(struct sl_mailbox *);

/* Producer only. NULL: all entries are on their way. */
void *sl_mailbox_claim(struct sl_mailbox *);
void sl_mailbox_post(struct sl_mailbox *, void *entry);
uint32_t sl_mailbox_room(const struct sl_mailbox *); /* at least so many can be claimed */

/* Consumer only. NULL: nothing there. */
void *sl_mailbox_take(struct sl_mailbox *);
void sl_mailbox_release(struct sl_mailbox *, void *entry);
