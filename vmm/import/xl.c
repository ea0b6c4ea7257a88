// SPDX-License-Identifier: Apache-2.0
/*
 * Domains of Xen's xl (xl.cfg(5), xl-disk-configuration(5), xl-network-configuration(5)): lines
 * "key = value", where a value is a number, a quoted text, or a list of them in brackets.
 */
#include <string.h>

#include "vmm/import/import.h"

/* One "key = value": a scalar is a list of one. */
struct setting {
    char *key;
    GPtrArray *values; /* of char * */
};

static void setting_clear(struct setting *setting)
{
    g_free(setting->key);
    g_ptr_array_unref(setting->values);
}

static bool is(const char *text, const char *word)
{
    return text && strcmp(text, word) == 0;
}

/* ---- the language ---- */

static bool fail(GScanner *scanner, const char *what, GError **error)
{
    g_set_error(error, CONFIG_ERROR, CONFIG_ERROR_USAGE, "%u:%u: expected %s",
                g_scanner_cur_line(scanner), g_scanner_cur_position(scanner) + 1, what);
    return false;
}

/* A scalar, the current token, as text; NULL: it is none. */
static char *scalar(GScanner *scanner)
{
    switch (g_scanner_cur_token(scanner)) {
    case G_TOKEN_STRING:
        return g_strdup(g_scanner_cur_value(scanner).v_string);
    case G_TOKEN_INT:
        return g_strdup_printf("%" G_GUINT64_FORMAT, g_scanner_cur_value(scanner).v_int64);
    default:
        return NULL;
    }
}

static bool read_list(GScanner *scanner, GPtrArray *values, GError **error)
{
    for (;;) {
        GTokenType token = g_scanner_get_next_token(scanner);
        char *value;

        if (token == G_TOKEN_RIGHT_BRACE)
            return true;
        if (token == G_TOKEN_COMMA)
            continue;
        value = scalar(scanner);
        if (!value)
            return fail(scanner, "a text or a number in the list", error);
        g_ptr_array_add(values, value);
    }
}

static bool read_value(GScanner *scanner, GPtrArray *values, GError **error)
{
    char *value;

    if (g_scanner_get_next_token(scanner) == G_TOKEN_LEFT_BRACE)
        return read_list(scanner, values, error);
    value = scalar(scanner);
    if (!value)
        return fail(scanner, "a number, a quoted text or a list", error);
    g_ptr_array_add(values, value);
    return true;
}

/* The settings of the text; NULL and an error. */
static GArray *parse(const char *data, size_t size, GError **error)
{
    GScanner *scanner = g_scanner_new(NULL);
    GArray *settings = g_array_new(FALSE, TRUE, sizeof(struct setting));
    bool good = true;

    g_array_set_clear_func(settings, (GDestroyNotify)setting_clear);
    scanner->config->cset_identifier_nth = (char *)G_CSET_A_2_Z G_CSET_a_2_z "_0123456789";
    scanner->config->scan_identifier_1char = TRUE;
    scanner->config->scan_float = FALSE;
    scanner->config->scan_identifier_NULL = FALSE;
    scanner->config->store_int64 = TRUE;
    scanner->config->skip_comment_single = TRUE;
    scanner->config->cpair_comment_single = (char *)"#\n";
    scanner->config->scan_string_dq = TRUE;
    g_scanner_input_text(scanner, data, (guint)size);
    while (good && g_scanner_get_next_token(scanner) != G_TOKEN_EOF) {
        struct setting setting = {0};

        if (g_scanner_cur_token(scanner) == ';')
            continue;
        if (g_scanner_cur_token(scanner) != G_TOKEN_IDENTIFIER) {
            good = fail(scanner, "the name of an option", error);
            break;
        }
        setting.key = g_strdup(g_scanner_cur_value(scanner).v_identifier);
        setting.values = g_ptr_array_new_with_free_func(g_free);
        g_array_append_val(settings, setting);
        if (g_scanner_get_next_token(scanner) != G_TOKEN_EQUAL_SIGN)
            good = fail(scanner, "'=' behind the name of an option", error);
        else
            good = read_value(scanner, setting.values, error);
    }
    g_scanner_destroy(scanner);
    if (!good)
        g_clear_pointer(&settings, g_array_unref);
    return settings;
}

/* ---- options ---- */

static void take_megabytes(struct import *import, const char *text)
{
    g_autofree char *size = g_strconcat(text, "M", NULL);

    import_set(import, "memory", size);
}

static void take_name(struct import *import, const char *text)
{
    import_set(import, "name", text);
}

static void take_vcpus(struct import *import, const char *text)
{
    import_set(import, "cpus", text);
}

static void take_kernel(struct import *import, const char *text)
{
    import_set(import, "kernel", text);
}

static void take_ramdisk(struct import *import, const char *text)
{
    import_set(import, "initrd", text);
}

static void take_append(struct import *import, const char *text)
{
    const char *before = definition_text(import->definition, OPTION_APPEND);
    g_autofree char *both = before ? g_strconcat(before, " ", text, NULL) : g_strdup(text);

    import_set(import, "append", both);
}

static void take_root(struct import *import, const char *text)
{
    g_autofree char *root = g_strconcat("root=", text, NULL);

    take_append(import, root);
}

static void take_type(struct import *import, const char *text)
{
    if (!is(text, "hvm") && !is(text, "pvh") && !is(text, "pv") && !is(text, "generic"))
        import_lose(import, "type: '%s'", text);
}

static void take_on_poweroff(struct import *import, const char *text)
{
    if (is(text, "restart"))
        import_set(import, "restart", "always");
    else if (!is(text, "destroy"))
        import_lose(import, "on_poweroff: '%s'", text);
}

