// SPDX-License-Identifier: Apache-2.0
/*
 * anima resume: let a machine go on.
 */
#include "cli/cli.h"

int command_resume(const struct command *command, int argc, char **argv)
{
    return cli_call(command, argc, argv, "resume");
}
