/* Presets of phones and of their radios' states, with where each figure comes from. Internal to the folder.
 */
#pragma once

#include "trainer/experiment/experiment.h"

/* NULL: there is none of that name. */
const struct sl_class_config *sl_class_preset(const char *name);
const struct sl_rrc_keys *sl_rrc_preset(const char *kind);
