// SPDX-License-Identifier: Apache-2.0
/*
 * Finding translations, entering and leaving them, linking one to the next.
 *
 * Whatever leaves translated code comes here with a number of an exit, or 0 when the interpreter
 * did the last instruction. As long as the next block has a translation and nobody wants the vCPU,
 * it goes straight on there.
 */
#include <string.h>
#include <sys/mman.h>

#include "vmm/engine/soft/mem.h"
#include "vmm/engine/soft/operand.h"
#include "vmm/engine/soft/soft.h"
#include "vmm/engine/soft/translator/log.h"
#include "vmm/engine/soft/translator/translation.h"
#include "vmm/engine/soft/translator/vector_state.h"
#include "vmm/engine/soft/translator/window.h"
#include "vmm/engine/soft/translator/x87_native.h"
#include "vmm/util/sparse.h"

#define YOUNG          (32U << 10) /* clones for which a translation stays where it is: clone.c */
#define YOUNG_EAGER    8           /* so that tests see both */
#define INDIRECT_BYTES (sizeof(uint8_t *) << INDIRECT_BITS)

static const uint8_t *executable(const struct soft_translator *translator, const uint8_t *code)
{
    return code + translator->cache.execute;
}

/* ---- registers that are live in the host's ---- */

/* Before C runs that may use them. */
static void live_leave(struct soft_cpu *cpu)
{
    if (cpu->live & SOFT_LIVE_VECTORS)
        soft_vector_save(cpu, (enum soft_vector_width)cpu->live_width);
    if (cpu->live & SOFT_LIVE_X87)
        soft_x87_save(cpu);
    cpu->live = 0;
}

/* Those of AVX-512 too if they are wanted, or in use: AVX's instructions clear what lies above.
 * Gives SOFT_LIVE_AVX512 where blocks may have them. */
static uint8_t load_vectors(struct soft_cpu *cpu, bool avx512)
{
    const struct copy_features *features = &cpu->translator->features;
    enum soft_vector_width width = features->avx ? SOFT_VECTOR_256 : SOFT_VECTOR_128;
    uint8_t live = 0;

    cpu->avx512_used |= avx512;
    if (cpu->avx512_used && features->avx512) {
        width = SOFT_VECTOR_512;
        live = soft_vector_allowed(cpu, true) ? SOFT_LIVE_AVX512 : 0;
    }
    cpu->live_width = width;
    soft_vector_load(cpu, width);
    return live;
}

/* Bring in what `translation` needs; nothing is live. False when the guest may not use it now: the
 * interpreter tells it so. */
static bool live_enter(struct soft_cpu *cpu, const struct translation *translation)
{
    uint8_t live = translation->live;

    if (!live)
        return true;
    if ((live & SOFT_LIVE_VECTORS && !soft_vector_allowed(cpu, live & SOFT_LIVE_AVX512)) ||
        (live & SOFT_LIVE_X87 && !soft_x87_allowed(cpu)))
        return false;
    if (live & SOFT_LIVE_X87)
        soft_x87_load(cpu);
    if (live & SOFT_LIVE_VECTORS)
        live |= load_vectors(cpu, live & SOFT_LIVE_AVX512);
    cpu->live = live;
    soft_count(&cpu->counters.vector_loads);
    return true;
}

/* ---- translations ---- */

struct translation *translator_find_code(struct soft_translator *translator, const uint8_t *code)
{
    unsigned low = 0, high = translator->translation_count;

    while (low < high) {
        unsigned middle = (low + high) / 2;
        struct translation *translation = &translator->translations[middle];
        bool cold = code >= translator->cold;

        if (code < (cold ? translation->cold : translation->indirect))
            high = middle;
        else if (code >= (cold ? translation->cold_end : translation->end))
            low = middle + 1;
        else
            return translation;
    }
    return NULL;
}

static bool plain_segment(const struct cpu_segment *segment)
{
    return segment->base == 0 && segment->limit == UINT32_MAX &&
           SEGMENT_IS_PLAIN(segment->attributes);
}

