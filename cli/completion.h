// SPDX-License-Identifier: Apache-2.0
/*
 * The completion scripts of the shells, each printed from the table of commands and the schema.
 */
#pragma once

#include <stdbool.h>

#include "cli/cli.h"

void completion_print_bash(void);
void completion_print_zsh(void);
void completion_print_fish(void);

/* Whether the words of the command, which takes some, are names of machines. */
bool completion_wants_names(const struct command *command);
