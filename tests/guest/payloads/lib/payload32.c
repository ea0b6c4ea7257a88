// SPDX-License-Identifier: Apache-2.0
/* The run time of 32-bit payloads. See payload32.h. */

#include "payload32.h"

extern char exception_entries[], catch_return[], stack32_top[];
extern uint32_t catch_esp;
bool call_catching(void (*fn)(void *), void *argument);
void exception_handle(struct frame *frame);
void payload32_start(const uint32_t *multiboot);

struct caught caught;
uint64_t idt32[256];
struct tss32 main_tss;
static interrupt_fn handlers[256];
static uint8_t ring0_stack[8192] __attribute__((aligned(16)));

bool try_call(void (*fn)(void *), void *argument)
{
    caught.vector = 0xff;
    return call_catching(fn, argument);
}

void interrupt_set(unsigned vector, interrupt_fn fn)
{
    handlers[vector] = fn;
}

void exception_handle(struct frame *frame)
{
    uint32_t cr2;

    if (handlers[frame->vector]) {
        handlers[frame->vector](frame);
        return;
    }
    asm volatile("mov %%cr2, %0" : "=r"(cr2));
    caught = (struct caught){
        .vector = frame->vector,
        .error = frame->error,
        .cr2 = cr2,
        .eip = frame->eip,
        .cs = frame->cs,
        .eflags = frame->eflags,
        .eax = frame->eax,
    };
    if (!catch_esp) {
        print("exception %u error 0x%x at 0x%x:0x%x\n", frame->vector, frame->error, frame->cs,
              frame->eip);
        check(false, "unexpected exception");
        finish();
    }
    /* Not by IRET: the exception may have come from another ring or from virtual-8086 mode. */
    asm volatile("pushl $2; popfl; jmp catch_return");
    __builtin_unreachable();
}

void payload32_start(const uint32_t *multiboot)
{
    const char *cmdline = multiboot[0] & 4 ? (const char *)multiboot[4] : "";
    struct {
        uint16_t limit;
        uint32_t base;
    } __attribute__((packed)) pointer = {sizeof(idt32) - 1, (uint32_t)idt32};

    outb(0x3f9, 0);
    outb(0x3fb, 3);
    for (unsigned vector = 0; vector < 256; vector++)
        idt32[vector] = gate(0x08, (uint32_t)exception_entries + 16 * vector,
                             vector == 3 || vector == 0x80 ? 0xee : 0x8e, 0);
    asm volatile("lidt %0" ::"m"(pointer));
    main_tss.ss0 = 0x10;
    main_tss.esp0 = (uint32_t)ring0_stack + sizeof(ring0_stack);
    main_tss.io_map = sizeof(main_tss);
    gdt32[TSS_MAIN / 8] = descriptor((uint32_t)&main_tss, sizeof(main_tss) - 1, 0x89, 0);
    asm volatile("ltr %w0; lldt %w1" ::"r"(TSS_MAIN), "r"(0));
    while (*cmdline && *cmdline != ' ')
        cmdline++;
    while (*cmdline == ' ')
        cmdline++;
    payload_main(cmdline);
    finish();
}
