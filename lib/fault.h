// SPDX-License-Identifier: Apache-2.0
/* Making the public errors out of the internal ones. Private to libanima. */
#pragma once

#include <glib.h>

#include "anima.h"

/* Exported from the library, whose other symbols are hidden. */
#define ANIMA_API __attribute__((visibility("default")))

/* Set *error (unless `error` is NULL) to a formatted message. */
void error_set(struct anima_error **error, enum anima_error_code code, const char *format, ...)
    G_GNUC_PRINTF(3, 4);

/* Put `prefix` before the message, and make it an error of `code`. */
void error_prefix(struct anima_error *error, enum anima_error_code code, const char *prefix);

/* Turn `cause` (taken over) into *error. */
void error_take(struct anima_error **error, GError *cause);

/* `good`; where it is false, `cause` is taken over into *error. */
bool error_outcome(bool good, GError *cause, struct anima_error **error);