/* Whether 32-bit code sees one flat space by CS, DS and SS. */
static bool flat_segments(const struct soft_cpu *cpu)
{
    const struct cpu_segment *cs = &cpu->seg[SEG_CS], *ss = &cpu->seg[SEG_SS];

    return cpu->code_size == 4 && cs->base == 0 && cs->limit == UINT32_MAX &&
           plain_segment(&cpu->seg[SEG_DS]) && plain_segment(ss) && (ss->attributes & SEGMENT_DB);
}

/* The mode's number, or MODE_COUNT where code is not translated. */
static uint8_t present_mode(const struct soft_cpu *cpu)
{
    uint8_t window = cpu->user_windowed && cpu->mmu_mode == SOFT_MMU_USER ? MODE_WINDOW : 0;

    if (cpu->mmu_mode == SOFT_MMU_USER_ALIGNED)
        return MODE_COUNT;
    if (cpu->flat)
        return cpu->mmu_mode | window;
    /* Its TLB may hold addresses that are none of 32-bit code (soft_tlb_drop_high). */
    if (soft_long_mode(cpu) && cpu->mmu_mode != SOFT_MMU_USER)
        return MODE_COUNT;
    return flat_segments(cpu) ? cpu->mmu_mode | MODE_32 | window : MODE_COUNT;
}

bool translator_need_table(struct soft_translator *translator, uint8_t mode)
{
    const uint8_t *leave = executable(translator, translator->leave), **table;

    if (translator->indirect[mode])
        return true;
    table = mmap(NULL, INDIRECT_BYTES, PROT_READ | PROT_WRITE,
                 MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0);
    if (table == MAP_FAILED)
        return false;
    for (unsigned i = 0; i < 1U << INDIRECT_BITS; i++)
        table[i] = leave;
    translator->indirect[mode] = table;
    return true;
}

/* ---- dropping ---- */

/* A table of indirect targets may name it on, and comes to an address that leads out. */
static void drop(struct soft_translator *translator, struct translation *translation)
{
    translation_detach(translator, translation);
    translation->block = NULL;
    translation->indirect[0] = 0xe9; /* JMP */
    emit_patch(translation->indirect + 1, translator->leave);
}

void soft_translations_drop(struct soft_cpu *cpu, struct soft_block *block)
{
    struct translation *next;

    for (struct translation *translation = block->translations; translation; translation = next) {
        next = translation->next;
        drop(cpu->translator, translation);
    }
    block->translations = NULL;
}

void soft_translator_empty(struct soft_translator *translator)
{
    const uint8_t *leave = executable(translator, translator->leave);

    if (!translator->translation_count)
        return;
    for (unsigned i = 0; i < translator->translation_count; i++)
        if (translator->translations[i].block)
            translator->translations[i].block->translations = NULL;
    for (unsigned mode = 0; mode < MODE_COUNT; mode++)
        for (unsigned i = 0; translator->indirect[mode] && i < 1U << INDIRECT_BITS; i++)
            translator->indirect[mode][i] = leave;
    memset(translator->buckets, 0, sizeof(*translator->buckets) * TRANSLATION_BUCKETS);
    code_pages_empty(translator);
    translator->translation_count = translator->relocation_count = 0;
    translator->site_count = translator->exit_count = 1;
    translator->used = translator->empty;
    translator->cold_used = translator->cold;
    translator->generation++;
    soft_count(&translator->cpu->counters.cache_flushes);
}

/* ---- getting one ---- */

/* A new translation, which is entered in its bucket. */
static struct translation *make_translation(struct soft_cpu *cpu, struct soft_block *block,
                                            uint64_t linear, uint8_t mode)
{
    struct translation *translation = translation_clone(cpu, block, linear, mode);

    if (!translation)
        translation = translation_make(cpu, block, linear, mode);
    if (translation)
        translation_enter(cpu->translator, translation);
    return translation;
}

/* The translation of `block` at `linear` in the present mode, made now if need be and if it is
 * worth while; `counts`: the block is about to be executed. NULL where there is none. May drop all
 * others. */
