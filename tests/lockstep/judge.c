// SPDX-License-Identifier: Apache-2.0
/*
 * Whether both sides ended in the same state: all of the canonical state, all memory with the page
 * tables' accessed and dirty bits, and what devices saw.
 *
 * Left out: time; what random interrupts leave on their own stack, in their counters and pending;
 * and where flags need not be whole at exceptions, those of a vCPU that an exception shut down.
 */
#include <stdio.h>
#include <string.h>

#include "tests/lockstep/lockstep.h"
#include "vmm/state/state.h"

#define FLAGS_STATUS 0x8d5UL

static struct cpu_state masked_state(const struct program *program, const struct outcome *outcome)
{
    struct cpu_state state = outcome->state;

    state.tsc = 0;
    if (program->asynchronous) {
        memset(state.lapic.irr, 0, sizeof(state.lapic.irr));
        state.nmi_pending = false;
    }
    if (outcome->shut_down && !program->exact)
        state.rflags &= ~FLAGS_STATUS;
    return state;
}

/* Whether the kernel's bytes from `offset` on are looked at, up to `*end`. */
static bool kernel_part(const struct program *program, unsigned offset, unsigned *end)
{
    static const unsigned irqs = KERNEL_DATA + offsetof(struct kernel_data, irqs);
    static const unsigned edges[] = {irqs, irqs + 16, KERNEL_FAULTS, KERNEL_EVENTS, KERNEL_SIZE};
    unsigned i = 0;

    *end = KERNEL_SIZE;
    if (!program->asynchronous)
        return true;
    while (edges[i] <= offset)
        i++;
    *end = edges[i];
    return i % 2 == 0;
}

static bool same_kernel(const struct program *program, const struct outcome *a,
                        const struct outcome *b)
{
    unsigned end;

    for (unsigned at = 0; at < KERNEL_SIZE; at = end)
        if (kernel_part(program, at, &end) && memcmp(a->kernel + at, b->kernel + at, end - at))
            return false;
    return true;
}

bool outcomes_agree(const struct program *program, const struct outcome *a, const struct outcome *b)
{
    struct cpu_state left = masked_state(program, a), right = masked_state(program, b);

    return a->finished == b->finished && a->shut_down == b->shut_down && a->devices == b->devices &&
           !memcmp(&left, &right, sizeof(left)) && same_kernel(program, a, b) &&
           !memcmp(a->data, b->data, DATA_SIZE);
}

/* ---- telling ---- */

static void print_bytes(const uint8_t *bytes, unsigned size)
{
    for (unsigned i = size; i-- > 0;)
        printf("%02x", bytes[i]);
}

static void print_fields(const char *prefix, const struct state_table *table, const uint8_t *a,
                         const uint8_t *b)
{
    for (unsigned i = 0; i < table->count; i++) {
        const struct state_field *field = &table->fields[i];
        bool bytes = field->type == STATE_BYTES;
        unsigned size = bytes ? 64 : field->size, count = field->size * field->count / size;

        for (unsigned j = 0; j < count; j++) {
            const uint8_t *left = a + field->offset + j * size;
            const uint8_t *right = b + field->offset + j * size;
            char name[80];

            if (!memcmp(left, right, size))
                continue;
            g_snprintf(name, sizeof(name), count > 1 ? "%s%s[%u]" : "%s%s", prefix, field->name, j);
            if (field->type == STATE_STRUCT) {
                g_strlcat(name, ".", sizeof(name));
                print_fields(name, field->table, left, right);
                continue;
            }
            printf("    %-16s ", name);
            print_bytes(left, size);
            printf(" against ");
            print_bytes(right, size);
            printf("\n");
        }
    }
}

static void print_words(const char *name, unsigned base, const uint8_t *a, const uint8_t *b,
                        unsigned size)
{
    unsigned shown = 0;

    for (unsigned i = 0; i < size && shown < 12; i += 8) {
        uint64_t left, right;

        memcpy(&left, a + i, 8);
        memcpy(&right, b + i, 8);
        if (left == right)
            continue;
        printf("    %s[%05x]    %016lx against %016lx\n", name, base + i, left, right);
        shown++;
    }
}

/* The first entry of the logs that differs: the moment from which on they went apart. */
static void print_log(const uint8_t *a, const uint8_t *b)
{
    static const char *const names[] = {"rax", "rcx", "rdx",    "rbx",   "(rsp)", "rbp", "rsi",
                                        "rdi", "r8",  "r9",     "r10",   "r11",   "r12", "r13",
                                        "r14", "r15", "vector", "error", "rip",   "cs",  "rflags",
                                        "rsp", "ss",  "cr2",    "dr6"};

    uint64_t next;

    memcpy(&next, a + KERNEL_DATA + offsetof(struct kernel_data, log), 8);
    for (unsigned n = 0; n < LOG_SIZE; n += LOG_ENTRY) {
        unsigned i = (next + n) % LOG_SIZE; /* from the oldest on */
        const uint8_t *left = a + KERNEL_LOG + i, *right = b + KERNEL_LOG + i;
        uint64_t rip[2], vector[2];

        if (!memcmp(left, right, LOG_ENTRY))
            continue;
        memcpy(&rip[0], left + 18 * 8, 8);
        memcpy(&rip[1], right + 18 * 8, 8);
        memcpy(&vector[0], left + 16 * 8, 8);
        memcpy(&vector[1], right + 16 * 8, 8);
        printf("    log %u: vector %lu at %lx against %lu at %lx\n", i / LOG_ENTRY, vector[0],
               rip[0], vector[1], rip[1]);
        for (unsigned j = 0; j < G_N_ELEMENTS(names); j++) {
            uint64_t word[2];

            memcpy(&word[0], left + j * 8, 8);
            memcpy(&word[1], right + j * 8, 8);
            if (word[0] != word[1])
                printf("      %-7s %016lx against %016lx\n", names[j], word[0], word[1]);
        }
        return;
    }
}

void outcomes_print(const struct program *program, const struct outcome *a, const struct outcome *b)
{
    struct cpu_state left = masked_state(program, a), right = masked_state(program, b);
    unsigned end;

    if (a->finished != b->finished || a->shut_down != b->shut_down)
        printf("    finished %d shut down %d against %d %d\n", a->finished, a->shut_down,
               b->finished, b->shut_down);
    if (a->devices != b->devices)
        printf("    devices saw something else\n");
    print_fields("", &cpu_state_table, (const uint8_t *)&left, (const uint8_t *)&right);
    print_log(a->kernel, b->kernel);
    for (unsigned at = 0; at < KERNEL_SIZE; at = end)
        if (kernel_part(program, at, &end))
            print_words("kernel", at, a->kernel + at, b->kernel + at, end - at);
    print_words("data", 0, a->data, b->data, DATA_SIZE);
}
