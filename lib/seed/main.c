// SPDX-License-Identifier: Apache-2.0
/*
 * anima-seed: write a small ISO 9660 file system (with Rock Ridge and Joliet) to standard output.
 *
 * On standard input is a JSON object: "label", the volume's name, and "files", an object of names
 * and their texts. It is what cloud-init's data source NoCloud looks for under the label "cidata".
 *
 * A program of its own, since libarchive brings a dozen libraries that no other command shall pay
 * for. It reads nothing that a guest or an image wrote.
 */
#include <archive.h>
#include <archive_entry.h>
#include <glib.h>
#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define BLOCK 2048 /* bytes, ECMA-119 section 6.1.2 */

static bool write_file(struct archive *archive, const char *name, const char *text)
{
    struct archive_entry *entry = archive_entry_new();
    size_t length = strlen(text);
    bool good;

    archive_entry_set_pathname(entry, name);
    archive_entry_set_filetype(entry, AE_IFREG);
    archive_entry_set_perm(entry, 0444);
    archive_entry_set_size(entry, (la_int64_t)length);
    archive_entry_set_mtime(entry, time(NULL), 0);
    good = archive_write_header(archive, entry) == ARCHIVE_OK &&
           archive_write_data(archive, text, length) == (la_ssize_t)length;
    archive_entry_free(entry);
    return good;
}

/* The options of iso9660 in archive_write_set_options(3). */
static bool prepare(struct archive *archive, const char *label)
{
    return archive_write_set_format_iso9660(archive) == ARCHIVE_OK &&
           archive_write_set_format_option(archive, "iso9660", "volume-id", label) == ARCHIVE_OK &&
           archive_write_set_format_option(archive, "iso9660", "pad", NULL) == ARCHIVE_OK &&
           archive_write_set_bytes_per_block(archive, BLOCK) == ARCHIVE_OK &&
           archive_write_open_fd(archive, STDOUT_FILENO) == ARCHIVE_OK;
}

static bool write_all(struct archive *archive, const json_t *seed)
{
    const char *label = json_string_value(json_object_get(seed, "label")), *name;
    json_t *files = json_object_get(seed, "files"), *text;
    bool good = label && prepare(archive, label);

    json_object_foreach(files, name, text) good =
        good && json_is_string(text) && write_file(archive, name, json_string_value(text));
    return archive_write_close(archive) == ARCHIVE_OK && good;
}

int main(void)
{
    json_error_t problem;
    json_t *seed = json_loadf(stdin, 0, &problem);
    struct archive *archive = archive_write_new();
    bool good = seed && write_all(archive, seed);

    if (!good) {
        const char *why = seed ? archive_error_string(archive) : problem.text;

        fprintf(stderr, "anima: %s\n", why ? why : "no label, or a file that is no text");
    }
    archive_write_free(archive);
    json_decref(seed);
    return good ? 0 : 1;
}
