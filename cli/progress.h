// SPDX-License-Identifier: Apache-2.0
/* Work that lasts, as the user sees it. */
#pragma once

#include "cli/cli.h"

/* Call a method and wait for its end: with a bar on standard error while that is a terminal. Ctrl-C
 * and SIGTERM cancel the work. The result as JSON text for anima_free, or NULL and `error`. */
char *progress_call(struct anima_machine *machine, const char *method, const char *params, int fd,
                    struct anima_error **error);

/* Wait for the end of a call that was begun, in the same way, and destroy it. NULL, for one that
 * could not be begun, gives NULL with `error` as it is. */
char *progress_await(struct anima_call *call, struct anima_error **error);

/* Go on with a machine in the making until it is kept, with the same bar. False and `error` when it
 * failed; false without one when Ctrl-C or SIGTERM gave it up. */
bool progress_create(struct anima_creation *creation, struct anima_error **error);

/* Wait until a machine whose start was begun is there, with the same bar once it is known how much
 * there is to read. False and `error` when it failed; false without one when Ctrl-C or SIGTERM gave
 * it up: then it has ended. */
bool progress_start(struct anima_machine *machine, struct anima_error **error);

/* The signal, SIGINT of Ctrl-C or SIGTERM, that came during the last of these calls; 0: none did.
 */
int progress_interrupted(void);
