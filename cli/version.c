// SPDX-License-Identifier: Apache-2.0
/*
 * anima version: the version, and with --features what this build and this host can do.
 */
#include <stdio.h>
#include <unistd.h>

#include "cli/cli.h"

const struct cli_flag version_flags[] = {
    {"features", NULL, "show what this build and this host offer"},
    {"json", NULL, "print JSON"},
    {0},
};

static json_t *describe_option(const char *key)
{
    const char *const *choices = anima_option_choices(anima_option_find(key));
    json_t *list = json_array();

    for (; choices && *choices; choices++)
        json_array_append_new(list, json_string(*choices));
    return list;
}

/* The programs beside the vmm that this build has. */
static json_t *describe_helpers(void)
{
    g_auto(GStrv) names = g_strsplit(ANIMA_HELPERS, " ", -1);
    json_t *list = json_array();

    for (char **name = names; *name; name++)
        if (**name)
            json_array_append_new(list, json_string(*name));
    return list;
}

static json_t *describe(bool features)
{
    json_t *version = json_pack("{s:s}", "version", anima_version());

    if (!features)
        return version;
    json_object_set_new(version, "machines", describe_option("machine"));
    json_object_set_new(version, "engines", describe_option("engine"));
    json_object_set_new(version, "devices", describe_option("device"));
    json_object_set_new(version, "helpers", describe_helpers());
    json_object_set_new(version, "kvm", json_boolean(access("/dev/kvm", R_OK | W_OK) == 0));
    return version;
}

static void print_features(json_t *version)
{
    const char *key;
    json_t *value, *entry;
    size_t i;

    json_object_foreach(version, key, value)
    {
        if (json_is_string(value))
            continue;
        printf("%s:", key);
        json_array_foreach(value, i, entry) printf(" %s", json_string_value(entry));
        if (json_is_boolean(value))
            printf(" %s", json_is_true(value) ? "usable" : "not usable by this user");
        putchar('\n');
    }
}

int command_version(const struct command *command, int argc, char **argv)
{
    int status;
    g_autoptr(cli_words) words = cli_words_parse(command, argc, argv, &status);
    json_t *version;

    if (!words)
        return status;
    version = describe(cli_flag(words, "features"));
    if (cli_flag(words, "json")) {
        json_dumpf(version, stdout, JSON_INDENT(2));
        putchar('\n');
    } else {
        printf("anima %s\n", anima_version());
        print_features(version);
    }
    json_decref(version);
    return CLI_GOOD;
}
