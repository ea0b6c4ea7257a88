// SPDX-License-Identifier: Apache-2.0
/*
 * anima-import: read a foreign description of a machine from standard input, and print a JSON
 * object: "yaml", the text of a vm.yaml, and "lost", a list of what could not be carried over. With
 * the name of another role, import and export packages (package.h).
 *
 * The file may be anybody's, and libxml2 is large: the sandbox is closed before its first byte is
 * read.
 */
#include <errno.h>
#include <jansson.h>
#include <libxml/parser.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "config/limits.h"
#include "vmm/import/import.h"
#include "vmm/import/package.h"
#include "vmm/monitor/sandbox.h"
#include "vmm/util/log.h"

/* The whole of standard input, and a byte more than is allowed. */
static GByteArray *read_input(void)
{
    GByteArray *bytes = g_byte_array_new();
    guint8 buffer[4096];
    ssize_t count;

    while (
        bytes->len <= CONFIG_FILE_MAX &&
        ((count = read(STDIN_FILENO, buffer, sizeof(buffer))) > 0 || (count < 0 && errno == EINTR)))
        if (count > 0)
            g_byte_array_append(bytes, buffer, count);
    return bytes;
}

static void print(const struct import *import)
{
    g_autofree char *yaml = definition_to_yaml(import->definition, false);
    json_t *lost = json_array(), *result = json_object();

    for (unsigned i = 0; i < import->lost->len; i++)
        json_array_append_new(lost, json_string(import->lost->pdata[i]));
    json_object_set_new(result, "yaml", json_string(yaml));
    json_object_set_new(result, "lost", lost);
    json_dumpf(result, stdout, 0);
    fflush(stdout);
    json_decref(result);
}

static int description_run(void)
{
    struct sandbox_report report = {0};
    g_autoptr(GByteArray) input = NULL;
    g_autoptr(GError) error = NULL;
    struct import import;
    bool good;

    log_start();
    xmlInitParser();
    /* Random numbers, which it would open a file for later. */
    json_object_seed(0);
    good = sandbox_enter(SANDBOX_DUMP, false, &report, &error);
    import_init(&import);
    if (good) {
        input = read_input();
        good = import_read(&import, (char *)input->data, input->len, &error);
    }
    if (good)
        print(&import);
    else
        fprintf(stderr, "%s\n", error->message);
    import_finish(&import);
    return good ? 0 : 1;
}

int main(int argc, char **argv)
{
    static const struct {
        const char *name;
        int (*run)(void);
    } roles[] = {{"worker", worker_run}, {"package", package_run}};

    if (argc == 1)
        return description_run();
    for (unsigned i = 0; argc == 2 && i < G_N_ELEMENTS(roles); i++)
        if (strcmp(roles[i].name, argv[1]) == 0)
            return roles[i].run();
    return 2;
}
