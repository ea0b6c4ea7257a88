// SPDX-License-Identifier: Apache-2.0
/*
 * Interrupt lines.
 *
 * A line is a value handed to a device at its creation: the device raises and lowers it and never
 * learns which controller is behind it. A line whose `set` is NULL is not connected.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

struct irq_line {
    /* Called with the line's new level, on any thread, possibly with the device's lock held.
     * A controller takes its own lock and never calls back into the device that raised the line. */
    void (*set)(void *controller, unsigned pin, bool level);
    void *controller;
    unsigned pin; /* the controller's own number of this input */
};

/* Drive the line to `level`. Repeating a level is harmless. Any thread. */
static inline void irq_set(const struct irq_line *line, bool level)
{
    if (line->set)
        line->set(line->controller, line->pin, level);
}

/* A pulse: up, then down. What an edge-triggered input wants. */
static inline void irq_pulse(const struct irq_line *line)
{
    irq_set(line, true);
    irq_set(line, false);
}