static struct translation *get_translation(struct soft_cpu *cpu, struct soft_block *block,
                                           uint64_t linear, bool plain, bool counts)
{
    struct soft_translator *translator = cpu->translator;
    uint8_t mode = present_mode(cpu);
    struct translation *translation;
    bool cold;

    if (mode == MODE_COUNT || !block->host || !translator_need_table(translator, mode))
        return NULL;
    if (plain)
        mode |= MODE_PLAIN;
    /* A plain one goes on where another one cannot, which is hot. */
    cold = !plain && (block->heat < cpu->heat || block->heat_linear != linear);
    if (cold && !counts && block->heat_linear == linear)
        return NULL;
    translation = translation_find(translator, block, linear, mode);
    if (translation)
        return translation;
    if (cold && (!counts || soft_translator_cold(cpu, block, linear)))
        return NULL;
    translation = make_translation(cpu, block, linear, mode);
    if (translation)
        return translation;
    if (soft_blocks_written(cpu)) /* perhaps that block, since it was decoded */
        return NULL;
    soft_translator_empty(translator);
    return make_translation(cpu, block, linear, mode);
}

/* ---- the C side of glue ---- */

/* Whether the instruction may want an alignment that this access has not: that is a fault before
 * the page is looked at. */
static bool misaligned(const struct site *site, uint64_t linear, unsigned size)
{
    return site->commit && size >= 16 && linear & (size - 1);
}

/* Whether the access that missed hits now. Where two operands of one instruction want the same line
 * of the TLB, each would put the other out: that shows by misses that come back, and is for the
 * interpreter. */
static bool refill(struct soft_cpu *cpu, uint32_t number, uint64_t linear, uint32_t access)
{
    struct miss *missed = cpu->translator->missed, now = {number, linear};
    unsigned size = access & 0xff;
    bool again =
        missed[0].site == number &&
        (missed[0].linear == linear || (missed[1].site == number && missed[1].linear == linear));

    missed[1] = missed[0];
    missed[0] = now;
    if (again || (linear & 0xfff) + size > 0x1000 ||
        misaligned(&cpu->translator->sites[number], linear, size)) {
        missed[0].site = 0;
        return false;
    }
    return soft_tlb_refill(cpu, linear, access >> 8 ? SOFT_WRITE : SOFT_READ);
}

/* Whether the run loop would do nothing but go on behind the instruction, in the same mode. */
static bool may_go_behind(const struct soft_cpu *cpu, const struct site *site)
{
    const struct translation *translation = site->translation;

    return site->behind && soft_undisturbed(cpu) && translation->block &&
           present_mode(cpu) == (translation->mode & ~MODE_PLAIN);
}

/* Have the instruction translated anew, without windows. */
static void give_window_up(struct soft_translator *translator, const struct site *site)
{
    struct translation *translation = site->translation, **link;

    if (!translation->block)
        return;
    /* It is one of a block's, which this vCPU owns. */
    ((struct insn *)site->insn)->windowless = true;
    link = &translation->block->translations;
    while (*link != translation)
        link = &(*link)->next;
    *link = translation->next;
    drop(translator, translation);
}

/* An access by a window found nothing there, or is not where it was thought to be.
 * WINDOW_ENTERED: it is served now, or looked for where it is. WINDOW_NEVER: windows do not serve
 * the instruction any more. */
static enum window_fault serve_window(struct soft_cpu *cpu, struct site *site, uint64_t linear,
                                      uint32_t access)
{
    enum window_fault result;

    if (access == ACCESS_SLOT)
        return window_learn(cpu->translator, site, linear) ? WINDOW_ENTERED : WINDOW_NEVER;
    result = window_leads_to(cpu->translator, site, linear)
                 ? soft_window_fault(cpu, linear, site->window_writes)
                 : WINDOW_NEVER;
    if (result == WINDOW_ENTERED)
        soft_count(&cpu->counters.window_faults);
    return result == WINDOW_NEVER && !window_refuse(site) ? WINDOW_ABSENT : result;
}

