// SPDX-License-Identifier: Apache-2.0
/*
 * Faults of the host in translated code: a division, an unmasked SIMD exception, an operand that is
 * not aligned, a page that is not in a window. They happen at an instruction that commits a
 * guest's, so nothing of that one is done: the page is entered, or the interpreter executes it and
 * raises what is due. Any other fault is as if this were not here.
 */
#define _GNU_SOURCE 1
#include <signal.h>
#include <ucontext.h>

#include "vmm/engine/soft/operand.h"
#include "vmm/engine/soft/translator/translation.h"

#define PAGE_FAULT 14

static _Thread_local struct soft_cpu *current;
static struct sigaction previous_segv, previous_bus, previous_fpe;

void translator_set_current(struct soft_cpu *cpu)
{
    current = cpu;
}

/* `window`: the one whose window's access is at `at`. */
static const struct site *find_site(struct soft_translator *translator, uintptr_t at, bool window)
{
    const uint8_t *code = (const uint8_t *)(at - (uintptr_t)translator->cache.execute);
    const struct translation *translation;

    if (code < translator->empty || code >= translator->cold_used)
        return NULL;
    translation = translator_find_code(translator, code);
    if (!translation)
        return NULL;
    for (uint32_t i = 0; i < translation->sites; i++) {
        const struct site *site = &translator->sites[translation->site + i];
        uint32_t offset = window ? site->window : site->commit;

        if (offset && translator->cache.write + offset == code)
            return site;
    }
    return NULL;
}

/* Let the thread go on in the glue, as a miss does. */
static bool divert(int number, const siginfo_t *info, ucontext_t *user)
{
    greg_t *registers = user->uc_mcontext.gregs;
    struct soft_translator *translator = current ? current->translator : NULL;
    const struct site *site = NULL;
    uint32_t access = 0;

    if (!translator)
        return false;
    if (number == SIGSEGV)
        site = find_site(translator, (uintptr_t)registers[REG_RIP], true);
    if (site && registers[REG_TRAPNO] == PAGE_FAULT) /* else si_addr says nothing */
        access = ACCESS_WINDOW;
    if (!site)
        site = find_site(translator, (uintptr_t)registers[REG_RIP], false);
    if (!site)
        return false;
    if (site->flags == FLAGS_HOST)
        current->flags_carrier = (uint16_t)flags_pack((uint64_t)registers[REG_EFL]);
    registers[REG_R13] = site - translator->sites;
    registers[REG_R11] = (greg_t)window_linear(translator, site, (uintptr_t)info->si_addr);
    registers[REG_R14] = access;
    registers[REG_RIP] =
        (greg_t)((uintptr_t)translator->interpret + (uintptr_t)translator->cache.execute);
    return true;
}

static void on_fault(int number, siginfo_t *info, void *context)
{
    const struct sigaction *previous = number == SIGSEGV  ? &previous_segv
                                       : number == SIGBUS ? &previous_bus
                                                          : &previous_fpe;

    if (divert(number, info, context))
        return;
    if (previous->sa_flags & SA_SIGINFO)
        previous->sa_sigaction(number, info, context);
    else
        sigaction(number, previous, NULL); /* the instruction faults again */
}

static void catch (int number, struct sigaction *previous)
{
    struct sigaction action = {.sa_sigaction = on_fault,
                               .sa_flags = SA_SIGINFO | SA_NODEFER | SA_ONSTACK};

    sigemptyset(&action.sa_mask);
    sigaction(number, &action, previous);
}

static void catch_all(void)
{
    catch (SIGSEGV, &previous_segv);
    catch (SIGBUS, &previous_bus);
    catch (SIGFPE, &previous_fpe);
}

void translator_catch_signals(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;

    pthread_once(&once, catch_all);
}
