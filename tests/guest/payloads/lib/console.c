// SPDX-License-Identifier: Apache-2.0
/* Output, checks and the end of a payload, for 64- and 32-bit payloads alike. See console.h. */

#include "console.h"

#include <stdarg.h>

static unsigned checks, failures;

void *memset(void *to, int value, size_t size)
{
    void *start = to;
    asm volatile("rep stosb" : "+D"(to), "+c"(size) : "a"(value) : "memory");
    return start;
}

void *memcpy(void *to, const void *from, size_t size)
{
    void *start = to;
    asm volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(size)::"memory");
    return start;
}

int memcmp(const void *a, const void *b, size_t size)
{
    const uint8_t *x = a, *y = b;
    for (size_t i = 0; i < size; i++)
        if (x[i] != y[i])
            return x[i] - y[i];
    return 0;
}

int strcmp(const char *a, const char *b)
{
    while (*a && *a == *b)
        a++, b++;
    return (uint8_t)*a - (uint8_t)*b;
}

static void put(char c)
{
    while (!(inb(0x3fd) & 0x20))
        ;
    outb(0x3f8, c);
}

static void put_string(const char *text)
{
    for (; *text; text++)
        put(*text);
}

static void put_number(unsigned long value, unsigned base, unsigned width, char pad)
{
    char digits[24];
    unsigned count = 0;

    do {
        digits[count++] = "0123456789abcdef"[value % base];
        value /= base;
    } while (value);
    for (unsigned i = count; i < width; i++)
        put(pad);
    while (count)
        put(digits[--count]);
}

static void print_list(const char *format, va_list list)
{
    for (; *format; format++) {
        unsigned width = 0, longs = 0;
        char pad = ' ';
        if (*format != '%') {
            put(*format);
            continue;
        }
        format++;
        if (*format == '0')
            pad = '0';
        for (; *format >= '0' && *format <= '9'; format++)
            width = width * 10 + *format - '0';
        for (; *format == 'l'; format++)
            longs++;
        if (*format == 's') {
            put_string(va_arg(list, const char *));
        } else if (*format == 'c') {
            put(va_arg(list, int));
        } else if (*format == 'd') {
            long value = longs ? va_arg(list, long) : va_arg(list, int);
            if (value < 0)
                put('-');
            put_number(value < 0 ? -value : value, 10, width, pad);
        } else if (*format == '%') {
            put('%');
        } else {
            unsigned long value = longs ? va_arg(list, unsigned long) : va_arg(list, unsigned);
            put_number(value, *format == 'u' ? 10 : 16, width, pad);
        }
    }
}

void print(const char *format, ...)
{
    va_list list;

    va_start(list, format);
    print_list(format, list);
    va_end(list);
}

void check_at(bool held, const char *file, int line, const char *format, ...)
{
    va_list list;

    checks++;
    if (held)
        return;
    failures++;
    print("FAIL %s:%d: ", file, line);
    va_start(list, format);
    print_list(format, list);
    va_end(list);
    print("\n");
}

void skip(const char *format, ...)
{
    va_list list;

    print("SKIP ");
    va_start(list, format);
    print_list(format, list);
    va_end(list);
    print("\n");
}

void finish(void)
{
    print("payload: %u checks, %u failed\n", checks, failures);
    if (!checks)
        failures = 1;
    outb(0xf4, failures ? 1 : 0);
    for (;;)
        asm volatile("cli; hlt");
}
