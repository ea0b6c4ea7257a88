// SPDX-License-Identifier: Apache-2.0
/*
 * PS/2 mouse (IBM PS/2 Hardware Interface Technical Reference, "Auxiliary device"), with the
 * extensions of the IntelliMouse: the knock of sample rates 200, 100, 80 turns on its wheel, 200,
 * 200, 80 then its two more buttons.
 */
#include <string.h>

#include "vmm/device/legacy/ps2.h"

#define PACKET_BYTES 4

static const struct state_field fields[] = {
    STATE_NESTED(struct ps2_mouse, queue, &ps2_queue_table),
    STATE_U(struct ps2_mouse, command),
    STATE_RANGE(struct ps2_mouse, id, 0, 4),
    STATE_U(struct ps2_mouse, rate),
    STATE_U(struct ps2_mouse, resolution),
    STATE_ARRAY(struct ps2_mouse, rates),
    STATE_U(struct ps2_mouse, buttons),
    STATE_U(struct ps2_mouse, reported_buttons),
    STATE_U(struct ps2_mouse, last),
    STATE_B(struct ps2_mouse, scaled),
    STATE_B(struct ps2_mouse, remote),
    STATE_B(struct ps2_mouse, wrap),
    STATE_B(struct ps2_mouse, reporting),
    STATE_I(struct ps2_mouse, dx),
    STATE_I(struct ps2_mouse, dy),
    STATE_I(struct ps2_mouse, dz),
};

const struct state_table ps2_mouse_table = STATE_TABLE("ps2_mouse", 1, struct ps2_mouse, fields);

/* ---- movement ---- */

static int clamp(int value, int limit)
{
    return value < -limit ? -limit : value > limit ? limit : value;
}

/* 2:1 scaling, of stream mode only. */
static int scale(int value)
{
    static const uint8_t small[] = {0, 1, 1, 3, 6, 9};
    int size = value < 0 ? -value : value;

    size = size < 6 ? small[size] : 2 * size;
    return value < 0 ? -size : size;
}

/* One packet of what moved; what does not fit stays for the next. */
static void put_packet(struct ps2_mouse *mouse, bool stream)
{
    int dx = clamp(mouse->dx, 127), dy = clamp(mouse->dy, 127);
    int dz = clamp(mouse->dz, mouse->id == 4 ? 7 : 127);

    mouse->dx -= dx;
    mouse->dy -= dy;
    mouse->dz -= dz;
    mouse->reported_buttons = mouse->buttons;
    if (mouse->scaled && stream) {
        dx = scale(dx);
        dy = scale(dy);
    }
    ps2_queue_put(&mouse->queue, 0x08 | (mouse->buttons & 7) | (dx < 0) << 4 | (dy < 0) << 5);
    ps2_queue_put(&mouse->queue, dx);
    ps2_queue_put(&mouse->queue, dy);
    if (mouse->id == 3)
        ps2_queue_put(&mouse->queue, dz);
    else if (mouse->id == 4)
        ps2_queue_put(&mouse->queue, (dz & 15) | (mouse->buttons >> 3 & 3) << 4);
    else
        mouse->dz = 0; /* no wheel to tell of */
}

static bool has_news(const struct ps2_mouse *mouse)
{
    return mouse->dx || mouse->dy || mouse->dz || mouse->buttons != mouse->reported_buttons;
}

static void forget_movement(struct ps2_mouse *mouse)
{
    mouse->dx = mouse->dy = mouse->dz = 0;
}

void ps2_mouse_move(struct ps2_mouse *mouse, int dx, int dy, int dz, uint8_t buttons)
{
    mouse->dx = clamp(mouse->dx + clamp(dx, 1000), 1000);
    mouse->dy = clamp(mouse->dy - clamp(dy, 1000), 1000);
    mouse->dz = clamp(mouse->dz + clamp(dz, 1000), 1000);
    mouse->buttons = buttons & 31;
    if (mouse->remote || !mouse->reporting || mouse->wrap)
        return;
    /* Room is left for the answer to a command. */
    while (has_news(mouse) && mouse->queue.used < PS2_QUEUE_SIZE - 4 * PACKET_BYTES)
        put_packet(mouse, true);
}

/* ---- commands ---- */

