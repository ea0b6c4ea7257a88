// SPDX-License-Identifier: Apache-2.0
/*
 * The translator, inside: what its parts share.
 *
 *     dispatch.c    finds translations, links them, enters and leaves them
 *     link.c        which translation is where, and the jumps from one to the next
 *     translate.c   one translation: the ways in, its instructions, the cold code behind
 *     trace.c       the blocks that follow it, as far as one translation goes
 *     clone.c       the same at another linear address; with relocation.h
 *     liveness.c    what its instructions are and need
 *     instruction.c one instruction: copied, emitted by hand, or interpreted
 *     access.c      a memory operand: its address, and the check against the TLB
 *     window_code.c the same through a window
 *     window_known.c  what is known of registers there
 *     terminator.c  stack instructions and branches
 *     glue.c        the code between C and translated code
 *     signal.c      faults of the host in translated code
 *     code_page.c   numbers of pages with code
 *     log.c         disassembly and names of translations
 *     held.c        registers in memory that scratch registers still hold
 *     group.c       accesses that one check covers
 *     bits.c        BT and its like on bit strings
 *     control_word.c  FLDCW, LDMXCSR
 *     x87_native.c  x87 and MMX registers in the host's, as vector_state.h has the vector registers
 *     emit.h, copy.h, code_cache.h
 *
 * Host registers: the guest's RAX to R10 and R12 live in the same ones of the host, but RSP in R15.
 * R11, R13 and R14 are scratch; the guest's R11, R13, R14 and R15 stay in soft_cpu.gpr: compilers
 * take these last, the first of them in leaf functions, the others in functions that call.
 *
 * Whenever C runs, the guest's whole state lies in soft_cpu, as the interpreter wants it.
 */
#pragma once

#include "vmm/engine/soft/decode.h"
#include "vmm/engine/soft/translator/code_cache.h"
#include "vmm/engine/soft/translator/copy.h"
#include "vmm/engine/soft/translator/emit.h"
#include "vmm/engine/soft/translator/translator.h"

#define T0            GPR_R11
#define T1            GPR_R13
#define T2            GPR_R14
#define HOST_RSP      GPR_R15 /* where the guest's RSP lives */
#define IN_MEMORY     (1U << GPR_R11 | 1U << GPR_R13 | 1U << GPR_R14 | 1U << GPR_R15)
#define SCRATCH_COUNT 3
#define FLAGS_LIVE    (FLAG_CF | FLAG_PF | FLAG_AF | FLAG_ZF | FLAG_SF | FLAG_OF)

/* Translations of different modes never meet: enum soft_mmu_mode, and MODE_32 for 32-bit code with
 * flat segments. */
#define MODE_32     4
#define MODE_PLAIN  8  /* without groups of accesses: group.c */
#define MODE_WINDOW 16 /* user code of an address space that has windows */
#define MODE_COUNT  32

#define INDIRECT_BITS 16 /* of the target's address choose its place in the table */
#define INDIRECT_WAYS 4  /* targets of one place, tried in turn */

/* An instruction at which translated code may call for the interpreter. Addresses of code here and
 * below are those of the writable view. */
struct site {
    const struct insn *insn;
    struct translation *translation;
    uint64_t rip;
    uint32_t retry, resume; /* offsets in the cache: the instruction anew; what follows it */
    uint32_t commit;        /* the host's instruction that may fault, or 0 */
    uint8_t flags;          /* enum flags_place at `commit` */
    bool last;              /* it ends its block: nothing to resume */
    bool behind;            /* but an exit to what follows, in the same mode */
    bool grouped; /* what follows is covered by a check before: nothing to resume either */
    /* window_code.c: */
    uint8_t refused, moved;
    bool window_writes;
    uint32_t window; /* the host's instruction that accesses a window, or 0 */
    uint32_t slot;   /* the operand of the check, or 0 */
    uint32_t delta;  /* of user code: the address of the delta that is added, or 0 */
    uint32_t check;  /* the site that checks for this one, or 0 */
};

