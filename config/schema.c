// SPDX-License-Identifier: Apache-2.0
/*
 * What follows from one row of a table of options: reading a value from text, checking it, and
 * saying what was wrong in the user's terms.
 */
#include "config/schema.h"

#include <errno.h>
#include <string.h>

#include "config/limits.h"
#include "config/network.h"

G_DEFINE_QUARK(anima - config - error, config_error)

#define SHOWN_MAX 80 /* characters of a user's words in a message */

char *text_line(const char *text, unsigned most)
{
    g_autofree char *valid = g_utf8_make_valid(text, -1);
    GString *shown = g_string_new(NULL);
    const char *at = valid;

    for (unsigned i = 0; *at && i < most; i++, at = g_utf8_next_char(at)) {
        gunichar character = g_utf8_get_char(at);

        g_string_append_unichar(shown, g_unichar_isprint(character) ? character : '?');
    }
    if (*at)
        g_string_append(shown, "...");
    return g_string_free(shown, FALSE);
}

char *text_show(const char *text)
{
    return text_line(text, SHOWN_MAX);
}

bool text_refuse(const char *text, GError **error, const char *expected, ...)
{
    g_autofree char *shown = text_show(text);
    g_autofree char *wants = NULL;
    va_list arguments;

    va_start(arguments, expected);
    wants = g_strdup_vprintf(expected, arguments);
    va_end(arguments);
    g_set_error(error, CONFIG_ERROR, CONFIG_ERROR_USAGE, "expected %s, not '%s'", wants, shown);
    return false;
}

unsigned options_count(const struct option *table)
{
    unsigned count = 0;

    while (table[count].key)
        count++;
    return count;
}

const struct option *option_find_in(const struct option *table, const char *key)
{
    for (; table->key; table++)
        if (g_str_equal(table->key, key))
            return table;
    return NULL;
}

const struct option *option_find(const char *key)
{
    return option_find_in(options, key);
}

/* Edit distance with transpositions (optimal string alignment); words beyond 31 bytes are far. */
static unsigned edit_distance(const char *a, const char *b)
{
    enum { LONGEST = 31 };
    unsigned rows[3][LONGEST + 1];
    size_t a_length = strlen(a), b_length = strlen(b);

    if (a_length > LONGEST || b_length > LONGEST)
        return UINT_MAX;
    for (size_t j = 0; j <= b_length; j++)
        rows[0][j] = j;
    for (size_t i = 1; i <= a_length; i++) {
        unsigned *row = rows[i % 3], *above = rows[(i + 2) % 3], *two_above = rows[(i + 1) % 3];

        row[0] = i;
        for (size_t j = 1; j <= b_length; j++) {
            row[j] = MIN(MIN(above[j], row[j - 1]) + 1, above[j - 1] + (a[i - 1] != b[j - 1]));
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
                row[j] = MIN(row[j], two_above[j - 2] + 1);
        }
    }
    return rows[a_length % 3][b_length];
}

/* Whether `distance` is near enough to `word` for a suggestion to help. */
static bool is_near(unsigned distance, const char *word)
{
    return distance <= MAX(1, strlen(word) / 2);
}

const char *word_nearest(const char *word, const char *const *words)
{
    const char *best = NULL;
    unsigned best_distance = UINT_MAX;

    for (; *words; words++) {
        unsigned distance = edit_distance(word, *words);

        /* The beginning of a word is as near as one slip. */
        if (*word && g_str_has_prefix(*words, word))
            distance = MIN(distance, 1);
        if (distance < best_distance) {
            best = *words;
            best_distance = distance;
        }
    }
    return best && is_near(best_distance, word) ? best : NULL;
}

static const char *key_nearest(const struct option *table, const char *word)
{
    g_autofree const char **keys = g_new0(const char *, options_count(table) + 1);

    for (unsigned i = 0; table[i].key; i++)
        keys[i] = table[i].key;
    return word_nearest(word, keys);
}

const char *option_nearest(const char *word)
{
    return key_nearest(options, word);
}

bool option_unknown(const struct option *table, const char *key, GError **error)
{
    const char *nearest = key_nearest(table, key);
    g_autofree char *shown = text_show(key);

    g_set_error(error, CONFIG_ERROR, CONFIG_ERROR_USAGE, "unknown %s '%s'%s%s%s",
                table == options || table == network_options ? "option" : "member", shown,
                nearest ? "; did you mean '" : "", nearest ? nearest : "", nearest ? "'?" : "");
    return false;
}

const char *option_wants(const struct option *option)
{
    static const char *const wants[] = {
        [OPTION_TYPE_STRING] = "a text",
        [OPTION_TYPE_BOOL] = "yes or no",
        [OPTION_TYPE_INT] = "a whole number",
        [OPTION_TYPE_SIZE] = "a size such as 512M",
        [OPTION_TYPE_ENUM] = "one of the words",
        [OPTION_TYPE_PATH] = "the name of a file",
        [OPTION_TYPE_GROUP] = "a text or a mapping",
    };
    return wants[option->type];
}

char *size_format(uint64_t bytes)
{
    static const char suffixes[] = "\0KMGT";
    unsigned step = 0;

    while (step < 4 && bytes && bytes % 1024 == 0) {
        bytes /= 1024;
        step++;
    }
    if (!step)
        return g_strdup_printf("%" G_GUINT64_FORMAT " byte%s", bytes, bytes == 1 ? "" : "s");
    return g_strdup_printf("%" G_GUINT64_FORMAT "%c", bytes, suffixes[step]);
}

static char *number_format(const struct option *option, uint64_t number)
{
    if (option->type == OPTION_TYPE_SIZE)
        return size_format(number);
    return g_strdup_printf("%" G_GUINT64_FORMAT, number);
}