static void take_on_reboot(struct import *import, const char *text)
{
    import_set(import, "on-reboot", is(text, "restart") ? "restart" : "exit");
}

static void take_on_crash(struct import *import, const char *text)
{
    if (is(text, "restart") || is(text, "coredump-restart"))
        import_set(import, "on-crash", "restart");
    else
        import_set(import, "on-crash", is(text, "preserve") ? "pause" : "exit");
}

static void take_serial(struct import *import, const char *text)
{
    g_autofree char *place = NULL;

    if (is(text, "pty") || is(text, "none"))
        place = g_strdup(text);
    else if (g_str_has_prefix(text, "file:"))
        place = g_strconcat("file=", text + strlen("file:"), NULL);
    if (place)
        import_set(import, "serial", place);
    else
        import_lose(import, "serial: '%s'", text);
}

/* The value of "key=VALUE" among the pieces of an entry; NULL: it has none. */
static const char *find_piece(char **pieces, const char *key)
{
    size_t length = strlen(key);

    for (; *pieces; pieces++)
        if (strncmp(*pieces, key, length) == 0 && (*pieces)[length] == '=')
            return *pieces + length + 1;
    return NULL;
}

static bool has_word(char **pieces, const char *word)
{
    return g_strv_contains((const char *const *)pieces, word);
}

static void strip_all(char **pieces)
{
    for (; *pieces; pieces++)
        g_strstrip(*pieces);
}

/* "TARGET,[FORMAT,[VDEV,[ACCESS]]],key=value ..."; target= takes the rest of the text. */
static void take_disk(struct import *import, const char *text)
{
    static const char *const formats[] = {"qcow", "qcow2", "vhd", "qed"};
    g_auto(GStrv) pieces = g_strsplit(text, ",", -1);
    const char *path, *format, *access;
    g_autoptr(GString) entry = g_string_new(NULL);

    strip_all(pieces);
    path = find_piece(pieces, "target");
    path = path || !*pieces || strchr(*pieces, '=') ? path : *pieces;
    format = find_piece(pieces, "format");
    for (unsigned i = 0; i < G_N_ELEMENTS(formats); i++)
        if (has_word(pieces, formats[i]))
            format = formats[i];
    access = find_piece(pieces, "access");
    if (!path || !*path || has_word(pieces, "cdrom") ||
        is(find_piece(pieces, "devtype"), "cdrom")) {
        import_lose(import, "disk: '%s'", text);
        return;
    }
    /* An older way to say what a target is. */
    for (unsigned i = 0; i < 2; i++)
        if (g_str_has_prefix(path, i ? "file:" : "phy:"))
            path += strlen(i ? "file:" : "phy:");
    import_entry_add(entry, NULL, path);
    if (!import_format_add(import, entry, path, format))
        return;
    if (has_word(pieces, "r") || has_word(pieces, "ro") || is(access, "r") || is(access, "ro"))
        import_entry_add(entry, "readonly", "yes");
    import_set(import, "disk", entry->str);
}

/* "mac=..,bridge=..,.." in any order. */
static void take_vif(struct import *import, const char *text)
{
    g_auto(GStrv) pieces = g_strsplit(text, ",", -1);
    g_autoptr(GString) entry = g_string_new(NULL);
    g_autofree char *network = NULL;
    const char *bridge, *model;

    strip_all(pieces);
    bridge = find_piece(pieces, "bridge");
    model = find_piece(pieces, "model");
    network = bridge ? g_strconcat("bridge=", bridge, NULL) : g_strdup("none");
    if (!bridge)
        import_lose(import, "nic: Xen's own bridge; it becomes a card without a cable");
    if (model && !is(model, "virtio-net"))
        import_lose(import, "nic: the model '%s'; it becomes a virtio card", model);
    import_entry_add(entry, NULL, network);
    import_entry_add(entry, "mac", find_piece(pieces, "mac"));
    import_entry_add(entry, "mtu", find_piece(pieces, "mtu"));
    import_set(import, "nic", entry->str);
}

static const struct {
    const char *key;
    void (*take)(struct import *import, const char *text); /* NULL: it means nothing here */
} rules[] = {
    {"name", take_name},
    {"memory", take_megabytes},
    {"vcpus", take_vcpus},
    {"kernel", take_kernel},
    {"ramdisk", take_ramdisk},
    {"extra", take_append},
    {"cmdline", take_append},
    {"root", take_root},
    {"type", take_type},
    {"builder", take_type},
    {"disk", take_disk},
    {"vif", take_vif},
    {"on_poweroff", take_on_poweroff},
    {"on_reboot", take_on_reboot},
    {"on_crash", take_on_crash},
    {"serial", take_serial},
    {"uuid", NULL},
    {"acpi", NULL},
    {"apic", NULL},
    {"pae", NULL},
    {"hap", NULL},
    {"boot", NULL},
};

static void take(struct import *import, const struct setting *setting)
{
    unsigned i = 0;

    while (i < G_N_ELEMENTS(rules) && !g_str_equal(rules[i].key, setting->key))
        i++;
    if (i == G_N_ELEMENTS(rules)) {
        import_lose(import, "%s", setting->key);
        return;
    }
    for (unsigned n = 0; rules[i].take && n < setting->values->len; n++)
        rules[i].take(import, setting->values->pdata[n]);
}

bool import_xl(struct import *import, const char *data, size_t size, GError **error)
{
    GArray *settings = parse(data, size, error);

    if (!settings)
        return false;
    for (unsigned i = 0; i < settings->len; i++)
        take(import, &g_array_index(settings, struct setting, i));
    g_array_unref(settings);
    return true;
}