enum exit_kind {
    EXIT_DIRECT,   /* to `rip`; `place` can be linked */
    EXIT_INDIRECT, /* to next_rip; the branch is `site` */
    EXIT_BEHIND,   /* to `rip`, where what is mapped may have changed; can be linked */
    EXIT_PLAIN,    /* to `rip`, where accesses are to be checked one by one; can be linked */
    EXIT_STALE,    /* the page is mapped anew */
    EXIT_REQUEST,  /* before the block: a request, or vector registers are not loaded */
};

/* A way out of translated code to the dispatcher. */
struct exit {
    struct translation *from;
    uint64_t rip;
    uint8_t *place; /* distance of the jump that leads here */
    uint8_t *stub;  /* where it leads while it is not linked */
    /* Where flags are in the carrier at `place`: what brings them to the host's register for a
     * target that needs them, and the distance of the jump behind that. NULL: they are there. */
    uint8_t *restore;
    uint8_t *restored;
    uint32_t site;
    /* Exits that are linked to the same translation, or 0; of the first one, `previous` says
     * which translation that is; 0: it is not linked. */
    uint32_t next, previous;
    uint8_t kind;
    int8_t undo; /* bytes to take off RSP to be before an indirect branch */
};

struct translation {
    uint64_t linear;
    struct soft_block *block; /* NULL once dropped */
    const uint8_t *host;      /* of its first byte, as the block has it */
    struct translation *next; /* of the same block */
    struct translation *same_hash;
    uint8_t mode;
    uint8_t live;       /* enum soft_live: what is live in the host from its beginning to its end */
    uint32_t page;      /* id of its page: cpu->fetch_id */
    uint32_t next_page; /* of the second one, of an instruction that crosses; else 0 */
    uint32_t site, sites; /* first, count */
    uint32_t exit, exits;
    uint32_t relocation, relocations; /* which a clone has too */
    uint32_t made;                    /* when it was, or was moved: soft_translator.clock */
    uint32_t incoming;                /* first of the exits that are linked to it, or 0 */
    bool needs_flags;                 /* in the host's register at `entry` */
    /* Ways in: `indirect` checks the target, then falls into `cross`, which checks the page, then
     * into `poll`, which looks for requests and loads vector registers; `entry` does nothing.
     * `indirect` takes the flags in the carrier; so does `cross` where the block does not need
     * them, beside which `cross_kept` takes them in the host's register, as all others do. */
    uint8_t *indirect, *cross, *cross_kept, *poll, *entry;
    /* Where `indirect` goes on if the target is another one: the distance of the jump, and which
     * other translation has the same place in the table (NULL: out). */
    uint8_t *mismatch;
    struct translation *other;
    uint8_t *end;
    uint8_t *cold, *cold_end; /* ways that are seldom taken */
};

/* The second page of an instruction that crosses. */
static inline uint64_t translation_next_page(const struct soft_cpu *cpu,
                                             const struct translation *translation)
{
    uint64_t next = (translation->linear | 0xfff) + 1;

    return cpu->flat ? next : (uint32_t)next;
}

/* Where a constant of its code is. */
static inline uint8_t *translation_place(const struct translation *translation,
                                         struct relocation relocation)
{
    return (relocation.cold ? translation->cold : translation->indirect) + relocation.place;
}

/* A linear page together with where it lies: code_page.c. */
struct code_page_id {
    uint64_t linear;
    const uint8_t *host;
    uint32_t next; /* with the same hash, or free */
    bool used;
};

#define TRANSLATIONS_MAX    (512U << 10)
#define SITES_MAX           (4U << 20)
#define EXITS_MAX           (2U << 20)
#define RELOCATIONS_MAX     (16U << 20)
#define PAGE_IDS            (128U << 10)
#define TRANSLATION_BUCKETS (512U << 10)

/* An access that missed the TLB. */
struct miss {
    uint32_t site;
    uint64_t linear;
};

