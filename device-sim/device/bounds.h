/* What a Plan bounds of a phone besides its work, and which of it a phone takes. */
#pragma once

#include "dataplane/wire/control.pb-c.h"

/* 0: none. */
struct sl_phone_bounds {
    double clock_hz;    /* of the chip, at most */
    double power_w;     /* of transmission, at the antenna, at most */
    double rate_up_bps; /* pace of DATA, IP packets' bits */
};

/* Takes from a Plan what makes sense: a number that is not finite, negative, or out of any phone's range
 * bounds nothing. Returns the name of the first one left out, NULL: none was. */
const char *sl_phone_bounds_of(const Sluice__Plan *, struct sl_phone_bounds *);
