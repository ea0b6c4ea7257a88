// SPDX-License-Identifier: Apache-2.0
/*
 * What an agent says of its guest, as the control protocol has it. Each value is the guest's word:
 * it is checked, and what is not as it should be is left out. The results are new.
 */
#pragma once

#include <jansson.h>

/* Of "guest-info": "agent" (its version) and "commands" (those that it carries out). */
json_t *report_info(const json_t *answer);
/* Add what "guest-get-osinfo" says as "os". */
void report_add_os(json_t *info, const json_t *answer);
/* Add what "guest-get-host-name" says as "hostname". */
void report_add_hostname(json_t *info, const json_t *answer);
/* Add what "guest-fsfreeze-status" says as "frozen". */
void report_add_frozen(json_t *info, const json_t *answer);

/* Of "guest-network-get-interfaces": "interfaces", a list of "name", "mac" and "addresses". */
json_t *report_addresses(const json_t *answer);

/* Of "guest-exec-status" of a command that has ended: "status" or "signal", "stdout", "stderr",
 * "stdout_cut", "stderr_cut". */
json_t *report_exec(const json_t *answer);
