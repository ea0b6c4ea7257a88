// SPDX-License-Identifier: Apache-2.0
/*
 * What every payload has. Output goes to the first serial port, the result to isa-debug-exit: value
 * 0 when all checks held, so that the VMM's status is 1; else 1, status 3.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A payload defines this; `cmdline` is the Multiboot command line without the program's name. */
void payload_main(const char *cmdline);

void print(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* Count and print one check; the name is printed only where it does not hold. */
void check_at(bool held, const char *file, int line, const char *format, ...)
    __attribute__((format(printf, 4, 5)));
/* The condition is evaluated first, so that the message may print what it changed. */
#define check(held, ...)                                  \
    do {                                                  \
        bool held_ = (held);                              \
        check_at(held_, __FILE__, __LINE__, __VA_ARGS__); \
    } while (0)
/* Say that a part is not tested, with the reason. */
void skip(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* Report and end the VMM. */
_Noreturn void finish(void);

void *memset(void *to, int value, size_t size);
void *memcpy(void *to, const void *from, size_t size);
int memcmp(const void *a, const void *b, size_t size);
int strcmp(const char *a, const char *b);

static inline void outb(uint16_t port, uint8_t value)
{
    asm volatile("outb %0, %1" ::"a"(value), "Nd"(port));
}
static inline void outl(uint16_t port, uint32_t value)
{
    asm volatile("outl %0, %1" ::"a"(value), "Nd"(port));
}
static inline uint8_t inb(uint16_t port)
{
    uint8_t value;
    asm volatile("inb %1, %0" : "=a"(value) : "Nd"(port));
    return value;
}
static inline uint32_t inl(uint16_t port)
{
    uint32_t value;
    asm volatile("inl %1, %0" : "=a"(value) : "Nd"(port));
    return value;
}
