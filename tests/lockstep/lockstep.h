// SPDX-License-Identifier: Apache-2.0
/*
 * The lockstep test: random programs run by the interpreter and by the translator, which must end
 * in the same state to the last bit of registers, flags and memory.
 *
 * A program is a list of units of some instructions each (forms.c, flow.c, system.c), laid out over
 * four pages of code (program.c), in an address space of random rights (space.c), above a small
 * kernel (kernel.S) that logs every exception with all registers and goes on behind the unit that
 * raised it. machine.c runs it on an engine, judge.c compares, minimize.c makes it small. All
 * randomness comes from the seed and the program's number.
 *
 * Guest-physical memory: 32 pages of data at DATA_PHYSICAL, the kernel with its page tables at
 * KERNEL_PHYSICAL; what lies behind the data is a device. A window of 16 pages at DIFF_WINDOW,
 * which is shown at several places (user half low and high, kernel half), is all that a program is
 * meant to touch. Pages of it that are never mapped keep string instructions from running into the
 * code, themselves included: what they do then is not defined.
 */
#pragma once

#include "tests/diff/diff.h"
#include "vmm/engine/cpu_state.h"
#include "vmm/engine/engine.h"

#define DATA_PHYSICAL   0x20000000UL
#define DATA_PAGES      32U
#define DATA_SIZE       (DATA_PAGES * 4096UL)
#define DEVICE_PHYSICAL (DATA_PHYSICAL + DATA_SIZE)
#define KERNEL_PHYSICAL 0x60000000UL
#define KERNEL_SIZE     0x26000UL
#define KERNEL_LINEAR   0xffffc5a700000000UL

/* Offsets in the kernel; kernel.S has them too. */
#define KERNEL_IDT    0x2000U
#define KERNEL_GDT    0x3000U
#define KERNEL_TSS    0x4000U
#define KERNEL_DATA   0x5000U
#define KERNEL_STACK  0x9000U /* end of: RSP0 */
#define KERNEL_FAULTS 0xa000U /* IST1 */
#define KERNEL_EVENTS 0xb000U /* IST2, for interrupts, and the half below it IST3, for NMIs */
#define KERNEL_DOUBLE 0xc000U /* IST4 */
#define KERNEL_LOG    0xc000U
#define KERNEL_NEXT   0x10000U
#define KERNEL_TABLES 0x18000U

#define LOG_ENTRY 256U
#define LOG_SIZE  0x4000U

/* The window: page numbers. Pages 2 and 3 are DIFF_DATA. */
#define WINDOW_PAGES 16U
#define PAGE_USER    4U /* FUEL, jump table */
#define PAGE_STACK   5U
#define PAGE_CODE    8U /* four */
#define CODE_PAGES   4U
#define PAGE_ALIAS   13U /* three */
#define ALIAS_PAGES  3U
#define PAGE_OTHER   16U /* of the data: other contents of page - 16 */

#define CODE_LOW   (DIFF_WINDOW + PAGE_CODE * 4096UL)
#define CODE_SIZE  (CODE_PAGES * 4096UL)
#define USER_FUEL  (DIFF_WINDOW + PAGE_USER * 4096UL)
#define USER_TABLE (USER_FUEL + 0x100)
#define TABLE_SIZE 16U
#define STACK_TOP  (DIFF_WINDOW + PAGE_STACK * 4096UL + 0xe00)

/* What is added to the window's address for its other places: one of the last three, to that one of
 * the first two; but for ALIAS_TOP + ALIAS_FAR. */
#define ALIAS_NEAR   0x0000000040000000UL
#define ALIAS_FAR    0x0000000080000000UL
#define ALIAS_MIDDLE 0x00007f0000000000UL
#define ALIAS_HIGH   0xffff880000000000UL
#define ALIAS_TOP    0xffffffff80000000UL
#define TOP_PAGE     0x00007ffffffff000UL /* shows the last page of code */

#define SELECTOR_CODE0  0x08
#define SELECTOR_DATA0  0x10
#define SELECTOR_CODE32 0x1b
#define SELECTOR_DATA   0x23
#define SELECTOR_CODE64 0x2b
#define SELECTOR_TSS    0x30

/* Interrupts of the kernel. */
#define CALL_NOTHING    0x80
#define CALL_END        0x81
#define CALL_SPACE      0x82
#define CALL_EDIT       0x83
#define CALL_INTERRUPT  0x84
#define CALL_CHECKPOINT 0x85
#define CALL_FLUSH      0x86

#define EDITS 16U

#define PORT_FINISH    0xe0
#define PORT_INTERRUPT 0xe1
#define VECTOR_SYNC    0x41 /* of PORT_INTERRUPT */
#define VECTOR_ASYNC   0x48

struct kernel_edit {
    uint64_t place, value, linear, flush;
};

struct kernel_data {
    uint32_t fuel, faults;         /* so many more runs of the program, and exceptions */
    uint32_t steps, steps_reload;  /* single steps before TF is cleared */
    uint64_t flag_mask;            /* of RFLAGS that an exception leaves as they were */
    uint64_t start, stack, cs, ss; /* of a run */
    uint64_t cr3_change;
    uint64_t log;
    uint64_t irqs, nmis;
    uint64_t start_change; /* of `start`, by exclusive or, at each run */
    uint64_t reserved[20];
    struct kernel_edit edits[EDITS];
};

/* ---- program ---- */

enum fixup_kind {
    FIXUP_RELATIVE32, /* to a unit */
    FIXUP_RELATIVE8,
    FIXUP_ADDRESS64, /* linear address of a unit, in the alias that the program runs in */
    FIXUP_ADDRESS32,
    FIXUP_LINEAR32, /* from here to a linear address in the window */
};

