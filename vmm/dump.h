// SPDX-License-Identifier: Apache-2.0
/* The roles that print a stream in readable form, and the definition that it begins with. */
#pragma once

/* The roles' mains: the stream is descriptor 0. They return the program's exit status. */
int dump_main(void);
int dump_definition_main(void);
