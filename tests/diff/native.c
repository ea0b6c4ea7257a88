// SPDX-License-Identifier: Apache-2.0
/*
 * The native side: one instruction in ring 3 of this processor, in this process, with a whole state
 * of registers.
 *
 * Signals carry the state both ways. A breakpoint brings us into the handler, which writes the
 * case's registers and vector state into the interrupted context: the kernel loads all of it on the
 * way back. The instruction runs; what follows it - a breakpoint, the single-step trap of a branch,
 * or its own fault - brings us into the handler again, which takes the result from the context, and
 * leaves to where the first breakpoint was.
 */
#include <asm/ldt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/ucontext.h>
#include <unistd.h>

#include "tests/diff/diff.h"

#define TRAP_DEBUG      1
#define TRAP_BREAKPOINT 3
#define FLAG_TRAP       0x100
#define FLAGS_KEPT      0x204000 /* NT and ID */

#define XSAVE_HEADER 512
#define XSAVE_YMM    576
#define FRAME_MAX    4096
#define AVX_IN_FRAME 4

#define OPMASK    5 /* components of AVX-512 */
#define ZMM_HIGH  6
#define ZMM_UPPER 7

/* Flags that ring 3 can change and that a case may set. */
#define FLAGS_SEEN 0x244dd5UL

static uint8_t *code, *data, *read_only; /* writable aliases */
static const struct diff_case *volatile current;
static struct diff_outcome *volatile outcome;
static volatile int phase;
static greg_t saved_gregs[NGREG];
static uint8_t saved_vector[FRAME_MAX];
static struct cpu_definition layout; /* of the frame: XSAVE's standard form */
static unsigned frame_used = XSAVE_YMM + 256;

/* REG_ numbers of the general registers in the order of their encoding. */
static const uint8_t greg_order[16] = {REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP,
                                       REG_RSI, REG_RDI, REG_R8,  REG_R9,  REG_R10, REG_R11,
                                       REG_R12, REG_R13, REG_R14, REG_R15};

/* CS and SS stand in the lowest and the highest 16 bits. */
static void set_selectors(ucontext_t *user, unsigned code_size)
{
    uint64_t selectors = (uint64_t)user->uc_mcontext.gregs[REG_CSGSFS];
    uint64_t cs = code_size == 8 ? DIFF_CS64 : code_size == 4 ? DIFF_CS32 : DIFF_CS16;
    uint64_t ss = code_size == 2 ? DIFF_DS16 : DIFF_DS32;

    selectors = (selectors & 0x0000ffffffff0000) | cs | ss << 48;
    user->uc_mcontext.gregs[REG_CSGSFS] = (greg_t)selectors;
}

static void load_state(ucontext_t *user, const struct diff_case *test)
{
    uint8_t *frame = (uint8_t *)user->uc_mcontext.fpregs;
    const struct diff_state *state = &test->state;
    uint64_t present;

    for (unsigned i = 0; i < 16; i++)
        user->uc_mcontext.gregs[greg_order[i]] = (greg_t)state->gpr[i];
    user->uc_mcontext.gregs[REG_RIP] = (greg_t)state->rip;
    user->uc_mcontext.gregs[REG_EFL] = (greg_t)(state->rflags | (test->branches ? FLAG_TRAP : 0));
    set_selectors(user, test->form->code_size);
    memcpy(frame, state->fxsave, 416); /* the rest belongs to the kernel */
    memcpy(frame + XSAVE_YMM, state->ymm_high, 256);
    memcpy(&present, frame + XSAVE_HEADER, 8);
    present |= 7;
    if (diff_has_avx512()) {
        memcpy(frame + layout.xsave[OPMASK].offset, state->opmask, sizeof(state->opmask));
        memcpy(frame + layout.xsave[ZMM_HIGH].offset, state->zmm_high, sizeof(state->zmm_high));
        memcpy(frame + layout.xsave[ZMM_UPPER].offset, state->zmm_upper, sizeof(state->zmm_upper));
        present |= 1 << OPMASK | 1 << ZMM_HIGH | 1 << ZMM_UPPER;
    }
    memcpy(frame + XSAVE_HEADER, &present, 8);
}