struct fixup {
    uint8_t kind;
    uint8_t offset; /* in the unit */
    uint8_t end;    /* of its instruction */
    uint8_t target; /* unit */
    int32_t addend;
    uint64_t linear;
};

#define NEXT_WAITS 0x8000 /* in the kernel's table: the unit ends by an interrupt */

#define UNIT_BYTES  112
#define UNIT_FIXUPS 4
#define UNITS       64

struct unit {
    uint8_t bytes[UNIT_BYTES];
    uint8_t length, fixup_count;
    struct fixup fixups[UNIT_FIXUPS];
    uint8_t patch;  /* offset of an immediate of 32 bits that stores may change; 0: none */
    bool dropped;   /* left out: minimize.c */
    bool waits;     /* until an interrupt comes */
    bool only_here; /* not in the other contents of its page */
    uint16_t gap;   /* where code goes on before this unit, as an offset; 0: here */
};

/* What the judge leaves out, and how the program is run. */
struct program {
    uint64_t seed, number;
    unsigned code_size; /* 8, 4 */
    unsigned ring;      /* that it begins in */
    uint64_t alias;     /* added to its addresses */
    bool steady;        /* the linear pages of code stay where they are */
    bool large;         /* the window is one large page in a space: code has no guards there */
    bool globals;       /* one address space, with global pages */
    bool pcid;          /* address spaces have numbers */
    bool supervisor;    /* no pages of the user: those that kernel windows show */
    bool asynchronous;  /* kicked and interrupted at random */
    bool waits;         /* for interrupts: nothing may count what is executed meanwhile */
    bool exact;         /* flags are whole at every exception */
    unsigned variant;   /* of the translator */
    struct unit units[UNITS];
    unsigned count; /* the last one is the end */
    struct cpu_state state;
    uint16_t offset[UNITS + 1];                   /* in the code, by program_layout */
    uint64_t alias_target[ALIAS_PAGES];           /* what page of data PAGE_ALIAS + n shows */
    uint8_t kernel[KERNEL_SIZE], data[DATA_SIZE]; /* memory at its begin */
};

struct generator {
    struct diff_random random;
    const struct diff_forms *forms;
    struct program *program;
    unsigned index; /* of the unit being made */
};

/* Make program `number`. program.c */
void program_make(struct program *program, const struct diff_forms *forms, uint64_t seed,
                  uint64_t number);
/* Put its units into memory. After a change of the units. */
void program_layout(struct program *program);
/* Print what is not dropped. */
void program_print(const struct program *program);

/* Random address space and system registers: space.c. */
void space_make(struct program *program, struct diff_random *random);

/* The makers of units. They append to units[index], which is empty. */
void unit_form(struct generator *generator, struct unit *unit);   /* forms.c */
void unit_flow(struct generator *generator, struct unit *unit);   /* flow.c */
void unit_system(struct generator *generator, struct unit *unit); /* system.c */

/* ---- emitting: program.c ---- */

void unit_put(struct unit *unit, const void *bytes, unsigned count);
#define UNIT_PUT(unit, ...)                       \
    do {                                          \
        const uint8_t bytes_[] = {__VA_ARGS__};   \
        unit_put((unit), bytes_, sizeof(bytes_)); \
    } while (0)
void unit_put32(struct unit *unit, uint32_t value);
/* A fixup of 4 (8, 1) bytes where the unit stands, whose instruction ends `rest` bytes after it. */
void unit_fixup(struct unit *unit, enum fixup_kind kind, unsigned target, unsigned rest);
/* mov register, value */
void unit_load(struct unit *unit, unsigned code_size, unsigned reg, uint64_t value);
/* mov register, address of a unit */
void unit_load_address(struct generator *generator, struct unit *unit, unsigned reg,
                       unsigned target);
/* opcode reg, [linear] for an address in the window, with `bytes` that follow it */
void unit_memory(const struct generator *generator, struct unit *unit, const uint8_t *opcode,
                 unsigned count, unsigned reg, uint64_t linear);
/* A unit behind this one, near; a unit anywhere. */
unsigned unit_ahead(struct generator *generator);
unsigned unit_anywhere(struct generator *generator);
/* An address of the window in the program's favourite alias of it, or in another one. */
uint64_t unit_alias(struct generator *generator, uint64_t linear);

/* ---- machine.c ---- */

struct side;

/* What `text`, in the words of ANIMA_SOFT, switches on the engine. */
struct side *side_create(const char *switches);
void side_destroy(struct side *side);

/* How a run ended. */
struct outcome {
    bool finished;  /* else it took too long */
    bool shut_down; /* triple fault */
    struct cpu_state state;
    uint64_t devices;             /* hash of what devices saw */
    const uint8_t *kernel, *data; /* memory, until the next run of this side */
    unsigned returns;             /* of vcpu_run */
};

void side_run(struct side *side, const struct program *program, bool asynchronous,
              struct outcome *out);

/* Counters of the translator: blocks_translated and so on. */
const struct soft_counters *side_counters(const struct side *side);

/* ---- judge.c ---- */

/* Whether both ended alike. */
bool outcomes_agree(const struct program *program, const struct outcome *a,
                    const struct outcome *b);
/* Print where not. */
void outcomes_print(const struct program *program, const struct outcome *a,
                    const struct outcome *b);

/* ---- minimize.c ---- */

/* Whether a program still shows what is looked for. */
typedef bool (*program_test)(const struct program *program, void *opaque);
void program_minimize(struct program *program, program_test test, void *opaque);
