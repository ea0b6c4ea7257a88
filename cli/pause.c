// SPDX-License-Identifier: Apache-2.0
/*
 * anima pause: stop the CPUs and the clock of a machine.
 */
#include "cli/cli.h"

int command_pause(const struct command *command, int argc, char **argv)
{
    return cli_call(command, argc, argv, "pause");
}
