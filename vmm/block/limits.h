// SPDX-License-Identifier: Apache-2.0
/*
 * The rate limits of a block node: requests that cannot be paid yet wait in two queues, one of
 * reads and one of what changes the disk, so that neither waits for a limit of the other alone.
 * Where both may go they take turns. A flush passes: it moves no data of its own.
 *
 * Everything on the loop's thread, but what is said otherwise.
 */
#pragma once

#include "vmm/block/block.h"

struct limits;

/* With nothing limited; `pass` is called with each request that may begin. NULL and `error` when
 * there is no descriptor left. */
struct limits *limits_create(struct loop *loop,
                             void (*pass)(struct block *block, struct block_request *request),
                             GError **error);
/* Nothing waits any more. NULL is fine. */
void limits_destroy(struct limits *limits);

void limits_set(struct limits *limits, const struct block_limits *rates);

/* The request passes, now or later. */
void limits_submit(struct limits *limits, struct block_request *request);

/* Take a request back that waits; false when it does not. */
bool limits_cancel(struct limits *limits, struct block_request *request);

/* Let what changes the disk wait, whatever may be; or no longer. */
void limits_hold(struct limits *limits, bool hold);