/* A component of the frame; zeroes where it is in its initial state. */
static void take_component(const uint8_t *frame, uint64_t present, unsigned component, void *out,
                           size_t size)
{
    if (present >> component & 1)
        memcpy(out, frame + layout.xsave[component].offset, size);
    else
        memset(out, 0, size);
}

static void save_state(const ucontext_t *user, struct diff_state *state)
{
    const uint8_t *frame = (const uint8_t *)user->uc_mcontext.fpregs;
    uint64_t present;

    for (unsigned i = 0; i < 16; i++)
        state->gpr[i] = (uint64_t)user->uc_mcontext.gregs[greg_order[i]];
    if (current->form->code_size == 2) /* the kernel's way to a 16-bit stack shows above */
        state->gpr[4] &= 0xffffffff;
    state->rip = (uint64_t)user->uc_mcontext.gregs[REG_RIP];
    state->rflags = (uint64_t)user->uc_mcontext.gregs[REG_EFL] & FLAGS_SEEN;
    memset(state->fxsave, 0, sizeof(state->fxsave));
    memcpy(state->fxsave, frame, 416);
    memcpy(&present, frame + XSAVE_HEADER, 8);
    if (present & AVX_IN_FRAME)
        memcpy(state->ymm_high, frame + XSAVE_YMM, 256);
    else
        memset(state->ymm_high, 0, sizeof(state->ymm_high));
    if (!diff_has_avx512())
        present = 0;
    take_component(frame, present, OPMASK, state->opmask, sizeof(state->opmask));
    take_component(frame, present, ZMM_HIGH, state->zmm_high, sizeof(state->zmm_high));
    take_component(frame, present, ZMM_UPPER, state->zmm_upper, sizeof(state->zmm_upper));
}

static void take_result(const ucontext_t *user)
{
    struct diff_outcome *out = outcome;
    uint64_t after = current->state.rip + current->instruction.length;

    save_state(user, &out->state);
    out->vector = (int)user->uc_mcontext.gregs[REG_TRAPNO];
    out->error = (uint32_t)user->uc_mcontext.gregs[REG_ERR];
    out->cr2 = (uint64_t)user->uc_mcontext.gregs[REG_CR2];
    if (current->branches ? out->vector == TRAP_DEBUG
                          : out->vector == TRAP_BREAKPOINT && out->state.rip == after + 1) {
        out->vector = -1;
        out->state.rip -= !current->branches;
    }
}

/* A case may have set the alignment-check flag, which the kernel leaves on in the handler. */
void signal_entry(int number, siginfo_t *info, void *context);
__asm__(".text\n"
        "signal_entry:\n"
        "    pushfq\n"
        "    andl $~0x40000, (%rsp)\n"
        "    popfq\n"
        "    jmp on_signal\n");

void on_signal(int number, siginfo_t *info, void *context);
void on_signal(int number, siginfo_t *info, void *context)
{
    ucontext_t *user = context;

    if (phase == 0) {
        if (number != SIGTRAP) { /* a fault of this program's own */
            static const char text[] = "anima-difftest: crashed\n";

            if (write(STDERR_FILENO, text, sizeof(text) - 1) < 0)
                _exit(3);
            _exit(2);
        }
        memcpy(saved_gregs, user->uc_mcontext.gregs, sizeof(saved_gregs));
        memcpy(saved_vector, user->uc_mcontext.fpregs, frame_used);
        phase = 1;
        load_state(user, current);
        return;
    }
    take_result(user);
    phase = 0;
    for (unsigned i = 0; i < 16; i++)
        user->uc_mcontext.gregs[greg_order[i]] = saved_gregs[greg_order[i]];
    user->uc_mcontext.gregs[REG_RIP] = saved_gregs[REG_RIP];
    user->uc_mcontext.gregs[REG_EFL] = saved_gregs[REG_EFL];
    user->uc_mcontext.gregs[REG_CSGSFS] = saved_gregs[REG_CSGSFS];
    memcpy(user->uc_mcontext.fpregs, saved_vector, 416);
    memcpy((uint8_t *)user->uc_mcontext.fpregs + XSAVE_HEADER, saved_vector + XSAVE_HEADER,
           frame_used - XSAVE_HEADER);
}

