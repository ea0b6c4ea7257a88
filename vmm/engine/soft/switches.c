// SPDX-License-Identifier: Apache-2.0
/*
 * The words of ANIMA_SOFT. They are for those who debug the engine: none changes what a guest sees.
 */
#include "vmm/engine/soft/switches.h"

#include <stddef.h>
#include <string.h>

static const struct {
    const char *word;
    size_t offset; /* of a bool */
} words[] = {
    {"interp", offsetof(struct soft_switches, interp)},
    {"nochain", offsetof(struct soft_switches, nochain)},
    {"nowindows", offsetof(struct soft_switches, nowindows)},
    {"noclones", offsetof(struct soft_switches, noclones)},
    {"nobmi2", offsetof(struct soft_switches, nobmi2)},
    {"noavx", offsetof(struct soft_switches, noavx)},
    {"exact", offsetof(struct soft_switches, exact)},
    {"eager", offsetof(struct soft_switches, eager)},
    {"perf", offsetof(struct soft_switches, perf)},
};

static bool set(struct soft_switches *switches, const char *word)
{
    for (unsigned i = 0; i < G_N_ELEMENTS(words); i++) {
        if (strcmp(word, words[i].word) != 0)
            continue;
        *(bool *)((char *)switches + words[i].offset) = true;
        return true;
    }
    return false;
}

static void refuse(const char *word, GError **error)
{
    g_autoptr(GString) all = g_string_new(words[0].word);

    for (unsigned i = 1; i < G_N_ELEMENTS(words); i++)
        g_string_append_printf(all, ", %s", words[i].word);
    g_set_error(error, G_OPTION_ERROR, G_OPTION_ERROR_BAD_VALUE,
                "ANIMA_SOFT: there is no switch '%.40s'; there are %s", word, all->str);
}

bool soft_switches_parse(const char *text, struct soft_switches *switches, GError **error)
{
    g_auto(GStrv) list = g_strsplit(text ? text : "", ",", -1);

    *switches = (struct soft_switches){.log = -1, .perf_map = -1};
    for (char **word = list; *word; word++) {
        if (!**word || set(switches, *word))
            continue;
        refuse(*word, error);
        return false;
    }
    return true;
}
