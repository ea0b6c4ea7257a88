// SPDX-License-Identifier: Apache-2.0
/*
 * Self-modifying code: what is written is what runs, from the next instruction on, however the
 * write reaches the page (same block, other mapping, across a page, string instruction).
 */
#include "code.h"
#include "payload.h"

#define ALIAS 0x40000000000UL

static void rewritten_function(void)
{
    uint8_t *code = page_alloc();

    for (uint32_t i = 0; i < 1000; i++) {
        write_function(code + 100, i * 0x01010101);
        check(call(code + 100) == i * 0x01010101, "round %u", i);
    }
}

static void written_through_alias(void)
{
    uint8_t *code = page_alloc();

    page_map(ALIAS, (uint64_t)code, PTE_P | PTE_W);
    for (uint32_t i = 0; i < 100; i++) {
        write_function((uint8_t *)ALIAS, i);
        check(call(code) == i, "alias round %u", i);
    }
}

static void across_pages(void)
{
    uint8_t *first = page_alloc();

    page_alloc();
    for (unsigned at = 4090; at < 4096; at++)
        for (uint32_t i = 0; i < 20; i++) {
            write_function(first + at, i + (at << 16));
            check(call(first + at) == i + (at << 16), "offset %u round %u", at, i);
        }
}

static void written_by_string(void)
{
    static uint8_t source[CODE_FUNCTION_SIZE];
    uint8_t *code = page_alloc();

    for (uint32_t i = 0; i < 100; i++) {
        write_function(source, i * 3);
        memcpy(code, source, sizeof(source));
        check(call(code) == i * 3, "string round %u", i);
    }
}

/* An instruction that changes the one right behind it, in one straight run:
 *   movb $NEW, 1(%rip) -> the immediate of the next; mov $0, %al; movzx; ret */
static void next_instruction(void)
{
    static const uint8_t text[] = {
        0x40, 0x88, 0x3d, 0x01, 0x00, 0x00, 0x00, /* mov %dil, 1(%rip) */
        0xb0, 0x00,                               /* mov $0, %al */
        0x0f, 0xb6, 0xc0, 0xc3,                   /* movzbl %al, %eax; ret */
    };
    uint8_t *code = page_alloc();

    memcpy(code, text, sizeof(text));
    for (unsigned i = 1; i < 200; i++) {
        uint32_t got = ((uint32_t(*)(unsigned))(void *)code)(i);
        check(got == i, "wrote %u, ran %u", i, got);
    }
}

void payload_main(const char *cmdline)
{
    (void)cmdline;
    rewritten_function();
    written_through_alias();
    across_pages();
    written_by_string();
    next_instruction();
}