/* Show `size` bytes of a new memory file at `at` with `protection`; gives a writable alias. */
static uint8_t *map_pages(uint64_t at, size_t size, int protection)
{
    int fd = memfd_create("difftest", 0);
    void *alias;

    if (fd < 0 || ftruncate(fd, (off_t)size) < 0 ||
        mmap((void *)at, size, protection, MAP_SHARED | MAP_FIXED_NOREPLACE | MAP_POPULATE, fd,
             0) == MAP_FAILED ||
        (alias = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd, 0)) ==
            MAP_FAILED) {
        perror("anima-difftest: mapping test memory");
        exit(2);
    }
    close(fd);
    return alias;
}

/* An LDT entry that spans the window, for 16-bit code. */
static bool make_segment(unsigned entry, unsigned contents)
{
    struct user_desc segment = {.entry_number = entry,
                                .base_addr = DIFF_WINDOW,
                                .limit = 0xffff,
                                .contents = contents,
                                .useable = 1};

    return syscall(SYS_modify_ldt, 1, &segment, sizeof(segment)) == 0;
}

/* 64-bit code does without DS and ES, so they can stay as the last case had them. */
static void set_data_segments(unsigned code_size)
{
    static unsigned current_size = 8;

    if (code_size != current_size && code_size < 8) {
        __asm__ volatile(
            "mov %0, %%ds\n\tmov %0, %%es" ::"r"(code_size == 2 ? DIFF_DS16 : DIFF_DS32));
        current_size = code_size;
    }
}

unsigned native_init(void)
{
    static const int signals[] = {SIGTRAP, SIGSEGV, SIGBUS, SIGFPE, SIGILL};
    static uint8_t stack[65536] __attribute__((aligned(64)));
    stack_t alternate = {.ss_sp = stack, .ss_size = sizeof(stack)};
    struct sigaction action = {.sa_sigaction = signal_entry, .sa_flags = SA_SIGINFO | SA_ONSTACK};

    diff_model(&layout);
    for (unsigned i = 2; i < CPU_XSAVE_COMPONENTS; i++)
        if (layout.xsave[i].offset + layout.xsave[i].size > frame_used)
            frame_used = layout.xsave[i].offset + layout.xsave[i].size;
    if (frame_used > FRAME_MAX) {
        fprintf(stderr, "anima-difftest: the signal frame is of %u bytes\n", frame_used);
        exit(2);
    }
    read_only = map_pages(DIFF_READ_ONLY, 4096, PROT_READ);
    data = map_pages(DIFF_DATA, DIFF_DATA_SIZE, PROT_READ | PROT_WRITE);
    code = map_pages(DIFF_CODE, 4096, PROT_READ | PROT_EXEC);
    memset(code, 0xcc, 4096);
    sigaltstack(&alternate, NULL);
    sigfillset(&action.sa_mask);
    for (unsigned i = 0; i < G_N_ELEMENTS(signals); i++)
        sigaction(signals[i], &action, NULL);
    return make_segment(DIFF_CS16 >> 3, MODIFY_LDT_CONTENTS_CODE) &&
                   make_segment(DIFF_DS16 >> 3, MODIFY_LDT_CONTENTS_DATA)
               ? 2
               : 4;
}

void native_run(const struct diff_case *test, struct diff_outcome *out)
{
    uint8_t *at = code + (DIFF_CODE_ENTRY - DIFF_CODE);

    memset(at, 0xcc, 32);
    memcpy(at, test->bytes, test->instruction.length);
    memcpy(data, test->data, sizeof(test->data));
    memcpy(read_only, test->read_only, sizeof(test->read_only));
    current = test;
    outcome = out;
    phase = 0;
    set_data_segments(test->form->code_size);
    __asm__ volatile("int3" ::: "memory", "cc");
    /* POPF may have set NT and ID, which returning from a signal keeps. */
    __builtin_ia32_writeeflags_u64(__builtin_ia32_readeflags_u64() &
                                   ~(unsigned long long)FLAGS_KEPT);
    memcpy(out->data, data, sizeof(out->data));
}
