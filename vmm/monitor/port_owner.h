// SPDX-License-Identifier: Apache-2.0
/* Who has a port of this host: for messages. */
#pragma once

#include <netinet/in.h>
#include <stdbool.h>

/* "process 123 (nginx)" for the program that has TCP or UDP port `address`, or NULL when it cannot
 * be found, as a program of another user's cannot. The caller frees it. */
char *port_owner(bool udp, const struct sockaddr_in *address);
