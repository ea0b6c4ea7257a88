// SPDX-License-Identifier: Apache-2.0
/*
 * Printing a stream that may come from anywhere: the sandbox is closed before its first byte is
 * read.
 */
#include "vmm/dump.h"

#include <stdio.h>
#include <unistd.h>

#include "vmm/monitor/sandbox.h"
#include "vmm/state/stream.h"

int dump_main(void)
{
    g_autoptr(GString) text = g_string_new(NULL);
    g_autoptr(GError) error = NULL;
    struct sandbox_report report = {0};
    /* The name for messages, while it can still be asked for. */
    g_autofree char *name = g_file_read_link("/proc/self/fd/0", NULL);
    bool good = sandbox_enter(SANDBOX_DUMP, false, &report, &error) &&
                stream_dump(STDIN_FILENO, text, &error);

    /* What could be read is shown even when the rest is damaged. */
    fwrite(text->str, 1, text->len, stdout);
    fflush(stdout);
    if (!good)
        fprintf(stderr, "anima: %s: %s\n", name ? name : "standard input", error->message);
    return good ? 0 : 1;
}