static void set_defaults(struct ps2_mouse *mouse)
{
    mouse->rate = 100;
    mouse->resolution = 2; /* 4 counts a millimetre */
    mouse->scaled = mouse->remote = mouse->wrap = mouse->reporting = false;
    mouse->command = 0;
    forget_movement(mouse);
}

void ps2_mouse_reset(struct ps2_mouse *mouse)
{
    uint8_t buttons = mouse->buttons;

    memset(mouse, 0, sizeof(*mouse));
    mouse->buttons = mouse->reported_buttons = buttons; /* the user's finger stays */
    set_defaults(mouse);
}

static void answer(struct ps2_mouse *mouse, uint8_t byte)
{
    ps2_queue_put(&mouse->queue, byte);
    mouse->last = byte;
}

static void set_rate(struct ps2_mouse *mouse, uint8_t rate)
{
    if (mouse->rates[0] == 200 && mouse->rates[1] == 100 && rate == 80)
        mouse->id = 3;
    else if (mouse->id == 3 && mouse->rates[0] == 200 && mouse->rates[1] == 200 && rate == 80)
        mouse->id = 4;
    mouse->rates[0] = mouse->rates[1];
    mouse->rates[1] = rate;
    mouse->rate = rate;
}

static void take_parameter(struct ps2_mouse *mouse, uint8_t command, uint8_t value)
{
    if (command == 0xF3)
        set_rate(mouse, value);
    else
        mouse->resolution = value & 3;
    answer(mouse, PS2_ACK);
}

static void answer_status(struct ps2_mouse *mouse)
{
    uint8_t buttons = (mouse->buttons & PS2_BUTTON_LEFT ? 4 : 0) |
                      (mouse->buttons & PS2_BUTTON_MIDDLE ? 2 : 0) |
                      (mouse->buttons & PS2_BUTTON_RIGHT ? 1 : 0);

    answer(mouse, PS2_ACK);
    answer(mouse, buttons | mouse->scaled << 4 | mouse->reporting << 5 | mouse->remote << 6);
    answer(mouse, mouse->resolution);
    answer(mouse, mouse->rate);
}

static void take_command(struct ps2_mouse *mouse, uint8_t command)
{
    switch (command) {
    case 0xE6:
    case 0xE7:
        mouse->scaled = command == 0xE7;
        answer(mouse, PS2_ACK);
        break;
    case 0xE8: /* resolution */
    case 0xF3: /* sample rate */
        mouse->command = command;
        answer(mouse, PS2_ACK);
        break;
    case 0xE9:
        answer_status(mouse);
        break;
    case 0xEA: /* stream mode */
    case 0xF0: /* remote mode */
        mouse->remote = command == 0xF0;
        forget_movement(mouse);
        answer(mouse, PS2_ACK);
        break;
    case 0xEB: /* read data */
        answer(mouse, PS2_ACK);
        put_packet(mouse, false);
        break;
    case 0xEC: /* end of wrap mode, which is not on */
        answer(mouse, PS2_ACK);
        break;
    case 0xEE:
        mouse->wrap = true;
        answer(mouse, PS2_ACK);
        break;
    case 0xF2:
        answer(mouse, PS2_ACK);
        answer(mouse, mouse->id);
        break;
    case 0xF4:
    case 0xF5:
        mouse->reporting = command == 0xF4;
        forget_movement(mouse);
        answer(mouse, PS2_ACK);
        break;
    case 0xF6:
        set_defaults(mouse);
        answer(mouse, PS2_ACK);
        break;
    case 0xFE:
        ps2_queue_put(&mouse->queue, mouse->last);
        break;
    case 0xFF:
        ps2_mouse_reset(mouse);
        answer(mouse, PS2_ACK);
        answer(mouse, PS2_PASSED);
        answer(mouse, 0x00);
        break;
    default:
        answer(mouse, PS2_RESEND);
        break;
    }
}

void ps2_mouse_write(struct ps2_mouse *mouse, uint8_t byte)
{
    uint8_t command = mouse->command;

    if (mouse->wrap && byte != 0xFF && byte != 0xEC) {
        answer(mouse, byte);
        return;
    }
    mouse->wrap = false;
    mouse->command = 0;
    if (command)
        take_parameter(mouse, command, byte);
    else
        take_command(mouse, byte);
}
