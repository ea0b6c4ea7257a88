// SPDX-License-Identifier: Apache-2.0
/* Where g_message and its like go in this program: to standard error, which is a machine's log. */
#pragma once

/* Take over GLib's log; once, at the program's start, before there are threads. */
void log_start(void);
