// SPDX-License-Identifier: Apache-2.0
/*
 * anima create: keep a definition under a name; with --cloud-image, with a copy of that as its
 * disk.
 */
#include <pwd.h>
#include <string.h>
#include <unistd.h>

#include "cli/cli.h"
#include "cli/progress.h"

/* From the command's words; NULL after a message. */
static struct anima_definition *define(const struct cli_words *words, int *status)
{
    struct anima_definition *definition = anima_definition_create();
    const char *file = cli_word(words, 1);
    struct anima_error *error = NULL;

    if (file && !anima_definition_load(definition, file, &error))
        *status = cli_fail_error(error);
    else if (cli_define(definition, words, status)) {
        if (anima_definition_set(definition, "name", cli_word(words, 0), &error) &&
            cli_fill(definition, &error))
            return definition;
        *status = cli_fail_error(error);
    }
    anima_definition_destroy(definition);
    return NULL;
}

/* ---- a cloud's image ---- */

/* The options as a JSON object; of those that are given several times, a list. */
static json_t *gather(const struct cli_words *words)
{
    json_t *cloud = json_object();

    for (unsigned i = 0; i < words->cloud->len; i += 2) {
        const char *key = words->cloud->pdata[i];
        json_t *value = json_string(words->cloud->pdata[i + 1]);

        if (strcmp(key, "ssh-key") != 0) {
            json_object_set_new(cloud, key, value);
            continue;
        }
        if (!json_object_get(cloud, key))
            json_object_set_new(cloud, key, json_array());
        json_array_append_new(json_object_get(cloud, key), value);
    }
    return cloud;
}

static bool has(const json_t *cloud, const char *key)
{
    return json_object_get(cloud, key);
}

/* Public keys that ssh(1) would show by itself, in the caller's folder; their names. */
static GPtrArray *find_keys(const char *home)
{
    static const char *const names[] = {"id_ed25519", "id_ecdsa", "id_rsa", "id_ed25519_sk",
                                        "id_ecdsa_sk"};
    GPtrArray *found = g_ptr_array_new_with_free_func(g_free);

    for (unsigned i = 0; i < G_N_ELEMENTS(names); i++) {
        g_autofree char *key = g_build_filename(home, ".ssh", names[i], NULL);
        g_autofree char *pub = g_strconcat(key, ".pub", NULL);

        if (access(key, F_OK) == 0 && access(pub, R_OK) == 0)
            g_ptr_array_add(found, g_steal_pointer(&pub));
    }
    return found;
}

/* The caller's own key, if there is no doubt which; true as well when it is for the library to say
 * that there is none. */
static bool choose_key(json_t *cloud)
{
    const char *home = g_get_home_dir();
    g_autoptr(GPtrArray) found = find_keys(home ? home : "/");

    if (found->len > 1)
        return cli_fail(false, "--ssh-key: %s and %s; which of them?",
                        (const char *)found->pdata[0], (const char *)found->pdata[1]);
    if (found->len) {
        json_object_set_new(cloud, "ssh-key", json_string(found->pdata[0]));
        cli_fail(0, "the key %s lets '%s' in", (const char *)found->pdata[0],
                 json_string_value(json_object_get(cloud, "user")));
    }
    return true;
}

/* Who calls is whom the guest shall know, and the key is his. */
static bool choose(json_t *cloud)
{
    const struct passwd *caller = getuid() ? getpwuid(getuid()) : NULL;

    if (has(cloud, "user-data") && !has(cloud, "user"))
        return true;
    if (!has(cloud, "user") && caller)
        json_object_set_new(cloud, "user", json_string(caller->pw_name));
    if (has(cloud, "user") && !has(cloud, "ssh-key") && !has(cloud, "password-hash"))
        return choose_key(cloud);
    return true;
}

static int keep_cloud(struct anima_definition *definition, const struct cli_words *words)
{
    json_t *cloud = gather(words);
    struct anima_creation *creation = NULL;
    struct anima_error *error = NULL;
    int status = CLI_USAGE;
    char *text;

    if (choose(cloud)) {
        text = json_dumps(cloud, 0);
        creation = anima_definition_keep_cloud(definition, text, &error);
        free(text);
    }
    json_decref(cloud);
    if (creation && progress_create(creation, &error))
        status = CLI_GOOD;
    else if (error)
        status = cli_fail_error(error);
    else if (creation)
        status = cli_fail(CLI_FAILED, "%s: given up; nothing of it is left", cli_word(words, 0));
    anima_creation_destroy(creation);
    return status;
}

/* ---- the command ---- */

int command_create(const struct command *command, int argc, char **argv)
{
    int status;
    g_autoptr(cli_words) words = cli_words_parse(command, argc, argv, &status);
    struct anima_definition *definition;
    struct anima_error *error = NULL;

    if (!words)
        return status;
    if (cli_setting(words, "name"))
        return cli_fail(CLI_USAGE, "--name: the machine's name is the first word");
    definition = define(words, &status);
    if (!definition)
        return status;
    if (words->cloud->len)
        status = keep_cloud(definition, words);
    else
        status = anima_definition_keep(definition, &error) ? CLI_GOOD : cli_fail_error(error);
    anima_definition_destroy(definition);
    return status;
}
