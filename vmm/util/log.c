// SPDX-License-Identifier: Apache-2.0
/*
 * The writer of GLib's log (GLib reference, "Message Logging").
 *
 * GLib's own writer asks whether standard error is the journal's socket and reads the time zone's
 * file for its time stamps. A sandboxed process makes neither call, and a guest's error, which is
 * logged, must not end it. A message is one line and one write, so that threads do not mix theirs.
 */
#include "vmm/util/log.h"

#include <errno.h>
#include <glib.h>
#include <string.h>
#include <unistd.h>

static const char *level_name(GLogLevelFlags level)
{
    if (level & G_LOG_LEVEL_ERROR)
        return "error: ";
    if (level & G_LOG_LEVEL_CRITICAL)
        return "critical: ";
    return level & G_LOG_LEVEL_WARNING ? "warning: " : "";
}

static const char *message_of(const GLogField *fields, gsize count)
{
    for (gsize i = 0; i < count; i++)
        if (g_str_equal(fields[i].key, "MESSAGE") && fields[i].length < 0)
            return fields[i].value;
    return "";
}

static GLogWriterOutput write_line(GLogLevelFlags level, const GLogField *fields, gsize count,
                                   gpointer opaque)
{
    g_autofree char *line = NULL;
    ssize_t written;

    if (level & (G_LOG_LEVEL_INFO | G_LOG_LEVEL_DEBUG))
        return G_LOG_WRITER_HANDLED;
    line = g_strconcat(level_name(level), message_of(fields, count), "\n", NULL);
    do
        written = write(STDERR_FILENO, line, strlen(line));
    while (written < 0 && errno == EINTR);
    return written < 0 ? G_LOG_WRITER_UNHANDLED : G_LOG_WRITER_HANDLED;
}

void log_start(void)
{
    g_log_set_writer_func(write_line, NULL, NULL);
}
