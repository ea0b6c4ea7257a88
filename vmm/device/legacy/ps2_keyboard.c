// SPDX-License-Identifier: Apache-2.0
/*
 * PS/2 keyboard (IBM PS/2 Hardware Interface Technical Reference, "Keyboards"), with the three scan
 * code sets, and the queue that both PS/2 devices use.
 */
#include <string.h>

#include "vmm/device/legacy/ps2.h"

#define EVENT_BYTES 8 /* the longest key's: Pause */

static const struct state_field queue_fields[] = {
    STATE_RAW(struct ps2_queue, data),
    STATE_RANGE(struct ps2_queue, head, 0, PS2_QUEUE_SIZE - 1),
    STATE_RANGE(struct ps2_queue, used, 0, PS2_QUEUE_SIZE),
};

const struct state_table ps2_queue_table =
    STATE_TABLE("ps2_queue", 1, struct ps2_queue, queue_fields);

static const struct state_field fields[] = {
    STATE_NESTED(struct ps2_keyboard, queue, &ps2_queue_table),
    STATE_U(struct ps2_keyboard, command),
    STATE_RANGE(struct ps2_keyboard, scan_set, 1, 3),
    STATE_U(struct ps2_keyboard, leds),
    STATE_U(struct ps2_keyboard, typematic),
    STATE_U(struct ps2_keyboard, last),
    STATE_B(struct ps2_keyboard, scanning),
};

const struct state_table ps2_keyboard_table =
    STATE_TABLE("ps2_keyboard", 1, struct ps2_keyboard, fields);

/* ---- queue ---- */

void ps2_queue_put(struct ps2_queue *queue, uint8_t byte)
{
    if (queue->used == PS2_QUEUE_SIZE)
        return;
    queue->data[(queue->head + queue->used) % PS2_QUEUE_SIZE] = byte;
    queue->used++;
}

uint8_t ps2_queue_take(struct ps2_queue *queue)
{
    uint8_t byte = queue->data[queue->head];

    queue->head = (queue->head + 1) % PS2_QUEUE_SIZE;
    queue->used--;
    return byte;
}

void ps2_queue_clear(struct ps2_queue *queue)
{
    memset(queue, 0, sizeof(*queue));
}

/* ---- scan codes ---- */

/* What the controller makes of set 2's codes below 80H. */
static const uint8_t set2_to_set1[128] = {
    0xFF, 0x43, 0x41, 0x3F, 0x3D, 0x3B, 0x3C, 0x58, 0x64, 0x44, 0x42, 0x40, 0x3E, 0x0F, 0x29, 0x59,
    0x65, 0x38, 0x2A, 0x70, 0x1D, 0x10, 0x02, 0x5A, 0x66, 0x71, 0x2C, 0x1F, 0x1E, 0x11, 0x03, 0x5B,
    0x67, 0x2E, 0x2D, 0x20, 0x12, 0x05, 0x04, 0x5C, 0x68, 0x39, 0x2F, 0x21, 0x14, 0x13, 0x06, 0x5D,
    0x69, 0x31, 0x30, 0x23, 0x22, 0x15, 0x07, 0x5E, 0x6A, 0x72, 0x32, 0x24, 0x16, 0x08, 0x09, 0x5F,
    0x6B, 0x33, 0x25, 0x17, 0x18, 0x0B, 0x0A, 0x60, 0x6C, 0x34, 0x35, 0x26, 0x27, 0x19, 0x0C, 0x61,
    0x6D, 0x73, 0x28, 0x74, 0x1A, 0x0D, 0x62, 0x6E, 0x3A, 0x36, 0x1C, 0x1B, 0x75, 0x2B, 0x63, 0x76,
    0x55, 0x56, 0x77, 0x78, 0x79, 0x7A, 0x0E, 0x7B, 0x7C, 0x4F, 0x7D, 0x4B, 0x47, 0x7E, 0x7F, 0x6F,
    0x52, 0x53, 0x50, 0x4C, 0x4D, 0x48, 0x01, 0x45, 0x57, 0x4E, 0x51, 0x4A, 0x37, 0x49, 0x46, 0x54,
};

/* Keys whose set 3 code is not that of set 2: key as in ps2_keyboard_key, code. */
static const uint8_t set3_codes[][2] = {
    {0x3B, 0x07}, {0x3C, 0x0F}, {0x3D, 0x17}, {0x3E, 0x1F}, {0x3F, 0x27}, {0x40, 0x2F},
    {0x41, 0x37}, {0x42, 0x3F}, {0x43, 0x47}, {0x44, 0x4F}, {0x57, 0x56}, {0x58, 0x5E},
    {0xB7, 0x57}, {0x46, 0x5F}, {0xC6, 0x62}, {0x3A, 0x14}, {0x2B, 0x5C}, {0x1D, 0x11},
    {0x38, 0x19}, {0xB8, 0x39}, {0x9D, 0x58}, {0x01, 0x08}, {0xD2, 0x67}, {0xC7, 0x6E},
    {0xC9, 0x6F}, {0xD3, 0x64}, {0xCF, 0x65}, {0xD1, 0x6D}, {0xC8, 0x63}, {0xCB, 0x61},
    {0xD0, 0x60}, {0xCD, 0x6A}, {0x45, 0x76}, {0xB5, 0x4A}, {0x37, 0x7E}, {0x4A, 0x4E},
    {0x4E, 0x7C}, {0x9C, 0x79}, {0xDB, 0x8B}, {0xDC, 0x8C}, {0xDD, 0x8D},
};

uint8_t ps2_translate(uint8_t code)
{
    if (code == 0x83) /* F7 */
        return 0x41;
    if (code == 0x84) /* SysRq */
        return 0x54;
    return code < 0x80 ? set2_to_set1[code] : code;
}

