// SPDX-License-Identifier: Apache-2.0
/*
 * Code that a processor changes while others run it: pages of code that are moved under them, code
 * that is written with the protocols that kernels use (SDM 3A, 9.1.3). In ring 0 and in ring 3, at
 * addresses of both halves.
 */
#include "coherence.h"

#define FLAGS      (PTE_P | PTE_W | PTE_U)
#define BREAKPOINT 3

/* ---- shoot-downs of code ---- */

/* A page that stays lies before one that is moved. The function begins in the first. */
enum code_shape {
    SHAPE_CALL,     /* a loop that calls into the second page */
    SHAPE_FALL,     /* it runs over into the second page */
    SHAPE_CROSSING, /* an instruction is part of both */
    SHAPES,
};

static uint8_t *code_first, *code_second[2];
static unsigned code_entry;
static uint64_t code_base;
static volatile uint64_t *second_entry;
static volatile unsigned stale;

static void put32(uint8_t *at, uint32_t value)
{
    memcpy(at, &value, 4);
}

static void write_second(uint8_t *page, enum code_shape shape, uint32_t number)
{
    if (shape == SHAPE_CROSSING) { /* the number's upper bytes of mov eax, imm32; ret */
        page[0] = number;
        page[1] = number >> 8;
        page[2] = 0xc3;
        return;
    }
    page[0] = 0xb8; /* mov eax, number << 16; ret */
    put32(page + 1, number << 16);
    page[5] = 0xc3;
}

static void write_first(uint8_t *page, enum code_shape shape)
{
    static const uint8_t loop[] = {0x6a, 50,                 /* pushq 50 */
                                   0xe8, 0,    0,    0,   0, /* again: call */
                                   0xff, 0x0c, 0x24,         /* decl (%rsp) */
                                   0x75, 0xf6, 0x59, 0xc3};  /* jnz again; pop rcx; ret */

    code_entry = shape == SHAPE_CALL ? 0x100 : shape == SHAPE_FALL ? 0xff0 : 0xffd;
    if (shape == SHAPE_CALL) {
        memcpy(page + code_entry, loop, sizeof(loop));
        put32(page + code_entry + 3, 0x1000 - (code_entry + 7));
    } else if (shape == SHAPE_FALL) {
        memset(page + code_entry, 0x90, 16);
    } else {
        memcpy(page + code_entry, (uint8_t[]){0xb8, 0, 0}, 3);
    }
}

static enum code_shape code_shape;

static void move_code(void)
{
    for (unsigned i = 1; goes_on(i); i++) {
        write_second(code_second[i % 2], code_shape, i);
        *second_entry = (uint64_t)code_second[i % 2] | FLAGS;
        dawdle(0);
        if (!flush_others(0, code_base + 4096))
            count(&unanswered);
        announced[0] = i;
        /* Whoever runs the old page now gets a number that is too low. */
        write_second(code_second[(i + 1) % 2], code_shape, 0);
        dawdle(0);
    }
    stop = true;
}

static void use_code(unsigned cpu)
{
    uint32_t (*fn)(void) = (uint32_t(*)(void))(code_base + code_entry);

    if (!cpu) {
        move_code();
        return;
    }
    while (!stop) {
        uint32_t last = announced[0];

        if (fn() >> 16 < last)
            count(&stale);
    }
}

static void code_shoot_downs(uint64_t at, bool user, enum code_shape shape)
{
    if (!code_first) {
        code_first = page_alloc();
        code_second[0] = page_alloc();
        code_second[1] = page_alloc();
    }
    code_base = at + 0x100000 + 0x10000 * shape;
    code_shape = shape;
    write_first(code_first, shape);
    write_second(code_second[0], shape, 0);
    page_map(code_base, (uint64_t)code_first, FLAGS);
    second_entry = page_map(code_base + 4096, (uint64_t)code_second[0], FLAGS);
    everywhere(flush_all, "flushes");
    stop = false;
    announced[0] = stale = unanswered = 0;
    run(use_code, user, "shoot-downs of code");
    check(!unanswered, "a shoot-down of code was not answered");
    check(!stale, "%u calls of shape %u at 0x%lx ran code that was taken away", stale, shape,
          code_base);
}

/* ---- code that is changed while others run it ---- */

/* As Linux does: a breakpoint over the first byte, the rest, the first byte, and after each all
 * have synchronized. Who meets the breakpoint does by himself what will be there. */
static volatile uint32_t poking;
static uint8_t *poke_site; /* mov eax, imm32 or a jmp to one; then ret */

static void at_breakpoint(struct frame *frame)
{
    frame->rax = poking;
    frame->rip += 4;
}

static void poke(const uint8_t *bytes)
{
    *(volatile uint8_t *)poke_site = 0xcc;
    if (!tell_others(SYNC_CODE, 0))
        count(&unanswered);
    for (unsigned i = 1; i < 5; i++)
        ((volatile uint8_t *)poke_site)[i] = bytes[i];
    if (!tell_others(SYNC_CODE, 0))
        count(&unanswered);
    *(volatile uint8_t *)poke_site = bytes[0];
    if (!tell_others(SYNC_CODE, 0))
        count(&unanswered);
}

