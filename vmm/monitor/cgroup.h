// SPDX-License-Identifier: Apache-2.0
/*
 * Limits of a machine, all its processes together, by a control group of its own (cgroups(7),
 * version 2). A limit that was asked for and cannot be set is an error, never a silence.
 *
 * Everything runs on the default main context's thread.
 */
#pragma once

#include <glib.h>
#include <stdbool.h>

#include "config/definition.h"

struct cgroup;

/* Move this process, whose children follow, into a group that has the limits of `definition`, which
 * has a name. NULL without an error when it has none; NULL with CONFIG_ERROR_FAILED when one cannot
 * be set. */
struct cgroup *cgroup_create(const struct definition *definition, GError **error);

/* The group's path, as /proc/PID/cgroup tells it. */
const char *cgroup_path(const struct cgroup *cgroup);

/* Whether the kernel has killed a process of the group for its memory. */
bool cgroup_killed(const struct cgroup *cgroup);

/* Leave the group and remove it: no other process is in it any more. NULL is fine. */
void cgroup_destroy(struct cgroup *cgroup);