struct soft_translator {
    struct soft_cpu *cpu;
    struct code_cache cache;
    struct copy_features features;
    bool exact, chain, clones;
    /* The cache has two parts, so that what is executed often lies close together: the blocks, with
     * the glue before them, and the ways that are seldom taken. */
    uint8_t *used, *cold_used; /* end of what is written in each */
    uint8_t *empty;            /* end of the glue */
    uint8_t *cold;             /* beginning of the second part */
    /* glue.c: jumped to from translated code, but for `enter`. */
    void (*enter)(const uint8_t *code);
    uint8_t *leave;      /* T2: the exit, T0: target of an indirect one; flags in the carrier */
    uint8_t *leave_kept; /* the same with the flags in the host's register */
    uint8_t *interpret;  /* T1: the site; T2: the access that missed, T0: its linear address */
    const uint8_t **indirect[MODE_COUNT]; /* tables of executable addresses, below 2 GB */
    unsigned translation_count, site_count, exit_count, relocation_count;
    struct translation *translations;
    struct translation **buckets; /* of them, by linear address and mode */
    struct site *sites;
    struct exit *exits;
    struct relocation *relocations;
    uint32_t clock, young;      /* counts clones; how many make a translation old */
    struct code_page_id *pages; /* by number, from 1 */
    uint32_t *page_buckets, page_count, free_page;
    struct build *build;
    struct miss missed[2]; /* the last ones, the latest first */
    unsigned generation;   /* counts how often all was dropped */
};

/* Whether a mode is one of code of user space that has windows, in its 32-bit form: all addresses
 * are of one slot then. */
static inline bool mode_is_small(uint8_t mode)
{
    return (mode & (MODE_WINDOW | MODE_32)) == (MODE_WINDOW | MODE_32);
}

/* Where the guest's status flags are. */
enum flags_place {
    FLAGS_HOST,    /* in the host's register */
    FLAGS_CARRIER, /* in cpu->flags_carrier */
    FLAGS_DEAD,    /* nobody reads them before they are written */
};

/* ---- making a translation ---- */

/* What is emitted in the other part: ways that are seldom taken. */
enum cold_kind {
    COLD_MISS,      /* an access that did not hit */
    COLD_GROUP,     /* so did the one of a group */
    COLD_RETRY,     /* scratch registers, then on at `place` */
    COLD_INTERPRET, /* the instruction by the interpreter */
    COLD_RESUME,    /* the same behind what the interpreter did */
    COLD_EXIT,      /* an exit, with the flags in the host's register */
    COLD_CARRIED,   /* one that can be linked, with the flags in the carrier */
    COLD_LEAVE,     /* an exit, with the flags in the carrier */
    COLD_CROSS,     /* nobody jumps here yet: translation.cross_kept */
};
struct cold {
    enum cold_kind kind;
    uint8_t *place;  /* the jump to it; NULL for COLD_RESUME */
    uint32_t number; /* of the site or exit */
    uint32_t access; /* of COLD_MISS: size | write << 8 */
    struct emit_memory address;
    uint64_t linear; /* of COLD_MISS, where `address` is nothing but this */
    bool constant, relative, cut;
    /* Of COLD_GROUP: the group's first and last byte, where the flags are, the way out. */
    struct emit_memory first, last;
    enum flags_place flags;
    uint32_t exit;
    uint8_t held[SCRATCH_COUNT]; /* of these two: what is to be loaded again */
};

/* How the present instruction accesses memory by a window. */
enum window_form {
    WINDOW_NONE,    /* by the TLB */
    WINDOW_CHECKED, /* after a check of the slot */
    WINDOW_FREE,    /* without: the address is known to be right */
};

#define COLD_MAX  512
#define BLOCK_MAX 64 /* instructions */

/* Where a trace goes on behind a near branch with a known target: trace.c. */
enum follow {
    FOLLOW_NONE, /* nowhere: the trace ends, or it is no branch */
    FOLLOW_NEXT, /* behind it */
    FOLLOW_TARGET,
};

struct build_insn {
    struct soft_decoded decoded;
    const struct insn *insn; /* as the interpreter has it */
    uint64_t rip;            /* its address */
    enum follow follow;
    const uint8_t *bytes;
    const uint8_t *code; /* what it became */
    struct copy_form form;
    uint32_t live_in, live_out; /* status flags */
};

/* The registers of an address in a flat segment: base + (index << scale); EMIT_NONE: no index. */
struct address_key {
    uint8_t base, index, scale;
};