/* The instruction that found nothing in a window anew: its page is there now. */
static uintptr_t retry_window(struct soft_cpu *cpu, const struct site *site)
{
    struct soft_translator *translator = cpu->translator;

    if (!atomic_load_explicit(&cpu->requests, memory_order_relaxed) &&
        live_enter(cpu, site->translation))
        return (uintptr_t)executable(translator, translator->cache.write + site->retry);
    cpu->exit = 0;
    cpu->rflags = flags_merge(cpu->rflags, cpu->flags_carrier, FLAGS_STATUS);
    cpu->rip = cpu->next_rip = site->rip;
    return 0;
}

/* Whether its code relies on windows that the address space has no more. */
static bool lost_windows(const struct soft_cpu *cpu, const struct translation *translation)
{
    return (translation->mode & MODE_WINDOW) && !cpu->user_windowed;
}

uintptr_t translator_interpret(struct soft_cpu *cpu, uint32_t number, uint64_t linear,
                               uint32_t access)
{
    struct soft_translator *translator = cpu->translator;
    struct site *site = &translator->sites[number];
    const struct insn *insn = site->insn;
    uint64_t next;

    live_leave(cpu);
    if (access & (ACCESS_WINDOW | ACCESS_SLOT)) {
        enum window_fault result = serve_window(cpu, site, linear, access);

        if (result == WINDOW_ENTERED)
            return retry_window(cpu, site);
        if (result == WINDOW_NEVER)
            give_window_up(translator, site);
    } else if (access) {
        soft_count(&cpu->counters.misses);
        if (refill(cpu, number, linear, access) && live_enter(cpu, site->translation))
            return (uintptr_t)executable(translator, translator->cache.write + site->retry);
    }
    cpu->exit = 0;
    cpu->rflags = flags_merge(cpu->rflags, cpu->flags_carrier, FLAGS_STATUS);
    cpu->rip = site->rip;
    cpu->next_rip = next = cpu->rip + insn->length;
    cpu->insn = insn;
    cpu->block_end = false;
    soft_count(&cpu->counters.interpreted);
    insn->exec(cpu, insn);
    if (cpu->next_rip != next || site->grouped || !site->translation->block ||
        lost_windows(cpu, site->translation))
        return 0;
    if (site->last ? !may_go_behind(cpu, site) : cpu->block_end)
        return 0;
    if (!live_enter(cpu, site->translation))
        return 0;
    cpu->flags_carrier = (uint16_t)flags_pack(cpu->rflags);
    return (uintptr_t)executable(translator, translator->cache.write + site->resume);
}

/* ---- running ---- */

/* Until it comes out. False when the guest may not use vector registers now. */
static bool enter(struct soft_cpu *cpu, const struct translation *translation)
{
    struct soft_translator *translator = cpu->translator;

    cpu->flags_carrier = (uint16_t)flags_pack(cpu->rflags);
    if (!live_enter(cpu, translation))
        return false;
    translator->enter(executable(translator, translation->entry));
    live_leave(cpu);
    if (cpu->exit)
        cpu->rflags = flags_merge(cpu->rflags, cpu->flags_carrier, FLAGS_STATUS);
    return true;
}

/* An indirect branch to where there can be no code: raise what it raises, with the instruction not
 * begun. */
static void interpret_branch(struct soft_cpu *cpu, const struct exit *exit)
{
    const struct site *site = &cpu->translator->sites[exit->site];

    cpu->gpr[GPR_RSP] -= (uint64_t)exit->undo;
    cpu->rip = site->rip;
    cpu->next_rip = site->rip + site->insn->length;
    cpu->insn = site->insn;
    cpu->block_end = false;
    site->insn->exec(cpu, site->insn);
}

