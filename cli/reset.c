// SPDX-License-Identifier: Apache-2.0
/*
 * anima reset: press a machine's reset button.
 */
#include "cli/cli.h"

int command_reset(const struct command *command, int argc, char **argv)
{
    return cli_call(command, argc, argv, "reset");
}