/* Accesses that one check covers: group.c. Bytes are counted from the registers' sum as it was
 * then. */
struct group {
    bool active;  /* T0 holds the delta of their page, or with `pointer` the host's address */
    bool began;   /* it was so before the present instruction */
    bool pointer; /* of the byte at `origin` */
    bool write;
    struct address_key key;
    int low, high, origin;
    int moved; /* what was added to the base since */
};

/* Where a register was checked, and for which slot. */
struct checker {
    uint32_t site, slot;
};

/* The same of a sum of registers; base EMIT_NONE: none. */
struct checked_sum {
    struct address_key key;
    struct checker checker;
};

#define CHECKED_SUMS 4
#define WINDOW_SMALL (1 << 20) /* displacement within an object, not the address of a table */

struct build {
    struct emitter emitter;
    struct soft_cpu *cpu;
    struct soft_translator *translator;
    struct translation *translation;
    const struct build_insn *now; /* being translated */
    unsigned index;
    uint64_t rip; /* its address */
    enum flags_place flags;
    struct site *site; /* its site, if it has one yet */
    struct group group;
    uint8_t held[SCRATCH_COUNT];       /* held.c: by each scratch register, or EMIT_NONE */
    uint8_t retry_held[SCRATCH_COUNT]; /* so at the site's `retry` */
    bool long_mode;                    /* 64-bit code */
    /* window_code.c: */
    unsigned count;  /* instructions */
    unsigned bytes;  /* of code */
    unsigned blocks; /* of the trace, beside the first */
    const struct soft_block *last;
    bool windowed;                 /* the block may use windows */
    enum window_form window;       /* of the present instruction */
    struct address_key window_key; /* what is checked; base EMIT_NONE: an address */
    uint32_t window_checker;       /* of WINDOW_FREE: the site that checked, or 0 */
    uint8_t window_flags;          /* enum flags_place at the beginning */
    bool window_user;              /* windows of user code, reached by deltas */
    uint32_t window_slot;          /* that is guessed */
    uint8_t *window_delta;
    uint8_t *window_immediate;
    uint16_t verified; /* registers that point into a slot that was checked, or near */
    uint16_t written;  /* registers that no longer are as at the block's beginning */
    uint16_t narrow;   /* that hold 32 bits, of either sign, and small constants more */
    unsigned sum_next;
    struct checked_sum sums[CHECKED_SUMS];
    struct checker checker[16]; /* of each verified one */
    unsigned cold_count;
    struct cold cold[COLD_MAX];
    struct build_insn insns[BLOCK_MAX];
    uint8_t code[BLOCK_MAX * 15]; /* their bytes, as they were when it was begun */
};

/* trace.c */

/* The block that the trace goes on with behind the branch at its end, whose `follow` is set then,
 * and its linear address. NULL where it ends. */
const struct soft_block *build_follow(struct build *build, uint64_t *linear);

/* liveness.c */

/* Decode the block from a copy of its bytes, and find what is live where. False when it is not what
 * was decoded before. */
bool build_analyze(struct build *build);

/* instruction.c */

/* The present instruction. False when nothing behind it is reached. */
bool build_instruction(struct build *build);

/* translate.c */

/* The flags are about to be clobbered and `live` ones needed: save them if they are in the host's
 * register. Uses T2. */
void build_spare_flags(struct build *build, uint32_t live);
/* The present instruction as the interpreter has it. */
static inline const struct insn *build_now(const struct build *build)
{
    return build->insns[build->index].insn;
}
/* The address of the next one. */
static inline uint64_t build_next(const struct build *build)
{
    return build->rip + build_now(build)->length;
}
/* Bytes of a stack slot, of a branch's target, and of an address without prefixes. */
static inline unsigned build_word(const struct build *build)
{
    return build->long_mode ? 8 : 4;
}
/* The offset in the cache of a place in the writable view. */
static inline uint32_t build_offset(const struct build *build, const uint8_t *at)
{
    return (uint32_t)(at - build->translator->cache.write);
}

/* Translate `block` at `linear` in the present mode; NULL when there is no room: empty the
 * translator and try again. */
