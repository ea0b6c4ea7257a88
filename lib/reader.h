// SPDX-License-Identifier: Apache-2.0
/* Programs of Anima that read or write something for the library. Private to libanima. */
#pragma once

#include <glib.h>

#include "anima.h"

/* The path of a program that belongs to Anima, such as "anima-vmm"; it lies in $ANIMA_LIBEXEC, in
 * `build_folder` of a build tree (relative to the library's), or where it was installed. NULL with
 * an error. The caller frees it. */
char *program_path(const char *name, const char *build_folder, struct anima_error **error);

/* What the program, called with `argument`, writes to its standard output, with `in` (or -1) as its
 * standard input; cut when it is endless. When that is nothing, NULL and an error with the line
 * that it wrote to its standard error, or else `otherwise`. The caller frees it. */
char *reader_run(const char *program, const char *argument, int in, const char *otherwise,
                 struct anima_error **error);

/* Run the program with the files `in` and `out` as its standard input and output. False and an
 * error as above when it fails. */
bool writer_run(const char *program, int in, int out, const char *otherwise,
                struct anima_error **error);
