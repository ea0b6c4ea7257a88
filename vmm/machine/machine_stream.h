// SPDX-License-Identifier: Apache-2.0
/* A whole machine written to a stream, and read from one. */
#pragma once

#include "vmm/machine/machine.h"
#include "vmm/state/stream.h"

/* Sections of others in the stream of a machine that is handed over; they come before what the
 * devices are told. */
struct machine_stream_extra {
    bool (*save)(void *opaque, struct stream_writer *writer, GError **error);
    /* A section that is none of the machine's own. */
    stream_section_fn load;
    void *opaque;
};

/* A paused machine on its way into a stream. What is small is taken at once, the RAM is read as it
 * is written: until machine_saver_destroy the machine does not resume, nor is it reset. */
struct machine_saver;

/* With the machine's definition as JSON text. Control thread. NULL also while something waits that
 * the guest asked for (a reset, its end): the stream has no place for it, and the guest would go on
 * as if refused. */
struct machine_saver *machine_saver_create(struct machine *machine, const char *definition,
                                           GError **error);
/* Write all to the blocking descriptor `fd`; `progress` (NULL: nobody asks) tells how far that is,
 * and can stop it. Any thread, once. */
bool machine_saver_write(struct machine_saver *saver, int fd, struct stream_progress *progress,
                         GError **error);
/* Control thread. NULL is fine. */
void machine_saver_destroy(struct machine_saver *saver);

/* All of that in one. */
bool machine_save(struct machine *machine, int fd, const char *definition, GError **error);

/* The same for another process that has the machine's RAM by its descriptor: the stream says so in
 * place of the RAM. Control thread. */
bool machine_save_handover(struct machine *machine, int fd, const char *definition,
                           const struct machine_stream_extra *extra, GError **error);

/* Only what a machine can be made of before the state is there: a stream of the definition and the
 * processors. The machine may run. */
bool machine_save_head(struct machine *machine, int fd, const char *definition, GError **error);

/* Read the first section: the processors on which the state was saved. */
bool machine_load_head(struct stream_reader *reader, struct cpu_definition *cpu, GError **error);

/* Read the rest of a stream into a machine made from its definition (config.incoming) that has not
 * run. `extra` may be NULL. On false it is half loaded, counts as crashed, and is good for
 * machine_destroy only. */
bool machine_load(struct machine *machine, struct stream_reader *reader,
                  const struct machine_stream_extra *extra, GError **error);