static void poke_all(void)
{
    for (unsigned i = 1; goes_on(i); i++) {
        uint8_t bytes[5] = {0xb8}, *aside = poke_site + 64 + 8 * (i % 4);

        if (i % 2) {
            put32(bytes + 1, i);
        } else {
            bytes[0] = 0xe9;
            put32(bytes + 1, aside - (poke_site + 5));
            aside[0] = 0xb8;
            put32(aside + 1, i);
            aside[5] = 0xc3;
        }
        poking = i;
        poke(bytes);
        announced[0] = i;
        dawdle(0);
    }
    stop = true;
}

static void run_poked(unsigned cpu)
{
    uint32_t (*fn)(void) = (uint32_t(*)(void))(uint64_t)poke_site;

    if (!cpu) {
        poke_all();
        return;
    }
    while (!stop) {
        uint32_t last = announced[0], got = fn();

        if (got < last || got > rounds)
            count(&stale);
    }
}

static void poked_code(bool user, unsigned offset)
{
    uint8_t *pages = page_alloc();

    page_alloc();
    poke_site = pages + offset;
    memcpy(poke_site, (uint8_t[]){0xb8, 0, 0, 0, 0, 0xc3}, 6);
    stop = false;
    announced[0] = stale = unanswered = 0;
    interrupt_set(BREAKPOINT, at_breakpoint);
    run(run_poked, user, "poked code");
    interrupt_set(BREAKPOINT, NULL);
    check(!unanswered, "a poke was not answered");
    check(!stale, "%u calls ran code at offset %u that was replaced", stale, offset);
}

/* Each processor writes the next one's function, all on one page, and then gives it the turn. */
static uint8_t *relay_page;
static volatile uint32_t relay_last;
static volatile uint32_t relay_turn[CPUS_MAX], relay_number[CPUS_MAX];

static void write_function(uint8_t *at, uint32_t number, unsigned kind)
{
    uint8_t bytes[16] = {0xb8, 0, 0, 0, 0, 0xc3};
    uint64_t size = sizeof(bytes), low, high;
    uint8_t *from = bytes, *to = at;

    put32(bytes + 1, number);
    memcpy(&low, bytes, 8);
    memcpy(&high, bytes + 8, 8);
    switch (kind % 5) {
    case 0:
        for (unsigned i = 0; i < size; i++)
            ((volatile uint8_t *)at)[i] = bytes[i];
        break;
    case 1:
        asm volatile("rep movsb" : "+S"(from), "+D"(to), "+c"(size)::"memory");
        break;
    case 2:
        asm volatile("movups (%0), %%xmm0; movups %%xmm0, (%1)" ::"r"(bytes), "r"(at) : "memory");
        break;
    case 3:
        asm volatile(
            "movq %%rsp, %%r11; leaq 16(%0), %%rsp; pushq %1; pushq %2; movq %%r11, %%rsp" ::"r"(
                at),
            "r"(high), "r"(low)
            : "r11", "memory");
        break;
    default:
        asm volatile("xchgq %1, 8(%0); xchgq %2, (%0)" : : "r"(at), "r"(high), "r"(low) : "memory");
    }
}

static void relay(unsigned cpu)
{
    unsigned next = (cpu + 1) % cpus;
    uint32_t (*fn)(void) = (uint32_t(*)(void))(uint64_t)(relay_page + 256 * cpu);
    uint32_t r[4];

    for (uint32_t turn = 1; turn <= relay_last; turn++) {
        if (cpu || turn > 1) {
            if (!reaches(&relay_turn[cpu], cpu ? turn : turn - 1)) {
                count(&unanswered);
                return;
            }
            cpuid(0, 0, r); /* serializes */
            for (unsigned i = 0; i < 30; i++)
                if (fn() != relay_number[cpu])
                    count(&stale);
        }
        if (!cpu && !goes_on(turn + 1))
            relay_last = turn;
        relay_number[next] = random(cpu);
        write_function(relay_page + 256 * next, relay_number[next], random(cpu));
        /* data beside the code, too */
        ((volatile uint32_t *)relay_page)[64 * cpu + 32] = turn;
        relay_turn[next] = turn;
    }
}

static void relayed_code(bool user)
{
    relay_page = page_alloc();
    for (unsigned cpu = 0; cpu < CPUS_MAX; cpu++)
        relay_turn[cpu] = relay_number[cpu] = 0;
    stale = unanswered = 0;
    relay_last = rounds;
    run(relay, user, "relayed code");
    check(!unanswered, "a processor never got its turn");
    check(!stale, "%u calls ran code that another processor replaced before", stale);
}

void payload_main(const char *cmdline)
{
    coherence_begin(cmdline);
    for (unsigned i = 0; i < 4; i++)
        for (unsigned shape = 0; shape < SHAPES; shape++)
            code_shoot_downs(i / 2 ? HIGH_HALF : LOW_HALF, i % 2, shape);
    for (unsigned user = 0; user < 2; user++) {
        poked_code(user, 16);
        poked_code(user, 62); /* across a line */
        poked_code(user, 4094);
        relayed_code(user);
    }
}
