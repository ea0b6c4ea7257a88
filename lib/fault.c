// SPDX-License-Identifier: Apache-2.0
/*
 * The library's error type.
 */
#include "lib/fault.h"

#include <stdlib.h>

#include "config/schema.h"

void error_set(struct anima_error **error, enum anima_error_code code, const char *format, ...)
{
    va_list arguments;

    if (!error)
        return;
    *error = g_new0(struct anima_error, 1);
    (*error)->code = code;
    va_start(arguments, format);
    (*error)->message = g_strdup_vprintf(format, arguments);
    va_end(arguments);
}

void error_prefix(struct anima_error *error, enum anima_error_code code, const char *prefix)
{
    char *message = g_strconcat(prefix, error->message, NULL);

    g_free(error->message);
    error->message = message;
    error->code = code;
}

void error_take(struct anima_error **error, GError *cause)
{
    static const enum anima_error_code codes[] = {
        [CONFIG_ERROR_USAGE] = ANIMA_ERROR_USAGE,
        [CONFIG_ERROR_FAILED] = ANIMA_ERROR_FAILED,
        [CONFIG_ERROR_ABSENT] = ANIMA_ERROR_ABSENT,
        [CONFIG_ERROR_STATE] = ANIMA_ERROR_STATE,
    };
    bool ours = cause->domain == CONFIG_ERROR;

    error_set(error, ours ? codes[cause->code] : ANIMA_ERROR_FAILED, "%s", cause->message);
    g_error_free(cause);
}

bool error_outcome(bool good, GError *cause, struct anima_error **error)
{
    if (!good)
        error_take(error, cause);
    return good;
}

ANIMA_API void anima_error_free(struct anima_error *error)
{
    if (!error)
        return;
    g_free(error->message);
    g_free(error);
}

ANIMA_API void anima_free(void *memory)
{
    free(memory);
}

ANIMA_API const char *anima_version(void)
{
    return ANIMA_VERSION;
}
