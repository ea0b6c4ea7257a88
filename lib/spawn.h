// SPDX-License-Identifier: Apache-2.0
/* Starting programs of Anima that serve a connection. Private to libanima. */
#pragma once

#include "anima.h"

/* Start the program in the role; returns the connection that it serves and whose end it dies of, or
 * -1. */
int spawn_server(const char *path, const char *role, struct anima_error **error);