struct translation *translation_make(struct soft_cpu *cpu, struct soft_block *block,
                                     uint64_t linear, uint8_t mode);

/* [soft_cpu + offset], absolute. */
struct emit_memory build_field(const struct build *build, size_t offset);
#define BUILD_FIELD(build, field) build_field(build, offsetof(struct soft_cpu, field))

/* The present instruction's site; the first call makes it. NULL when there is no room. */
struct site *build_site(struct build *build);
/* A new exit; 0 when there is no room. */
uint32_t build_exit(struct build *build, enum exit_kind kind, uint64_t rip, uint8_t *place);
/* What a jump at `place` (NULL: none) leads to; NULL when there is no room. */
struct cold *build_cold(struct build *build, enum cold_kind kind, uint8_t *place);

/* The present instruction accesses memory: its flags are about to be clobbered, so they are saved
 * if they are live. A miss begins anew from here. Uses T2. */
void build_begin_access(struct build *build);
/* The flags go to the carrier if they are live, before the present instruction begins. Uses T2. */
void build_carry_flags(struct build *build);
/* The flags are needed in the host's register. Uses `scratch`. */
void build_need_flags(struct build *build, uint8_t scratch);
/* To the carrier, by T2. */
void emit_flags_save(struct build *build);

/* The present instruction by the interpreter. */
void build_interpret(struct build *build);

/* access.c */

/* A memory operand that was checked. */
struct access {
    bool simple;  /* by one register of the guest that is not in memory, and a displacement */
    bool grouped; /* checked already */
    uint8_t base;
    struct emit_memory address; /* of the guest: linear, before the check */
    struct emit_memory host;    /* what the committing instruction uses */
    bool constant;
    bool relative, cut; /* the constant moves with the block; has 32 bits even so */
    uint64_t linear;
    uint32_t scratch; /* registers that must be kept for the commit */
};

/* Whether the operand is covered by a check before, so that flags and scratch registers outlive
 * its access: build_begin_access is not needed then. */
bool access_covered(const struct build *build, const struct insn *insn, unsigned size, bool write);
/* Bring the address of the present instruction's operand into a form. Emits loads into T0 and T1.
 * False when the interpreter must do it. After build_clobber_flags. */
bool access_prepare(struct build *build, const struct insn *insn, unsigned size, bool write,
                    struct access *access);
/* The same with the address in T0, whatever its form: the caller may change it before the check.
 * For segments without a base. */
bool access_prepare_sum(struct build *build, const struct insn *insn, struct access *access);
/* The stack: [base + displacement], where `base` is not in memory. */
void access_prepare_stack(struct build *build, unsigned base, int displacement,
                          struct access *access);
/* Check it for `size` bytes; `access->host` is good afterwards. Uses T1 and T2. */
void access_check(struct build *build, struct access *access, unsigned size, bool write);

/* The same for a run of bytes from [base] up to the one at `last`, which must be of one page. The
 * difference of its host address to its linear one in `to`. Uses T1 and T2; what does not hit is
 * for the interpreter. */
void access_check_run(struct build *build, uint8_t base, const struct emit_memory *last, bool write,
                      uint8_t to);
/* `segment` of 32-bit code is usable, writable and has no limit, else the interpreter does it. Uses
 * T2. */
void access_check_segment(struct build *build, unsigned segment);

/* Load a constant operand's address, or that of its page. */
void access_load_constant(struct build *build, uint8_t to, uint64_t linear, bool relative,
                          bool cut);

/* Whether the operand is by registers in a flat segment and of full width: those. */
bool access_key(const struct build *build, const struct insn *insn, struct address_key *key);
/* Whether an access by `key` leaves T0 alone. */
static inline bool key_is_simple(const struct address_key *key)
{
    return key->index == EMIT_NONE && !(IN_MEMORY >> key->base & 1);
}
/* Check the group that begins with the access of `size` bytes at `displacement`: T0 is set then,
 * and kept in soft_cpu. */
void access_check_group(struct build *build, int displacement, unsigned size);

/* held.c */

