// SPDX-License-Identifier: Apache-2.0
/*
 * The two PS/2 devices behind the keyboard controller: what each answers to bytes that are sent to
 * it, and how keys and movements become bytes. They own no line and no lock; i8042.c calls them
 * with its own held, and takes bytes from their queues.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "vmm/state/state.h"

#define PS2_QUEUE_SIZE 64

#define PS2_ACK    0xFA
#define PS2_RESEND 0xFE
#define PS2_PASSED 0xAA /* self-test passed */

/* Bytes on their way to the controller. */
struct ps2_queue {
    uint8_t data[PS2_QUEUE_SIZE];
    uint8_t head, used; /* head: oldest */
};

extern const struct state_table ps2_queue_table;

/* Append a byte; a full queue drops it. */
void ps2_queue_put(struct ps2_queue *queue, uint8_t byte);
/* Take the oldest byte of a queue that is not empty. */
uint8_t ps2_queue_take(struct ps2_queue *queue);
void ps2_queue_clear(struct ps2_queue *queue);

struct ps2_keyboard {
    struct ps2_queue queue;
    uint8_t command;  /* that waits for its parameter; 0 for none */
    uint8_t scan_set; /* 1 to 3 */
    uint8_t leds, typematic;
    uint8_t last; /* byte sent, for the resend command */
    bool scanning;
};

extern const struct state_table ps2_keyboard_table;

/* Power-on state: scanning, nothing queued. */
void ps2_keyboard_reset(struct ps2_keyboard *keyboard);
/* A byte from the host: a command or its parameter. */
void ps2_keyboard_write(struct ps2_keyboard *keyboard, uint8_t byte);
/* A key by its set 1 scan code, with bit 7 for those with an E0 prefix; PS2_KEY_PAUSE for Pause. */
void ps2_keyboard_key(struct ps2_keyboard *keyboard, uint8_t key, bool pressed);
/* Scan code set 2 to set 1, as the controller translates. */
uint8_t ps2_translate(uint8_t code);

#define PS2_KEY_PAUSE 0xC6

enum ps2_button {
    PS2_BUTTON_LEFT = 1,
    PS2_BUTTON_RIGHT = 2,
    PS2_BUTTON_MIDDLE = 4,
    PS2_BUTTON_SIDE = 8,
    PS2_BUTTON_EXTRA = 16,
};

struct ps2_mouse {
    struct ps2_queue queue;
    uint8_t command; /* that waits for its parameter; 0 for none */
    uint8_t id;      /* 0: three buttons; 3: with a wheel; 4: with five buttons */
    uint8_t rate, resolution;
    uint8_t rates[2]; /* set before the current one: the knock of wheel drivers */
    uint8_t buttons;  /* mask of enum ps2_button */
    uint8_t reported_buttons;
    uint8_t last; /* byte sent, for the resend command */
    bool scaled, remote, wrap, reporting;
    int16_t dx, dy, dz; /* moved and not yet reported; y up, z towards the user */
};

extern const struct state_table ps2_mouse_table;

/* Power-on state: stream mode, not reporting, nothing queued. */
void ps2_mouse_reset(struct ps2_mouse *mouse);
/* A byte from the host: a command or its parameter. */
void ps2_mouse_write(struct ps2_mouse *mouse, uint8_t byte);
/* Movement (x right, y down, z towards the user) and the buttons that are down now. */
void ps2_mouse_move(struct ps2_mouse *mouse, int dx, int dy, int dz, uint8_t buttons);
