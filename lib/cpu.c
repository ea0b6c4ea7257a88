// SPDX-License-Identifier: Apache-2.0
/*
 * CPU models by name and version. The tables are the vmm's (vmm/engine/cpu_model.h), which is
 * asked, so that library and vmm cannot differ.
 */
#include "lib/cpu.h"

#include <glib.h>

#include "lib/fault.h"
#include "lib/reader.h"

json_t *cpu_models(struct anima_error **error)
{
    g_autofree char *program = anima_vmm_path(error);
    g_autofree char *text = NULL;
    json_t *models;

    if (!program)
        return NULL;
    text = reader_run(program, "cpu-models", -1, "anima-vmm tells no CPU models", error);
    if (!text)
        return NULL;
    models = json_loads(text, 0, NULL);
    if (!models)
        error_set(error, ANIMA_ERROR_FAILED,
                  "anima-vmm tells no CPU models; is it of this version?");
    return models;
}