extern const uint8_t scratch_registers[SCRATCH_COUNT];
/* None holds anything; `scratch` does not, since it is used otherwise. */
void held_reset(struct build *build);
void held_lose(struct build *build, uint8_t scratch);
/* The scratch register with `gpr`, or EMIT_NONE. */
uint8_t held_by(const struct build *build, unsigned gpr);
/* Whether `scratch` holds anything. */
bool held_any(const struct build *build, uint8_t scratch);
/* `scratch` has the value of `gpr`, and no other one has. */
void held_set(struct build *build, uint8_t scratch, unsigned gpr);
/* A host's register with `gpr`: its own, one that holds it, or `scratch`, which is loaded. */
uint8_t held_load(struct build *build, unsigned gpr, uint8_t scratch);
/* Load all that `held` names. */
void held_reload(struct build *build, const uint8_t held[SCRATCH_COUNT]);

/* group.c */

/* Whether the access at `displacement` needs no check, since a group covers it already. */
bool group_holds(const struct build *build, const struct address_key *key, int displacement,
                 unsigned size, bool write);
/* Whether it needs none, since a group covers it; a new group if that is worth while. */
bool group_covers(struct build *build, const struct address_key *key, int displacement,
                  unsigned size, bool write);
/* Around each instruction: whether the group outlives it, and where its base is then. */
void group_before(struct build *build);
void group_after(struct build *build);

/* window_known.c */

/* Before the first instruction: nothing is known. */
void known_begin(struct build *build);
/* Where the address of `key`, with an index, was checked, or its base, whose index is narrow; NULL
 * if nowhere. */
const struct checker *known_sum(const struct build *build, const struct address_key *key);
/* Whether what the operand has of base and index is narrow. */
bool known_narrow(const struct build *build, const struct insn *insn);
/* The address of `key` (base EMIT_NONE: another one) was checked. */
void known_add(struct build *build, const struct address_key *key, const struct checker *checker);
/* Behind the present instruction: what it did to registers. `native`: the interpreter did not do
 * it. */
void build_window_note(struct build *build, bool native);

/* window_code.c */

/* Before the first instruction. */
void build_window_begin(struct build *build);
/* Choose the form of the one memory access of the present instruction: of its operand, or of the
 * stack at `base`. Before build_begin_access; access_check then does as was chosen. */
void build_window_choose(struct build *build);
void build_window_choose_stack(struct build *build, unsigned base);
/* What access_check does for a window. */
void build_window_check(struct build *build, struct access *access);
/* The next instruction of the host accesses access->host. */
void build_window_commit(struct build *build, bool write);
/* Behind the instruction: what its check tells is known. */
void build_window_finish(struct build *build);
/* The access is not in the slot that was guessed: let the check be for that of `linear`. False: it
 * has changed too often, or windows do not show such addresses. */
bool window_learn(struct soft_translator *translator, struct site *site, uint64_t linear);
/* A window could not serve an access. True: as often as that the TLB is better. */
bool window_refuse(struct site *site);
/* The guest's address that the site's access wanted when it faulted at `host`. */
uint64_t window_linear(const struct soft_translator *translator, const struct site *site,
                       uintptr_t host);
/* Whether the site would find that address where it is shown. A kernel's are in the upper half
 * alone. The slots of user code have each a place of its own, so an operand that goes on in the
 * next slot, or lies there while its base was checked to be in this one, is not in its reach. */
bool window_leads_to(const struct soft_translator *translator, const struct site *site,
                     uint64_t linear);
/* Whether the site's code can serve it so many bytes away. */
bool window_may_move(const struct site *site, uint64_t distance);
/* The site's code and its rip were moved: let it add the delta of the slot where its operand is. */
void window_move(struct soft_translator *translator, struct site *site);

/* The host's register of a guest's that is not in memory. */
static inline uint8_t host_register(unsigned gpr)
{
    return gpr == GPR_RSP ? HOST_RSP : (uint8_t)gpr;
}

/* bits.c */

/* Emit the present instruction if it is of a bit string. False when the interpreter must do it. */
bool build_bits(struct build *build, const struct insn *insn);

/* x87_native.c */