bool option_check_number(const struct option *option, uint64_t number, GError **error)
{
    g_autofree char *got = number_format(option, number);
    g_autofree char *least = number_format(option, option->min);
    g_autofree char *most = number_format(option, option->max);

    if (option->type == OPTION_TYPE_BOOL)
        return true;
    if (number < option->min)
        g_set_error(error, CONFIG_ERROR, CONFIG_ERROR_USAGE, "%s is less than the minimum of %s",
                    got, least);
    else if (number > option->max)
        g_set_error(error, CONFIG_ERROR, CONFIG_ERROR_USAGE,
                    "%s is more than the %s that this version can do", got, most);
    else if (option->align && number % option->align)
        g_set_error(error, CONFIG_ERROR, CONFIG_ERROR_USAGE,
                    "%s is not a multiple of %" G_GUINT64_FORMAT " bytes", got, option->align);
    else
        return true;
    return false;
}

static bool refuse(const struct option *option, const char *text, GError **error)
{
    return text_refuse(text, error, "%s", option_wants(option));
}

static bool parse_bool(const struct option *option, const char *text, uint64_t *number,
                       GError **error)
{
    static const char *const words[2][4] = {{"no", "false", "off", "0"},
                                            {"yes", "true", "on", "1"}};

    for (unsigned value = 0; value < 2; value++)
        for (unsigned i = 0; i < G_N_ELEMENTS(words[0]); i++)
            if (g_ascii_strcasecmp(text, words[value][i]) == 0) {
                *number = value;
                return true;
            }
    return refuse(option, text, error);
}

/* Powers of 1024 behind a size: "", "K", "MB", "GiB"; -1 for anything else. */
static int suffix_step(const char *suffix)
{
    static const char letters[] = "kmgt";
    const char *letter;

    if (!*suffix || g_ascii_strcasecmp(suffix, "b") == 0)
        return 0;
    letter = strchr(letters, g_ascii_tolower(*suffix));
    if (!letter)
        return -1;
    suffix++;
    if (*suffix && g_ascii_strcasecmp(suffix, "b") != 0 && g_ascii_strcasecmp(suffix, "ib") != 0)
        return -1;
    return letter - letters + 1;
}

static bool parse_number(const struct option *option, const char *text, uint64_t *number,
                         GError **error)
{
    char *end;
    int step = 0;

    if (!g_ascii_isdigit(*text))
        return refuse(option, text, error);
    errno = 0;
    *number = g_ascii_strtoull(text, &end, 10);
    if (option->type == OPTION_TYPE_SIZE)
        step = suffix_step(end);
    else if (*end)
        step = -1;
    if (step < 0)
        return refuse(option, text, error);
    if (errno == ERANGE || *number > UINT64_MAX >> (10 * step)) {
        g_autofree char *shown = text_show(text);

        g_set_error(error, CONFIG_ERROR, CONFIG_ERROR_USAGE, "%s is too large", shown);
        return false;
    }
    *number <<= 10 * step;
    return option_check_number(option, *number, error);
}

static bool parse_choice(const struct option *option, const char *text, GError **error)
{
    g_autoptr(GString) list = g_string_new(NULL);
    g_autofree char *shown = NULL;
    const char *nearest;

    for (const char *const *choice = option->choices; *choice; choice++) {
        bool open = g_str_has_suffix(*choice, "=");

        if (open ? g_str_has_prefix(text, *choice) && text[strlen(*choice)]
                 : g_str_equal(text, *choice))
            return true;
        g_string_append_printf(list, "%s%s%s", list->len ? ", " : "", *choice, open ? "NAME" : "");
    }
    nearest = word_nearest(text, option->choices);
    shown = text_show(text);
    g_set_error(error, CONFIG_ERROR, CONFIG_ERROR_USAGE, "'%s' is none of %s%s%s%s", shown,
                list->str, nearest ? "; did you mean '" : "", nearest ? nearest : "",
                nearest ? "'?" : "");
    return false;
}

static bool parse_text(const struct option *option, const char *text, GError **error)
{
    size_t length = strlen(text);

    if (length > CONFIG_TEXT_MAX) {
        g_set_error(error, CONFIG_ERROR, CONFIG_ERROR_USAGE,
                    "a text of %zu bytes is more than the %d that are allowed", length,
                    CONFIG_TEXT_MAX);
        return false;
    }
    for (size_t i = 0; i < length; i++) {
        if (!g_ascii_iscntrl(text[i]) || text[i] == '\t')
            continue;
        g_set_error(error, CONFIG_ERROR, CONFIG_ERROR_USAGE,
                    "a control character stands at byte %zu of the text", i + 1);
        return false;
    }
    if (!g_utf8_validate(text, length, NULL)) {
        g_set_error(error, CONFIG_ERROR, CONFIG_ERROR_USAGE, "the text is not valid UTF-8");
        return false;
    }
    if (!length && option->type == OPTION_TYPE_PATH)
        return refuse(option, text, error);
    if (option->type == OPTION_TYPE_ENUM)
        return parse_choice(option, text, error);
    return !option->check || option->check(text, error);
}

bool option_parse(const struct option *option, const char *text, struct option_value *value,
                  GError **error)
{
    *value = (struct option_value){0};
    if (option->type == OPTION_TYPE_BOOL)
        return parse_bool(option, text, &value->number, error);
    if (option->type == OPTION_TYPE_INT || option->type == OPTION_TYPE_SIZE)
        return parse_number(option, text, &value->number, error);
    if (!parse_text(option, text, error))
        return false;
    value->text = g_strdup(text);
    return true;
}
