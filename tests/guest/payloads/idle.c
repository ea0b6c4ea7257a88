// SPDX-License-Identifier: Apache-2.0
/* Says that it runs, and halts for ever: for measurements of a start. */
#include "payload.h"

void payload_main(const char *cmdline)
{
    print("ready\n");
    for (;;)
        asm volatile("cli; hlt");
}
