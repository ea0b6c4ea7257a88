// SPDX-License-Identifier: Apache-2.0
/* Examples of commands, for --help and the manual. A test runs each of them. */
#pragma once

struct example {
    const char *command; /* NULL ends the table */
    const char *about;   /* one phrase, with a capital letter */
    const char *line;    /* as one types it into a shell */
};

/* In the order in which the manual has them. Machine `web` runs or is kept. */
extern const struct example examples[];
