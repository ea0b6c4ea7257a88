// SPDX-License-Identifier: Apache-2.0
/*
 * anima kill: end a machine at once.
 */
#include "cli/cli.h"

int command_kill(const struct command *command, int argc, char **argv)
{
    return cli_call(command, argc, argv, "kill");
}
