// SPDX-License-Identifier: Apache-2.0
/*
 * A request begins when each limit that concerns it is due: of its own direction and of both, of
 * bytes and of operations. It pays all of them at once.
 */
#include "vmm/block/limits.h"

#include "vmm/util/loop_timer.h"
#include "vmm/util/throttle.h"

struct queue {
    struct block_request *first, **end; /* oldest first */
};

struct limits {
    void (*pass)(struct block *block, struct block_request *request);
    struct loop_timer *timer;
    struct throttle bytes[BLOCK_LIMITS], operations[BLOCK_LIMITS];
    struct queue queues[BLOCK_LIMITS]; /* the one of BLOCK_LIMIT_TOTAL stays empty */
    enum block_limit turn;             /* whose is next */
    bool held;
};

static enum block_limit direction_of(const struct block_request *request)
{
    return request->kind == BLOCK_READ ? BLOCK_LIMIT_READ : BLOCK_LIMIT_WRITE;
}

/* Bytes that move; what is discarded moves none. */
static uint64_t bytes_of(const struct block_request *request)
{
    return request->kind == BLOCK_DISCARD ? 0 : request->length;
}

/* When one of this direction may begin. */
static int64_t due_ns(const struct limits *limits, enum block_limit direction)
{
    int64_t bytes = MAX(throttle_due_ns(&limits->bytes[BLOCK_LIMIT_TOTAL]),
                        throttle_due_ns(&limits->bytes[direction]));
    int64_t operations = MAX(throttle_due_ns(&limits->operations[BLOCK_LIMIT_TOTAL]),
                             throttle_due_ns(&limits->operations[direction]));

    return MAX(bytes, operations);
}

static bool may_begin(const struct limits *limits, enum block_limit direction, int64_t now)
{
    return limits->queues[direction].first && due_ns(limits, direction) <= now &&
           !(limits->held && direction == BLOCK_LIMIT_WRITE);
}

static void begin_first(struct limits *limits, enum block_limit direction, int64_t now)
{
    struct queue *queue = &limits->queues[direction];
    struct block_request *request = queue->first;
    const enum block_limit concerned[] = {BLOCK_LIMIT_TOTAL, direction};

    queue->first = request->private.next;
    if (!queue->first)
        queue->end = &queue->first;
    for (unsigned i = 0; i < G_N_ELEMENTS(concerned); i++) {
        throttle_take(&limits->bytes[concerned[i]], bytes_of(request), now);
        throttle_take(&limits->operations[concerned[i]], 1, now);
    }
    limits->pass(request->private.block, request);
}

static enum block_limit other(enum block_limit direction)
{
    return direction == BLOCK_LIMIT_READ ? BLOCK_LIMIT_WRITE : BLOCK_LIMIT_READ;
}

/* For the earliest of what still waits. */
static void timer_arm(struct limits *limits)
{
    int64_t earliest = INT64_MAX;

    if (limits->queues[BLOCK_LIMIT_READ].first)
        earliest = due_ns(limits, BLOCK_LIMIT_READ);
    if (limits->queues[BLOCK_LIMIT_WRITE].first && !limits->held)
        earliest = MIN(earliest, due_ns(limits, BLOCK_LIMIT_WRITE));
    if (earliest != INT64_MAX)
        loop_timer_arm(limits->timer, earliest);
}

static void go_on(void *opaque)
{
    struct limits *limits = opaque;
    int64_t now = loop_timer_now();

    while (may_begin(limits, limits->turn, now) || may_begin(limits, other(limits->turn), now)) {
        if (!may_begin(limits, limits->turn, now))
            limits->turn = other(limits->turn);
        begin_first(limits, limits->turn, now);
        limits->turn = other(limits->turn);
    }
    timer_arm(limits);
}

void limits_submit(struct limits *limits, struct block_request *request)
{
    struct queue *queue = &limits->queues[direction_of(request)];

    if (request->kind == BLOCK_FLUSH) {
        limits->pass(request->private.block, request);
        return;
    }
    request->private.next = NULL;
    *queue->end = request;
    queue->end = &request->private.next;
    go_on(limits);
}

bool limits_cancel(struct limits *limits, struct block_request *request)
{
    struct queue *queue = &limits->queues[direction_of(request)];

    for (struct block_request **place = &queue->first; *place; place = &(*place)->private.next) {
        if (*place != request)
            continue;
        *place = request->private.next;
        if (!*place)
            queue->end = place;
        return true;
    }
    return false;
}

void limits_hold(struct limits *limits, bool hold)
{
    limits->held = hold;
    go_on(limits);
}

void limits_set(struct limits *limits, const struct block_limits *rates)
{
    int64_t now = loop_timer_now();

    for (unsigned i = 0; i < BLOCK_LIMITS; i++) {
        throttle_set(&limits->bytes[i], rates->bytes[i], rates->burst_ns, now);
        throttle_set(&limits->operations[i], rates->operations[i], rates->burst_ns, now);
    }
    go_on(limits);
}

struct limits *limits_create(struct loop *loop,
                             void (*pass)(struct block *block, struct block_request *request),
                             GError **error)
{
    struct limits *limits = g_new0(struct limits, 1);

    limits->pass = pass;
    limits->turn = BLOCK_LIMIT_READ;
    for (unsigned i = 0; i < BLOCK_LIMITS; i++)
        limits->queues[i].end = &limits->queues[i].first;
    limits->timer = loop_timer_create(loop, go_on, limits, error);
    if (limits->timer)
        return limits;
    g_free(limits);
    return NULL;
}

void limits_destroy(struct limits *limits)
{
    if (!limits)
        return;
    loop_timer_destroy(limits->timer);
    g_free(limits);
}
