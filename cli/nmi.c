// SPDX-License-Identifier: Apache-2.0
/*
 * anima nmi: send a machine a non-maskable interrupt.
 */
#include "cli/cli.h"

int command_nmi(const struct command *command, int argc, char **argv)
{
    return cli_call(command, argc, argv, "nmi");
}