static void count_exit(struct soft_cpu *cpu, const struct exit *exit)
{
    struct soft_counters *counters = &cpu->counters;

    soft_count(&counters->exits);
    switch ((enum exit_kind)exit->kind) {
    case EXIT_DIRECT:
    case EXIT_BEHIND:
    case EXIT_PLAIN:
        soft_count(&counters->exits_unlinked);
        break;
    case EXIT_INDIRECT:
        soft_count(&counters->exits_indirect);
        break;
    case EXIT_STALE:
        soft_count(&counters->exits_stale);
        break;
    case EXIT_REQUEST:
        soft_count(&counters->exits_request);
        break;
    }
}

static void mark_page(struct soft_cpu *cpu, uint64_t linear, uint32_t id)
{
    if (soft_fetch_slot(cpu, linear)->read_tag == (linear & ~0xfffUL))
        *soft_fetch_id(cpu, linear) = id;
}

/* Let code check that the pages of `translation` are still mapped as they are now, if that is
 * known. */
static void mark_pages(struct soft_cpu *cpu, const struct translation *translation)
{
    mark_page(cpu, translation->linear, translation->page);
    if (translation->next_page)
        mark_page(cpu, translation_next_page(cpu, translation), translation->next_page);
}

/* What left itself before its first instruction goes on where its page is still mapped as it was:
 * then only registers are to be loaded, or a TLB line. NULL: look for it from the beginning. */
static struct translation *come_again(struct soft_cpu *cpu, const struct exit *exit)
{
    struct translation *translation = exit->from;
    uint64_t gpa;

    if ((exit->kind != EXIT_REQUEST && exit->kind != EXIT_STALE) || !translation->block ||
        translation->next_page || (translation->mode & ~MODE_PLAIN) != present_mode(cpu) ||
        soft_fetch_page(cpu, translation->linear, &gpa) != translation->block->host)
        return NULL;
    return translation;
}

/* The translation at rip of what is mapped there now: without a look at its block, which would be
 * far from all that is in the processor's caches. NULL: look for it from the beginning. */
static struct translation *find_there(struct soft_cpu *cpu, bool plain)
{
    uint8_t mode = present_mode(cpu);
    const uint8_t *host;
    uint64_t gpa;

    if (mode == MODE_COUNT)
        return NULL;
    host = soft_fetch_page(cpu, cpu->rip, &gpa);
    return host ? translation_find_at(cpu->translator, host, cpu->rip,
                                      mode | (plain ? MODE_PLAIN : 0))
                : NULL;
}

/* The translation to go on with after `exit`, linked to it; NULL: the run loop must look around. */
static struct translation *follow_exit(struct soft_cpu *cpu, struct exit *exit)
{
    struct soft_translator *translator = cpu->translator;
    unsigned generation = translator->generation;
    struct translation *to;
    struct soft_block *block;
    uint64_t target;

    count_exit(cpu, exit);
    target = exit->kind == EXIT_INDIRECT ? cpu->next_rip : exit->rip;
    if (exit->kind == EXIT_INDIRECT && cpu->flat && !soft_canonical(target)) {
        interpret_branch(cpu, exit);
        return NULL;
    }
    cpu->rip = cpu->next_rip = cpu->flat ? target : (uint32_t)target;
    if (atomic_load_explicit(&cpu->requests, memory_order_relaxed))
        return NULL;
    cpu->insn = NULL; /* the fetch raises where the code ran off the end of an address space */
    to = come_again(cpu, exit);
    if (to) {
        mark_pages(cpu, to);
        return to;
    }
    to = find_there(cpu, exit->kind == EXIT_PLAIN);
    if (!to) {
        block = soft_blocks_find(cpu, cpu->rip);
        if (block)
            to = get_translation(cpu, block, cpu->rip, exit->kind == EXIT_PLAIN, false);
    }
    if (!to)
        return NULL;
    mark_pages(cpu, to);
    if (generation == translator->generation)
        exit_link(translator, (uint32_t)(exit - translator->exits), to);
    return to;
}

