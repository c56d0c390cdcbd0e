/* Loss of packets on one link: Gilbert and Elliott's channel (Elliott, 1963) with two states, each with its
 * own probability of loss, between which the channel may change before each packet. Independent (Bernoulli)
 * loss is the channel that never leaves its good state. Stationary loss: (p bad + r good) / (p + r) with p =
 * good_to_bad, r = bad_to_good; with bad 1 and good 0 bursts are geometric with mean 1 / r. The first packet
 * finds the stationary state. What packet i meets is a function of (key, i) and the packets before it. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct sl_loss_params {
    double good;        /* probability of loss in the good state */
    double bad;         /* in the bad state */
    double good_to_bad; /* 0: it stays good, and loss is independent */
    double bad_to_good;
};

struct sl_loss {
    double good, bad, good_to_bad, bad_to_good;
    uint64_t key, i;
    bool is_bad;
};

/* -EINVAL: not a probability, or a bad state that is never left or entered where the other way is given. */
int sl_loss_init(struct sl_loss *, const struct sl_loss_params *, uint64_t key);
bool sl_loss_next(struct sl_loss *); /* whether the next packet is lost */
double sl_loss_mean(const struct sl_loss_params *);
