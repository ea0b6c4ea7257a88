// SPDX-License-Identifier: Apache-2.0
/*
 * A file that takes what a machine says, for as long as that lives: a log of two generations, so
 * that no guest can fill the disk. When the file is full it is renamed to "NAME.old", over the one
 * before it, and a new one takes its place under the same descriptor. When somebody else has
 * renamed or removed it, as logrotate(8) does, a new one is begun too.
 */
#pragma once

#include <glib.h>
#include <stdbool.h>

#define LOG_FILE_MAX (1U << 20) /* bytes of one generation */

struct log_file;

/* Look after the file at the absolute `path`, to which `fd` appends; it stays the caller's. NULL
 * when `path` is NULL or is not that file: then it is nobody's business to rename it. */
struct log_file *log_file_create(int fd, const char *path);
/* NULL is fine. The descriptor stays open. */
void log_file_destroy(struct log_file *file);

/* Make room for a write of `length` bytes that follows. NULL is fine. */
void log_file_turn(struct log_file *file, size_t length);
