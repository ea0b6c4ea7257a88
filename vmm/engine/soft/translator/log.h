// SPDX-License-Identifier: Apache-2.0
/*
 * For those who debug the translator or look where time goes: the log that ANIMA_SOFT_LOG asks for,
 * and the map by which perf(1) names translated code.
 */
#pragma once

#include "vmm/engine/soft/translator/translation.h"

/* The glue was made. */
void translator_log_glue(const struct soft_translator *translator);

/* `build` has just become a translation: write its guest's instructions beside the host's to the
 * log, and a line to the map. Does nothing where nobody asked. */
/* One that clone.c made, without the guest's instructions. */
void translator_log_clone(struct soft_translator *translator,
                          const struct translation *translation);
void translator_log_translation(const struct build *build);