static uint8_t set2_code(uint8_t set1)
{
    if (set1 == 0x41)
        return 0x83;
    if (set1 == 0x54)
        return 0x84;
    for (unsigned i = 0; i < sizeof(set2_to_set1); i++) {
        if (set2_to_set1[i] == set1)
            return i;
    }
    return 0;
}

static uint8_t set3_code(uint8_t key)
{
    for (unsigned i = 0; i < sizeof(set3_codes) / sizeof(set3_codes[0]); i++) {
        if (set3_codes[i][0] == key)
            return set3_codes[i][1];
    }
    return set2_code(key & 0x7F);
}

/* Pause has no release. */
static void put_pause(struct ps2_keyboard *keyboard)
{
    static const uint8_t set1[] = {0xE1, 0x1D, 0x45, 0xE1, 0x9D, 0xC5};
    static const uint8_t set2[] = {0xE1, 0x14, 0x77, 0xE1, 0xF0, 0x14, 0xF0, 0x77};
    const uint8_t *codes = keyboard->scan_set == 1 ? set1 : set2;
    size_t count = keyboard->scan_set == 1 ? sizeof(set1) : sizeof(set2);

    for (size_t i = 0; i < count; i++)
        ps2_queue_put(&keyboard->queue, codes[i]);
}

void ps2_keyboard_key(struct ps2_keyboard *keyboard, uint8_t key, bool pressed)
{
    struct ps2_queue *queue = &keyboard->queue;

    /* A key is dropped whole, never in part. */
    if (!keyboard->scanning || queue->used > PS2_QUEUE_SIZE - EVENT_BYTES)
        return;
    if (key == PS2_KEY_PAUSE && keyboard->scan_set != 3) {
        if (pressed)
            put_pause(keyboard);
        return;
    }
    if ((key & 0x80) && keyboard->scan_set != 3)
        ps2_queue_put(queue, 0xE0);
    if (keyboard->scan_set == 1) {
        ps2_queue_put(queue, (key & 0x7F) | (pressed ? 0 : 0x80));
        return;
    }
    if (!pressed)
        ps2_queue_put(queue, 0xF0);
    ps2_queue_put(queue, keyboard->scan_set == 3 ? set3_code(key) : set2_code(key & 0x7F));
}

/* ---- commands ---- */

static void set_defaults(struct ps2_keyboard *keyboard)
{
    keyboard->scan_set = 2;
    keyboard->leds = 0;
    keyboard->typematic = 0x2B; /* 10.9 characters a second after 500 ms */
    keyboard->command = 0;
}

void ps2_keyboard_reset(struct ps2_keyboard *keyboard)
{
    ps2_queue_clear(&keyboard->queue);
    set_defaults(keyboard);
    keyboard->scanning = true;
    keyboard->last = 0;
}

static void answer(struct ps2_keyboard *keyboard, uint8_t byte)
{
    ps2_queue_put(&keyboard->queue, byte);
    keyboard->last = byte;
}

static void take_parameter(struct ps2_keyboard *keyboard, uint8_t command, uint8_t value)
{
    switch (command) {
    case 0xED:
        keyboard->leds = value & 7;
        break;
    case 0xF0:
        if (value > 3) {
            answer(keyboard, PS2_RESEND);
            return;
        }
        answer(keyboard, PS2_ACK);
        if (value)
            keyboard->scan_set = value;
        else
            answer(keyboard, keyboard->scan_set);
        return;
    case 0xF3:
        keyboard->typematic = value & 0x7F;
        break;
    }
    answer(keyboard, PS2_ACK);
}

static void take_command(struct ps2_keyboard *keyboard, uint8_t command)
{
    switch (command) {
    case 0xED: /* LEDs */
    case 0xF0: /* scan code set */
    case 0xF3: /* typematic rate */
    case 0xFB: /* kinds of one key of set 3, which has all kinds anyway */
    case 0xFC:
    case 0xFD:
        keyboard->command = command;
        answer(keyboard, PS2_ACK);
        break;
    case 0xEE: /* echo */
        answer(keyboard, 0xEE);
        break;
    case 0xF2: /* identify */
        answer(keyboard, PS2_ACK);
        answer(keyboard, 0xAB);
        answer(keyboard, 0x83);
        break;
    case 0xF4: /* enable scanning */
        ps2_queue_clear(&keyboard->queue);
        keyboard->scanning = true;
        answer(keyboard, PS2_ACK);
        break;
    case 0xF5: /* defaults, and disable */
    case 0xF6: /* defaults */
        ps2_queue_clear(&keyboard->queue);
        set_defaults(keyboard);
        keyboard->scanning = command == 0xF6;
        answer(keyboard, PS2_ACK);
        break;
    case 0xF7: /* kinds of all keys of set 3 */
    case 0xF8:
    case 0xF9:
    case 0xFA:
        answer(keyboard, PS2_ACK);
        break;
    case 0xFE: /* resend */
        ps2_queue_put(&keyboard->queue, keyboard->last);
        break;
    case 0xFF:
        ps2_keyboard_reset(keyboard);
        answer(keyboard, PS2_ACK);
        answer(keyboard, PS2_PASSED);
        break;
    default:
        answer(keyboard, PS2_RESEND);
        break;
    }
}

void ps2_keyboard_write(struct ps2_keyboard *keyboard, uint8_t byte)
{
    uint8_t command = keyboard->command;

    keyboard->command = 0;
    /* A command in place of a parameter calls the first one off. */
    if (command && byte < 0xED)
        take_parameter(keyboard, command, byte);
    else
        take_command(keyboard, byte);
}
