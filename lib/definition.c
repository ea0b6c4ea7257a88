// SPDX-License-Identifier: Apache-2.0
/*
 * The public face of the schema and of definitions. The opaque types are the internal ones under
 * another name.
 */
#include "config/definition.h"
#include "lib/fault.h"

static const struct option *internal(const struct anima_option *option)
{
    return (const struct option *)option;
}

static const struct anima_option *public(const struct option *option)
{
    return (const struct anima_option *)option;
}

ANIMA_API const struct anima_option *anima_option_at(unsigned index)
{
    return index < OPTION_COUNT ? public(&options[index]) : NULL;
}

ANIMA_API const struct anima_option *anima_option_find(const char *key)
{
    return public(option_find(key));
}

ANIMA_API const char *anima_option_nearest(const char *word)
{
    return option_nearest(word);
}

ANIMA_API const char *anima_option_key(const struct anima_option *option)
{
    return internal(option)->key;
}

ANIMA_API const char *anima_option_argument(const struct anima_option *option)
{
    return internal(option)->argument;
}

ANIMA_API const char *anima_option_help(const struct anima_option *option)
{
    return internal(option)->help;
}

ANIMA_API const char *anima_option_default(const struct anima_option *option)
{
    return internal(option)->preset;
}

ANIMA_API const char *const *anima_option_choices(const struct anima_option *option)
{
    return internal(option)->choices;
}

ANIMA_API bool anima_option_is_path(const struct anima_option *option)
{
    return internal(option)->type == OPTION_TYPE_PATH;
}

ANIMA_API bool anima_option_is_bool(const struct anima_option *option)
{
    return internal(option)->type == OPTION_TYPE_BOOL;
}

ANIMA_API bool anima_option_is_live(const struct anima_option *option)
{
    return internal(option)->live != OPTION_LIVE_NEVER;
}

ANIMA_API const struct anima_option *anima_option_member(const struct anima_option *option,
                                                         unsigned index)
{
    const struct option *members = internal(option)->members;
    return members && index < options_count(members) ? public(&members[index]) : NULL;
}

ANIMA_API struct anima_definition *anima_definition_create(void)
{
    return (struct anima_definition *)definition_create();
}

ANIMA_API void anima_definition_destroy(struct anima_definition *definition)
{
    definition_destroy((struct definition *)definition);
}

ANIMA_API bool anima_definition_set(struct anima_definition *definition, const char *key,
                                    const char *text, struct anima_error **error)
{
    GError *cause = NULL;
    bool good = definition_set((struct definition *)definition, key, text, &cause);

    return error_outcome(good, cause, error);
}

ANIMA_API bool anima_definition_load(struct anima_definition *definition, const char *path,
                                     struct anima_error **error)
{
    GError *cause = NULL;
    bool good = definition_load_file((struct definition *)definition, path, &cause);

    return error_outcome(good, cause, error);
}

ANIMA_API bool anima_definition_check(const struct anima_definition *definition,
                                      struct anima_error **error)
{
    GError *cause = NULL;
    bool good = definition_check((const struct definition *)definition, &cause);

    return error_outcome(good, cause, error);
}

ANIMA_API char *anima_definition_json(const struct anima_definition *definition)
{
    json_t *object = definition_to_json((const struct definition *)definition);
    char *text = json_dumps(object, JSON_INDENT(2));

    json_decref(object);
    return text;
}
