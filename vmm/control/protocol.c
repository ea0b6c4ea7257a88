// SPDX-License-Identifier: Apache-2.0
/*
 * Holding JSON to the tables of the protocol, and the tables as JSON Schema.
 */
#include "vmm/control/protocol.h"

#include <string.h>

#include "config/schema.h"
#include "vmm/control/rpc.h"

const struct control_method *control_method_find(const char *name)
{
    for (const struct control_method *method = control_methods; method->name; method++)
        if (strcmp(method->name, name) == 0)
            return method;
    return NULL;
}

const struct control_event *control_event_find(const char *name)
{
    for (const struct control_event *event = control_events; event->name; event++)
        if (strcmp(event->name, name) == 0)
            return event;
    return NULL;
}

/* ---- checking ---- */

static bool has_type(const json_t *value, enum control_type type)
{
    switch (type) {
    case CONTROL_BOOL:
        return json_is_boolean(value);
    case CONTROL_INT:
        return json_is_integer(value);
    case CONTROL_TEXT:
        return json_is_string(value);
    case CONTROL_LIST:
        return json_is_array(value);
    case CONTROL_MAP:
    case CONTROL_OBJECT:
        return json_is_object(value);
    }
    return false;
}

/* What is wanted, for a message. */
static char *describe_wish(const struct control_field *field)
{
    static const char *const names[] = {
        [CONTROL_BOOL] = "true or false", [CONTROL_INT] = "a whole number",
        [CONTROL_TEXT] = "a text",        [CONTROL_LIST] = "a list",
        [CONTROL_MAP] = "an object",      [CONTROL_OBJECT] = "an object",
    };

    if (field->choices) {
        g_autofree char *words = g_strjoinv(", ", (char **)field->choices);

        return g_strdup_printf("one of %s", words);
    }
    if (field->min != field->max)
        return g_strdup_printf("a whole number from %" JSON_INTEGER_FORMAT
                               " to %" JSON_INTEGER_FORMAT,
                               field->min, field->max);
    return g_strdup(names[field->type]);
}

static bool in_range(const struct control_field *field, const json_t *value)
{
    if (field->type == CONTROL_INT && field->min != field->max)
        return json_integer_value(value) >= field->min && json_integer_value(value) <= field->max;
    return !field->choices || g_strv_contains(field->choices, json_string_value(value));
}

static bool check_value(const struct control_field *field, const char *name, json_t *value,
                        char **at, GError **error);

static bool check_entries(const struct control_field *field, const char *name, json_t *value,
                          char **at, GError **error)
{
    const char *key;
    json_t *entry;
    size_t i;

    if (!field->entry)
        return true;
    json_array_foreach(value, i, entry)
    {
        if (!check_value(field->entry, name, entry, at, error))
            return false;
    }
    json_object_foreach(value, key, entry)
    {
        if (!check_value(field->entry, name, entry, at, error))
            return false;
    }
    return true;
}

static bool check_value(const struct control_field *field, const char *name, json_t *value,
                        char **at, GError **error)
{
    if (!value || !has_type(value, field->type) || !in_range(field, value)) {
        g_autofree char *wish = describe_wish(field);

        g_set_error(error, RPC_ERROR, RPC_ERROR_INVALID_PARAMS, "%s: expected %s", name, wish);
        if (at)
            *at = g_strdup(name);
        return false;
    }
    if (field->type == CONTROL_LIST || field->type == CONTROL_MAP)
        return check_entries(field, name, value, at, error);
    if (field->type == CONTROL_OBJECT && field->fields)
        return control_fields_check(field->fields, value, at, error);
    return true;
}

static bool is_known(const struct control_field *fields, const char *name)
{
    while (fields->name && strcmp(fields->name, name) != 0)
        fields++;
    return fields->name;
}

static bool refuse_unknown(const struct control_field *fields, const char *name, char **at,
                           GError **error)
{
    g_autofree char *shown = text_show(name);
    g_autoptr(GPtrArray) words = g_ptr_array_new();
    const char *nearest;

    for (; fields->name; fields++)
        g_ptr_array_add(words, (char *)fields->name);
    g_ptr_array_add(words, NULL);
    nearest = word_nearest(name, (const char *const *)words->pdata);
    g_set_error(error, RPC_ERROR, RPC_ERROR_INVALID_PARAMS, "%s: there is no such parameter%s%s%s",
                shown, nearest ? "; did you mean " : "", nearest ? nearest : "",
                nearest ? "?" : "");
    if (at)
        *at = g_strdup(name);
    return false;
}

