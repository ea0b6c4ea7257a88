// SPDX-License-Identifier: Apache-2.0
/*
 * Values as the text of a vm.yaml (YAML 1.1, by libyaml's emitter): a mapping in block style, one
 * line a value, in the order of the table. What yaml.c reads of it are the same values.
 */
#include <string.h>
#include <yaml.h>

#include "config/values.h"

struct writer {
    yaml_emitter_t emitter;
    GString *text;
    bool good;
};

static int on_text(void *opaque, unsigned char *bytes, size_t size)
{
    g_string_append_len(opaque, (char *)bytes, size);
    return 1;
}

/* Takes the event; NULL when it could not be made. */
static void emit(struct writer *writer, yaml_event_t *event, int made)
{
    if (!made)
        writer->good = false;
    else
        writer->good = yaml_emitter_emit(&writer->emitter, event) && writer->good;
}

static void write_word(struct writer *writer, const char *text, yaml_scalar_style_t style)
{
    yaml_event_t event;

    emit(writer, &event,
         yaml_scalar_event_initialize(&event, NULL, NULL, (yaml_char_t *)text, strlen(text), 1, 1,
                                      style));
}

/* Texts that would be nothing without quotes. */
static bool needs_quotes(const char *text)
{
    return !*text || g_str_equal(text, "~") || g_str_equal(text, "null");
}

static void write_text(struct writer *writer, const char *text)
{
    write_word(writer, text,
               needs_quotes(text) ? YAML_SINGLE_QUOTED_SCALAR_STYLE : YAML_ANY_SCALAR_STYLE);
}

static void write_number(struct writer *writer, const struct option *option, uint64_t number)
{
    g_autofree char *text = NULL;

    if (option->type == OPTION_TYPE_BOOL)
        text = g_strdup(number ? "yes" : "no");
    else if (option->type == OPTION_TYPE_SIZE && number && number % 1024 == 0)
        text = size_format(number);
    else
        text = g_strdup_printf("%" G_GUINT64_FORMAT, number);
    write_word(writer, text, YAML_PLAIN_SCALAR_STYLE);
}

static void write_mapping(struct writer *writer, const struct values *values, bool presets,
                          const struct option *only);

static void write_list(struct writer *writer, const struct values *values,
                       const struct option *option, bool presets)
{
    yaml_event_t event;

    emit(writer, &event,
         yaml_sequence_start_event_initialize(&event, NULL, NULL, 1, YAML_BLOCK_SEQUENCE_STYLE));
    for (unsigned i = 0; i < values_count(values, option); i++) {
        if (option->members)
            write_mapping(writer, values_group(values, option, i), presets, NULL);
        else
            write_text(writer, values_entry(values, option, i));
    }
    emit(writer, &event, yaml_sequence_end_event_initialize(&event));
}

static void write_value(struct writer *writer, const struct values *values,
                        const struct option *option, bool presets)
{
    enum option_type type = option->type;

    write_word(writer, option->key, YAML_PLAIN_SCALAR_STYLE);
    if (option->list)
        write_list(writer, values, option, presets);
    else if (type == OPTION_TYPE_BOOL || type == OPTION_TYPE_INT || type == OPTION_TYPE_SIZE)
        write_number(writer, option, values_number(values, option));
    else
        write_text(writer, values_text(values, option));
}

static void write_mapping(struct writer *writer, const struct values *values, bool presets,
                          const struct option *only)
{
    yaml_event_t event;

    emit(writer, &event,
         yaml_mapping_start_event_initialize(&event, NULL, NULL, 1, YAML_BLOCK_MAPPING_STYLE));
    for (const struct option *option = values_table(values); option->key; option++)
        if ((!only || option == only) &&
            (presets ? values_has(values, option) : values_given(values, option)))
            write_value(writer, values, option, presets);
    emit(writer, &event, yaml_mapping_end_event_initialize(&event));
}

char *values_to_yaml(const struct values *values, bool presets, const struct option *only)
{
    struct writer writer = {.text = g_string_new(NULL)};
    yaml_event_t event;

    writer.good = yaml_emitter_initialize(&writer.emitter);
    if (writer.good) {
        yaml_emitter_set_output(&writer.emitter, on_text, writer.text);
        yaml_emitter_set_unicode(&writer.emitter, 1);
        yaml_emitter_set_width(&writer.emitter, -1);
        emit(&writer, &event, yaml_stream_start_event_initialize(&event, YAML_UTF8_ENCODING));
        emit(&writer, &event, yaml_document_start_event_initialize(&event, NULL, NULL, NULL, 1));
        write_mapping(&writer, values, presets, only);
        emit(&writer, &event, yaml_document_end_event_initialize(&event, 1));
        emit(&writer, &event, yaml_stream_end_event_initialize(&event));
        yaml_emitter_delete(&writer.emitter);
    }
    return g_string_free(writer.text, !writer.good);
}
