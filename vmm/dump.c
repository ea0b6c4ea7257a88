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

static bool read_definition(int fd, GString *out, GError **error)
{
    struct stream_reader *reader = stream_reader_create(fd, error);

    if (reader)
        g_string_assign(out, stream_reader_definition(reader));
    stream_reader_destroy(reader);
    return reader;
}

/* In the sandbox, print what `read` makes of standard input. */
static int print(bool (*read)(int fd, GString *out, GError **error))
{
    g_autoptr(GString) text = g_string_new(NULL);
    g_autoptr(GError) error = NULL;
    struct sandbox_report report = {0};
    /* The name for messages, while it can still be asked for. */
    g_autofree char *name = g_file_read_link("/proc/self/fd/0", NULL);
    bool good =
        sandbox_enter(SANDBOX_DUMP, false, &report, &error) && read(STDIN_FILENO, text, &error);

    /* What could be read is shown even when the rest is damaged. */
    fwrite(text->str, 1, text->len, stdout);
    fflush(stdout);
    if (!good)
        fprintf(stderr, "anima: %s: %s\n", name ? name : "standard input", error->message);
    return good ? 0 : 1;
}

int dump_main(void)
{
    return print(stream_dump);
}

int dump_definition_main(void)
{
    return print(read_definition);
}
