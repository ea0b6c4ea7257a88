// SPDX-License-Identifier: Apache-2.0
/*
 * Candidates by type; what the option takes after all, such as any text, is no wrong value.
 */
#include "tests/unit/wrong_values.h"

#include <string.h>

#include "config/limits.h"

static void wrong_free(void *opaque)
{
    struct wrong_value *wrong = opaque;

    g_free(wrong->key);
    g_free(wrong->text);
    g_free(wrong);
}

/* Whether the option refuses the text as its only setting. */
static bool is_refused(const char *key, const char *text)
{
    struct definition *definition = definition_create();
    bool good = definition_set(definition, key, text, NULL);

    definition_destroy(definition);
    return !good;
}

/* Takes `text`. */
static void add(GPtrArray *all, const char *key, char *text)
{
    struct wrong_value *wrong = g_new0(struct wrong_value, 1);

    *wrong = (struct wrong_value){g_strdup(key), text, option_find(key)};
    if (is_refused(key, text))
        g_ptr_array_add(all, wrong);
    else
        wrong_free(wrong);
}

/* A word that somebody meant to be `word`. */
static char *slip(const char *word)
{
    size_t length = strlen(word);
    char *wrong = g_strdup(word);

    if (length < 2)
        return g_strconcat(word, "x", NULL);
    wrong[length - 1] = word[length - 2];
    wrong[length - 2] = word[length - 1];
    return wrong;
}

/* Texts that are no value of the option or member; the caller frees the array and its texts. */
static GPtrArray *candidates(const struct option *option)
{
    static const char *const texts[] = {
        "",     "x",      "-1",         "1.5",         "0x10", " 1",
        "1 ",   "1Q",     "1.5G",       "much",        "yess", "99999999999999999999999",
        "a\nb", "a\001b", "9999999999", "16777216.5T", "/",    "17179869184G",
        "?",    "ä",
    };
    GPtrArray *all = g_ptr_array_new_with_free_func(g_free);
    const char *const none = NULL;
    const char *const *choice = option->choices ? option->choices : &none;

    for (unsigned i = 0; i < G_N_ELEMENTS(texts); i++)
        g_ptr_array_add(all, g_strdup(texts[i]));
    g_ptr_array_add(all, g_strnfill(CONFIG_TEXT_MAX + 1, 'a'));
    if (option->min)
        g_ptr_array_add(all, g_strdup_printf("%" G_GUINT64_FORMAT, option->min - 1));
    if (option->max && option->max < UINT64_MAX)
        g_ptr_array_add(all, g_strdup_printf("%" G_GUINT64_FORMAT, option->max + 1));
    if (option->align > 1)
        g_ptr_array_add(all, g_strdup_printf("%" G_GUINT64_FORMAT, option->min + 1));
    for (; *choice; choice++)
        g_ptr_array_add(all, slip(*choice));
    return all;
}

/* A comma in a member's value is two in the entry. */
static char *escape(const char *text)
{
    g_auto(GStrv) pieces = g_strsplit(text, ",", -1);
    return g_strjoinv(",,", pieces);
}

/* An entry with one wrong member behind a first one that is right, as far as a text can be. */
static void add_member(GPtrArray *all, const struct option *option, const struct option *member)
{
    const char *first = option->members->choices ? option->members->choices[0] : "a";
    GPtrArray *texts = candidates(member);
    g_autofree char *near = slip(member->key);

    for (unsigned i = 0; i < texts->len; i++) {
        g_autofree char *text = escape(texts->pdata[i]);

        if (member == option->members)
            add(all, option->key, g_strdup(text));
        else
            add(all, option->key, g_strdup_printf("%s,%s=%s", first, member->key, text));
    }
    add(all, option->key, g_strdup_printf("%s,%s=1", first, near));
    if (member->type != OPTION_TYPE_BOOL)
        add(all, option->key, g_strdup_printf("%s,%s", first, member->key));
    if (!member->list && member != option->members)
        add(all, option->key, g_strdup_printf("%s,%s=1,%s=1", first, member->key, member->key));
    g_ptr_array_unref(texts);
}

static void add_option(GPtrArray *all, const struct option *option)
{
    GPtrArray *texts = candidates(option);
    g_autofree char *near = slip(option->key), *longer = g_strconcat(option->key, "s", NULL);

    for (unsigned i = 0; !option->members && i < texts->len; i++)
        add(all, option->key, g_strdup(texts->pdata[i]));
    for (const struct option *member = option->members; member && member->key; member++)
        add_member(all, option, member);
    if (!option_find(near))
        add(all, near, g_strdup("1"));
    if (!option_find(longer))
        add(all, longer, g_strdup("1"));
    g_ptr_array_unref(texts);
}

GPtrArray *wrong_values(void)
{
    GPtrArray *all = g_ptr_array_new_with_free_func(wrong_free);

    for (const struct option *option = options; option->key; option++)
        add_option(all, option);
    add(all, "?", g_strdup("1"));
    add(all, "zzzzzzzzzz", g_strdup("1"));
    return all;
}

static bool is_word(const char *text)
{
    return *text && strspn(text, G_CSET_a_2_z G_CSET_A_2_Z G_CSET_DIGITS "._-") == strlen(text);
}

/* Text in double quotes, as both YAML and JSON read it. */
static char *quote(const char *text)
{
    json_t *string = json_string(text);
    char *quoted = string ? json_dumps(string, JSON_ENCODE_ANY | JSON_ENSURE_ASCII) : NULL;

    json_decref(string);
    return quoted;
}

char *wrong_value_yaml(const struct wrong_value *wrong)
{
    bool word = wrong->option &&
                (wrong->option->type == OPTION_TYPE_INT || wrong->option->type == OPTION_TYPE_BOOL);
    g_autofree char *quoted = quote(wrong->text);

    /* What YAML takes for a text is told to be one. */
    if (!quoted || (word && !is_word(wrong->text)) || *wrong->key == '?')
        return NULL;
    return g_strdup_printf("%s: %s\n", wrong->key, word ? wrong->text : quoted);
}

json_t *wrong_value_json(const struct wrong_value *wrong)
{
    g_autofree char *line = wrong_value_yaml(wrong), *object = NULL;

    if (!line)
        return NULL;
    object = g_strdup_printf("{\"%s\": %s}", wrong->key, line + strlen(wrong->key) + strlen(": "));
    return json_loads(object, 0, NULL);
}