/* The present instruction's pointers to itself and its operand, once the access is checked. Uses
 * T2, or T0 where the operand's address is constant. False when the interpreter must do it. */
bool build_x87_pointers(struct build *build, const struct insn *insn, const struct access *access);

/* control_word.c */

/* FLDCW or LDMXCSR of a checked operand. */
void build_control_word(struct build *build, const struct access *access);

/* terminator.c */

/* Emit the present instruction if it is a stack instruction or a branch that is translated. */
bool build_special(struct build *build);
/* A jump to `rip`, which can be linked. */
void build_jump(struct build *build, uint64_t rip);
/* The same behind an instruction that the interpreter did: EXIT_BEHIND. */
void build_jump_behind(struct build *build, uint64_t rip);

/* A jump to the address in T0, which is canonical or comes of the present instruction, in `mode`,
 * whose table there is. `undo` as in struct exit. */
void build_jump_indirect(struct build *build, uint8_t mode, int undo);

/* system.c */

/* Emit the present instruction if it is one of kernels. */
bool build_system(struct build *build);
/* The flags that it reads and kills, if it is: those of `form` otherwise stay. */
void build_system_flags(const ZydisDecodedInstruction *decoded, struct copy_form *form);

/* strings.c: the same for string instructions. */
bool build_string(struct build *build);
bool build_string_flags(const ZydisDecodedInstruction *decoded, struct copy_form *form);

/* glue.c */
void glue_emit(struct soft_translator *translator);

/* In place of an access: one to a window raised SIGSEGV, or is not in the slot that was guessed. */
#define ACCESS_WINDOW (1U << 16)
#define ACCESS_SLOT   (1U << 17)

/* dispatch.c: the C side of glue's `interpret`. Returns the executable address to go on at, or 0 to
 * leave. */
uintptr_t translator_interpret(struct soft_cpu *cpu, uint32_t site, uint64_t linear,
                               uint32_t access);
/* The translation that `code` is of, or NULL. */
struct translation *translator_find_code(struct soft_translator *translator, const uint8_t *code);

/* Have the mode's table of indirect targets, where each place leads out at first. False when the
 * host gives no memory. */
bool translator_need_table(struct soft_translator *translator, uint8_t mode);

/* code_page.c */

/* Have room for two more numbers, before a translation is made; false where there is none. */
bool code_pages_ready(struct soft_translator *translator);
/* The number of the page that `linear` and `host` are in; 0 when there is no room. */
uint32_t code_page_id(struct soft_translator *translator, uint64_t linear, const uint8_t *host);
/* Take all back. */
void code_pages_empty(struct soft_translator *translator);

/* link.c */

/* The translation of `block` at `linear` in this mode, or NULL. */
struct translation *translation_find(struct soft_translator *translator,
                                     const struct soft_block *block, uint64_t linear, uint8_t mode);
/* The one at `linear` in this mode of what lies at `host` now, or NULL; none that crosses pages. */
struct translation *translation_find_at(struct soft_translator *translator, const uint8_t *host,
                                        uint64_t linear, uint8_t mode);
/* Let it be found from now on. */
void translation_enter(struct soft_translator *translator, struct translation *translation);
/* It is found no more, and the jumps that lead to it lead to the dispatcher again. */
void translation_detach(struct soft_translator *translator, struct translation *translation);

/* Let an exit that was taken lead to `to` by itself from now on. */
void exit_link(struct soft_translator *translator, uint32_t number, struct translation *to);
/* Let one that is linked lead to the dispatcher again. */
void exit_unlink(struct soft_translator *translator, uint32_t number);

/* clone.c */

/* A translation of `block` at `linear` in the present mode, made of one that is elsewhere; NULL
 * where there is none, or it cannot be used there. */
struct translation *translation_clone(struct soft_cpu *cpu, struct soft_block *block,
                                      uint64_t linear, uint8_t mode);

/* signal.c */
/* Take SIGSEGV, SIGBUS and SIGFPE, once a process. */
void translator_catch_signals(void);
/* This thread executes translated code of `cpu` from now on. */
void translator_set_current(struct soft_cpu *cpu);
