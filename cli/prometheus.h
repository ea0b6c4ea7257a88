// SPDX-License-Identifier: Apache-2.0
/* What machines count, gathered for Prometheus. */
#pragma once

#include "cli/cli.h"

struct prometheus;

struct prometheus *prometheus_create(void);
void prometheus_destroy(struct prometheus *prometheus);

/* Ask the running machine called `name`. False with `error` when it does not tell all. */
bool prometheus_add(struct prometheus *prometheus, const char *name, struct anima_error **error);

/* All that was told, to standard output. */
void prometheus_print(const struct prometheus *prometheus);