bool control_fields_check(const struct control_field *fields, json_t *object, char **at,
                          GError **error)
{
    const char *name;
    json_t *value;

    if (object && !json_is_object(object)) {
        g_set_error(error, RPC_ERROR, RPC_ERROR_INVALID_PARAMS, "expected an object");
        return false;
    }
    json_object_foreach(object, name, value)
    {
        if (!is_known(fields, name))
            return refuse_unknown(fields, name, at, error);
    }
    for (const struct control_field *field = fields; field->name; field++) {
        value = json_object_get(object, field->name);
        if ((value || field->required) && !check_value(field, field->name, value, at, error))
            return false;
    }
    return true;
}

/* ---- describing ---- */

static json_t *schema_of_fields(const struct control_field *fields);

static void add_range(const struct control_field *field, json_t *schema)
{
    if (field->min == field->max)
        return;
    json_object_set_new(schema, "minimum", json_integer(field->min));
    json_object_set_new(schema, "maximum", json_integer(field->max));
}

static void add_choices(const struct control_field *field, json_t *schema)
{
    json_t *choices;

    if (!field->choices)
        return;
    choices = json_array();
    for (unsigned i = 0; field->choices[i]; i++)
        json_array_append_new(choices, json_string(field->choices[i]));
    json_object_set_new(schema, "enum", choices);
}

static json_t *schema_of(const struct control_field *field)
{
    static const char *const names[] = {
        [CONTROL_BOOL] = "boolean", [CONTROL_INT] = "integer", [CONTROL_TEXT] = "string",
        [CONTROL_LIST] = "array",   [CONTROL_MAP] = "object",  [CONTROL_OBJECT] = "object",
    };
    bool members = field->type == CONTROL_OBJECT && field->fields;
    json_t *schema = members ? schema_of_fields(field->fields) : json_object();

    json_object_set_new(schema, "type", json_string(names[field->type]));
    if (field->about)
        json_object_set_new(schema, "description", json_string(field->about));
    add_range(field, schema);
    add_choices(field, schema);
    if (field->entry)
        json_object_set_new(schema, field->type == CONTROL_LIST ? "items" : "additionalProperties",
                            schema_of(field->entry));
    return schema;
}

static json_t *schema_of_fields(const struct control_field *fields)
{
    json_t *schema = json_object(), *properties = json_object(), *required = json_array();

    for (; fields->name; fields++) {
        json_object_set_new(properties, fields->name, schema_of(fields));
        if (fields->required)
            json_array_append_new(required, json_string(fields->name));
    }
    json_object_set_new(schema, "type", json_string("object"));
    json_object_set_new(schema, "properties", properties);
    json_object_set_new(schema, "required", required);
    json_object_set_new(schema, "additionalProperties", json_false());
    return schema;
}

static const char *access_name(enum control_access access)
{
    if (access == CONTROL_OBSERVE)
        return "observe";
    return access == CONTROL_OPERATE ? "operate" : "own";
}

static json_t *describe_method(const struct control_method *method)
{
    json_t *object = json_object();

    json_object_set_new(object, "name", json_string(method->name));
    json_object_set_new(object, "description", json_string(method->about));
    json_object_set_new(object, "access", json_string(access_name(method->access)));
    json_object_set_new(object, "lasting", json_boolean(method->lasting));
    if (method->fds_about)
        json_object_set_new(object, "descriptors",
                            json_pack("{s:i, s:i, s:s}", "minimum", (int)method->fds_min, "maximum",
                                      (int)method->fds_max, "description", method->fds_about));
    json_object_set_new(object, "params", schema_of_fields(method->params));
    json_object_set_new(object, "result", schema_of_fields(method->result));
    return object;
}

static json_t *describe_event(const struct control_event *event)
{
    json_t *object = json_object();

    json_object_set_new(object, "name", json_string(event->name));
    json_object_set_new(object, "description", json_string(event->about));
    json_object_set_new(object, "params", schema_of_fields(event->fields));
    return object;
}

json_t *control_describe(void)
{
    json_t *result = json_object(), *methods = json_array(), *events = json_array(),
           *codes = json_array();

    for (const struct control_method *method = control_methods; method->name; method++)
        if (method->result)
            json_array_append_new(methods, describe_method(method));
    for (const struct control_event *event = control_events; event->name; event++)
        json_array_append_new(events, describe_event(event));
    for (const struct control_code *code = control_codes; code->name; code++)
        json_array_append_new(codes, json_pack("{s:i, s:s, s:s}", "code", code->code, "name",
                                               code->name, "description", code->about));
    json_object_set_new(result, "version", json_string(ANIMA_VERSION));
    json_object_set_new(result, "methods", methods);
    json_object_set_new(result, "events", events);
    json_object_set_new(result, "errors", codes);
    return result;
}
