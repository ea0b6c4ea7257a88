// SPDX-License-Identifier: Apache-2.0
/*
 * A build tool: copy a manual's source (scdoc(5)) from standard input to standard output, with the
 * examples of the commands in the place of the line @EXAMPLES@.
 */
#include <stdio.h>
#include <string.h>

#include "cli/examples.h"

int main(void)
{
    char line[1024];

    while (fgets(line, sizeof(line), stdin)) {
        if (strcmp(line, "@EXAMPLES@\n") != 0) {
            fputs(line, stdout);
            continue;
        }
        for (const struct example *example = examples; example->command; example++)
            printf("%s:\n\n```\n%s\n```\n\n", example->about, example->line);
    }
    return ferror(stdout) ? 1 : 0;
}
