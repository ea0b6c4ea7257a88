// SPDX-License-Identifier: Apache-2.0
/* The role behind `anima state dump`: print a stream in readable form. */
#pragma once

/* The role's main: the stream is descriptor 0. Returns the program's exit status. */
int dump_main(void);