bool soft_translator_enter(struct soft_cpu *cpu, struct soft_block *block, uint64_t linear)
{
    struct translation *translation = get_translation(cpu, block, linear, false, true);
    struct soft_translator *translator = cpu->translator;

    if (!translation)
        return false;
    translator_set_current(cpu);
    mark_pages(cpu, translation);
    if (!enter(cpu, translation))
        return false;
    while (cpu->exit) {
        translation = follow_exit(cpu, &translator->exits[cpu->exit]);
        if (!translation || !enter(cpu, translation))
            break;
    }
    return true;
}

/* ---- life ---- */

struct soft_translator *soft_translator_create(struct soft_cpu *cpu, GError **error)
{
    const struct soft_engine *engine = cpu->engine;
    const struct soft_switches *switches = &engine->switches;
    struct soft_translator *translator = g_new0(struct soft_translator, 1);

    translator->cpu = cpu;
    translator->exact = switches->exact;
    translator->chain = !switches->nochain;
    translator->clones = !switches->noclones;
    translator->young = switches->eager ? YOUNG_EAGER : YOUNG;
    cpu->heat = switches->eager ? 0 : SOFT_TRANSLATOR_HEAT;
    cpu->heat_elsewhere =
        switches->eager || switches->noclones ? 0 : SOFT_TRANSLATOR_HEAT - SOFT_CLONE_HEAT;
    translator->features.bmi2 = !switches->nobmi2 && __builtin_cpu_supports("bmi2");
    translator->features.avx = !switches->noavx && __builtin_cpu_supports("avx2");
    translator->features.avx512 = translator->features.avx && soft_host_has_avx512();
    translator->site_count = translator->exit_count = 1;
    translator->translations = sparse_create(sizeof(struct translation) * TRANSLATIONS_MAX);
    translator->sites = sparse_create(sizeof(struct site) * SITES_MAX);
    translator->exits = sparse_create(sizeof(struct exit) * EXITS_MAX);
    translator->relocations = sparse_create(sizeof(struct relocation) * RELOCATIONS_MAX);
    translator->pages = sparse_create(sizeof(struct code_page_id) * PAGE_IDS);
    translator->page_buckets = sparse_create(sizeof(*translator->page_buckets) * PAGE_IDS);
    translator->buckets = sparse_create(sizeof(*translator->buckets) * TRANSLATION_BUCKETS);
    translator->build = sparse_create(sizeof(struct build));
    if (!translator->translations || !translator->sites || !translator->exits ||
        !translator->relocations || !translator->pages || !translator->page_buckets ||
        !translator->buckets || !translator->build) {
        g_set_error(error, G_FILE_ERROR, G_FILE_ERROR_NOMEM, "vCPU %u: no memory for translations",
                    cpu->index);
        soft_translator_destroy(translator);
        return NULL;
    }
    if (!code_cache_init(&translator->cache, code_cache_share(engine->count), error)) {
        soft_translator_destroy(translator);
        return NULL;
    }
    glue_emit(translator);
    translator_log_glue(translator);
    translator_catch_signals();
    return translator;
}

void soft_translator_destroy(struct soft_translator *translator)
{
    if (!translator)
        return;
    for (unsigned mode = 0; mode < MODE_COUNT; mode++)
        sparse_destroy(translator->indirect[mode], INDIRECT_BYTES);
    sparse_destroy(translator->translations, sizeof(struct translation) * TRANSLATIONS_MAX);
    sparse_destroy(translator->sites, sizeof(struct site) * SITES_MAX);
    sparse_destroy(translator->exits, sizeof(struct exit) * EXITS_MAX);
    sparse_destroy(translator->relocations, sizeof(struct relocation) * RELOCATIONS_MAX);
    sparse_destroy(translator->pages, sizeof(struct code_page_id) * PAGE_IDS);
    sparse_destroy(translator->page_buckets, sizeof(*translator->page_buckets) * PAGE_IDS);
    sparse_destroy(translator->buckets, sizeof(*translator->buckets) * TRANSLATION_BUCKETS);
    sparse_destroy(translator->build, sizeof(struct build));
    code_cache_fini(&translator->cache);
    g_free(translator);
}
