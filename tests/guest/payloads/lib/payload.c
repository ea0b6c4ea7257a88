// SPDX-License-Identifier: Apache-2.0
/* The run time of payloads: output, checks, exceptions, page tables. See payload.h. */

#include "payload.h"

struct gate {
    uint16_t low, selector;
    uint8_t ist, type;
    uint16_t middle;
    uint32_t high, reserved;
} __attribute__((packed));

struct tss {
    uint32_t reserved0;
    uint64_t rsp[3], reserved1, ist[7], reserved2;
    uint16_t reserved3, io_map;
} __attribute__((packed));

extern char exception_entries[], stack_top[];
extern uint64_t boot_gdt[], boot_pml4[], catch_rsp;
extern char catch_return[];
bool call_catching(void (*fn)(void *), void *argument);
void user_enter(uint64_t rip, uint64_t rsp, uint64_t rax, uint64_t rflags);
void exception_handle(struct frame *frame);
void payload_start(const uint32_t *multiboot);

struct caught caught;
static struct gate idt[256] __attribute__((aligned(16)));
static struct tss tss;
static uint8_t interrupt_stack[16384] __attribute__((aligned(16)));
static uint8_t ist_stack[16384] __attribute__((aligned(16)));
static interrupt_fn handlers[256];
static uint64_t next_page;

void idt_set(unsigned vector, void *code, unsigned dpl, unsigned ist)
{
    uint64_t address = (uint64_t)code;

    idt[vector] = (struct gate){
        .low = address,
        .middle = address >> 16,
        .high = address >> 32,
        .selector = 0x08,
        .ist = ist,
        .type = 0x8e | dpl << 5,
    };
}

void idt_present(unsigned vector, bool present)
{
    idt[vector].type = (idt[vector].type & 0x7f) | (present ? 0x80 : 0);
}

void idt_ist(unsigned vector, unsigned ist)
{
    idt[vector].ist = ist;
}

void boot_gdt_entry(unsigned index, uint64_t descriptor)
{
    boot_gdt[index] = descriptor;
}

void interrupt_set(unsigned vector, interrupt_fn fn)
{
    handlers[vector] = fn;
}

void exception_handle(struct frame *frame)
{
    if (handlers[frame->vector]) {
        handlers[frame->vector](frame);
        return;
    }
    caught = (struct caught){
        .vector = frame->vector,
        .error = frame->error,
        .cr2 = read_cr2(),
        .rip = frame->rip,
        .cs = frame->cs,
        .rflags = frame->rflags,
        .rsp = frame->rsp,
        .rax = frame->rax,
    };
    asm volatile("mov %%dr6, %0" : "=r"(caught.dr6));
    if (!catch_rsp) {
        print("unexpected exception %lu error 0x%lx at 0x%lx cr2 0x%lx\n", frame->vector,
              frame->error, frame->rip, caught.cr2);
        check(false, "unexpected exception");
        finish();
    }
    frame->rip = (uint64_t)catch_return;
    frame->cs = 0x08;
    frame->ss = 0x10;
    frame->rsp = catch_rsp;
    frame->rflags = 2;
}

bool try_call(void (*fn)(void *), void *argument)
{
    return call_catching(fn, argument);
}

struct user_arguments {
    uint64_t rip, rsp, rax;
};

static void user_enter_catching(void *argument)
{
    struct user_arguments *user = argument;
    user_enter(user->rip, user->rsp, user->rax, 2);
}

bool user_call(uint64_t rip, uint64_t rsp, uint64_t rax)
{
    struct user_arguments user = {rip, rsp, rax};

    call_catching(user_enter_catching, &user);
    return caught.vector == 0x80;
}

void *page_alloc(void)
{
    void *page = (void *)next_page;

    next_page += 4096;
    memset(page, 0, 4096);
    return page;
}

/* The next level's table of an entry; makes it, or splits the large page that is there. */
static uint64_t *table_of(uint64_t *entry, uint64_t piece)
{
    if (!(*entry & PTE_P)) {
        *entry = (uint64_t)page_alloc() | PTE_P | PTE_W | PTE_U;
    } else if (*entry & PTE_PS) {
        uint64_t *table = page_alloc();
        uint64_t flags = piece == 4096 ? *entry & 0xfff & ~PTE_PS : *entry & 0xfff;
        for (unsigned i = 0; i < 512; i++)
            table[i] = (*entry & 0x000ffffffffff000UL) + i * piece + flags;
        *entry = (uint64_t)table | PTE_P | PTE_W | PTE_U;
    }
    return (uint64_t *)(*entry & 0x000ffffffffff000UL);
}

uint64_t *page_map(uint64_t linear, uint64_t physical, uint64_t flags)
{
    uint64_t *table = (uint64_t *)(read_cr3() & 0x000ffffffffff000UL);

    table = table_of(&table[linear >> 39 & 511], 0x40000000);
    table = table_of(&table[linear >> 30 & 511], 0x200000);
    table = table_of(&table[linear >> 21 & 511], 0x1000);
    table[linear >> 12 & 511] = physical | flags;
    invlpg(linear);
    return &table[linear >> 12 & 511];
}

static void tables_install(void)
{
    struct {
        uint16_t limit;
        uint64_t base;
    } __attribute__((packed)) pointer = {sizeof(idt) - 1, (uint64_t)idt};
    uint64_t base = (uint64_t)&tss;

    for (unsigned vector = 0; vector < 256; vector++)
        idt_set(vector, exception_entries + 16 * vector, vector == 3 || vector == 0x80 ? 3 : 0, 0);
    asm volatile("lidt %0" ::"m"(pointer));
    tss.rsp[0] = (uint64_t)interrupt_stack + sizeof(interrupt_stack);
    tss.ist[0] = (uint64_t)ist_stack + sizeof(ist_stack);
    tss.io_map = sizeof(tss);
    boot_gdt[7] =
        (sizeof(tss) - 1) | (base & 0xffffff) << 16 | 0x89UL << 40 | (base >> 24 & 0xff) << 56;
    boot_gdt[8] = base >> 32;
    asm volatile("ltr %w0" ::"r"(0x38));
}

const void *multiboot_info;

void payload_start(const uint32_t *multiboot)
{
    const char *cmdline = multiboot[0] & 4 ? (const char *)(uint64_t)multiboot[4] : "";

    multiboot_info = multiboot;
    outb(0x3f9, 0);
    outb(0x3fb, 3);
    next_page = ((uint64_t)end_of_image + 0x200000) & ~0xfffUL;
    tables_install();
    while (*cmdline && *cmdline != ' ')
        cmdline++;
    while (*cmdline == ' ')
        cmdline++;
    payload_main(cmdline);
    finish();
}
