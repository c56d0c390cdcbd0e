/* Where the phones are: their addresses follow from their numbers, and the other way round. */
#pragma once

#include "dataplane/transport/endpoint.h"
#include "trainer/experiment/experiment.h"

#include <stdbool.h>

enum { SL_PHONE_PORT = 5000 };

struct sl_phone_addresses {
    struct sl_addr first;
    bool by_port; /* phone i: first.port + i, one address for all; else an address for each, one port for all:
                   * the last two octets of `first` become 1 + i / 250 and 1 + i % 250 */
};

/* As edge.data.fleet_address says; without it, what suits the fleet's back end and the edge's address:
 * addresses for each where nothing or the loopback interface is between the two, else the address of this
 * host towards the edge. -EINVAL and the like with err. */
int sl_phone_addresses(const struct sl_experiment *, struct sl_phone_addresses *, char *err, size_t err_cap);

struct sl_addr sl_phone_address(const struct sl_phone_addresses *, uint32_t phone);
/* -1: no phone's. */
int sl_phone_of_address(const struct sl_phone_addresses *, const struct sl_addr *, uint32_t n_phones);
/* A phone's second address, which it has after every other handover with a new one: away makes it of the
 * first, home makes the first of either and leaves others alone. Not where phones are told apart by ports. */
void sl_phone_address_away(struct sl_addr *);
void sl_phone_address_home(const struct sl_phone_addresses *, struct sl_addr *);
