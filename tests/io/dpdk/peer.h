/* What a test's memif peer says about itself, in a file that the test maps. */
#pragma once

#include <stdint.h>

struct peer_report {
    uint64_t alive;  /* its loop turns */
    uint64_t rx, tx; /* datagrams */
    uint64_t bad;    /* datagrams whose content is not what the other end wrote */
    uint64_t link_up, reconnects;
    uint64_t drops; /* of all names together */
    uint64_t passes, pass_ns, pass_max_ns;
    uint64_t held_back; /* turns in which the port rested */
};
