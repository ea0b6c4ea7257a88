// SPDX-License-Identifier: Apache-2.0
/*
 * Answers on the serial line, for the tests of the command line: each byte comes back, and some end
 * the machine in one of its ways.
 */
#include "payload.h"

#define SERIAL        0x3f8
#define LINE_STATUS   0x3fd
#define PM1_CONTROL   0x604
#define RESET         0xcf9
#define DEBUG_EXIT    0xf4
#define DEBUGCON      0xe9
#define PVPANIC       0x505
#define SLP_S5_AND_GO 0x3c00
#define NMI           2
#define WORDS         4096

/* What it does while nobody asks: the same work twice, whose results are equal as long as nothing
 * takes a byte of its memory or a bit of its registers away. */
static uint64_t first[WORDS], second[WORDS], steps;

static void work(void)
{
    uint64_t *one = &first[steps % WORDS], *other = &second[steps % WORDS];

    *one = *one * 6364136223846793005 + steps;
    *other = *other * 6364136223846793005 + steps;
    steps++;
}

static void tell_health(void)
{
    bool same = true;

    for (unsigned i = 0; i < WORDS; i++)
        same = same && first[i] == second[i];
    print("%s after %lu steps\r\n", same ? "sound" : "harmed", steps);
}

static void pass_over(struct frame *frame)
{
}

static void put(uint8_t byte)
{
    while (!(inb(LINE_STATUS) & 0x20))
        continue;
    outb(SERIAL, byte);
}

static void triple_fault(void)
{
    static const struct {
        uint16_t limit;
        uint64_t base;
    } __attribute__((packed)) no_idt;

    asm volatile("lidt %0; int3" ::"m"(no_idt));
}

static void say(const char *text)
{
    while (*text)
        outb(DEBUGCON, (uint8_t)*text++);
}

static void obey(uint8_t byte)
{
    switch (byte) {
    case 'q': /* power off */
        asm volatile("outw %w0, %w1" ::"a"(SLP_S5_AND_GO), "Nd"(PM1_CONTROL));
        break;
    case 'c': /* crash */
        triple_fault();
        break;
    case 'p': /* panic, and say so */
        outb(PVPANIC, 1);
        break;
    case 'x': /* end with status 43 */
        outl(DEBUG_EXIT, 21);
        break;
    case 'r': /* reboot */
        outb(RESET, 6);
        break;
    case 'e': /* a line on the debug console */
        say("E\n");
        break;
    case 'v': /* what a vmm says as its sandbox stops it */
        say("anima-vmm: sandbox: system call 59\n");
        break;
    case '%': /* whether it is sound */
        tell_health();
        break;
    case 'F': /* more lines on the debug console than anybody reads */
        for (unsigned i = 0; i < 200000; i++)
            outb(DEBUGCON, i % 20 ? '.' : '\n');
        print("flood over\r\n");
        break;
    }
}

void payload_main(const char *cmdline)
{
    interrupt_set(NMI, pass_over);
    print("hello %s\r\n", cmdline);
    for (;;) {
        while (!(inb(LINE_STATUS) & 1)) {
            work();
            asm volatile("pause");
        }
        uint8_t byte = inb(SERIAL);

        put(byte);
        obey(byte);
    }
}
