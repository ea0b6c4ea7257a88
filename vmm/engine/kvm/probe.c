// SPDX-License-Identifier: Apache-2.0
/*
 * Whether this host's KVM is worth having: some hosts have a /dev/kvm that interprets all of ring 0
 * (2 million instructions a second; hardware does hundreds of millions). The processor's own
 * virtualization tells first, a short timed loop in real mode settles it.
 */
#include "vmm/engine/engines.h"

#include <cpuid.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "vmm/engine/kvm/kvm.h"

#define LOOPS        8000 /* two instructions each: 8 ms where they are interpreted */
#define ATTEMPTS     3    /* the first one pays for page faults; any may be preempted */
#define HARDWARE_NS  3000000
#define CODE_ADDRESS 0x1000

#define NEEDED(capability, name)                      \
    {                                                 \
        capability, "the host's KVM lacks '" name "'" \
    }
static const struct {
    int capability;
    const char *lacking;
} needed[] = {
    NEEDED(KVM_CAP_USER_MEMORY, "user memory"),
    NEEDED(KVM_CAP_SPLIT_IRQCHIP, "split irqchip"),
    NEEDED(KVM_CAP_IRQ_ROUTING, "interrupt routing"),
    NEEDED(KVM_CAP_SIGNAL_MSI, "signal MSI"),
    NEEDED(KVM_CAP_IOEVENTFD_ANY_LENGTH, "ioeventfd of any length"),
    NEEDED(KVM_CAP_IMMEDIATE_EXIT, "immediate exit"),
    NEEDED(KVM_CAP_MP_STATE, "MP state"),
    NEEDED(KVM_CAP_VCPU_EVENTS, "vCPU events"),
    NEEDED(KVM_CAP_DEBUGREGS, "debug registers"),
    NEEDED(KVM_CAP_XSAVE, "XSAVE"),
    NEEDED(KVM_CAP_XCRS, "XCRS"),
    NEEDED(KVM_CAP_EXT_CPUID, "CPUID"),
    NEEDED(KVM_CAP_ADJUST_CLOCK, "settable clock"),
    NEEDED(KVM_CAP_EXCEPTION_PAYLOAD, "exception payloads"),
    NEEDED(KVM_CAP_ENFORCE_PV_FEATURE_CPUID, "paravirtual features by CPUID"),
    NEEDED(KVM_CAP_X86_USER_SPACE_MSR, "MSRs in user space"),
    NEEDED(KVM_CAP_X86_MSR_FILTER, "MSR filter"),
};

const char *kvm_missing(int kvm)
{
    for (unsigned i = 0; i < G_N_ELEMENTS(needed); i++) {
        if (kvm_ioctl(kvm, KVM_CHECK_EXTENSION, (void *)(uintptr_t)needed[i].capability) <= 0)
            return needed[i].lacking;
    }
    return NULL;
}

bool kvm_processor_virtualizes(void)
{
    unsigned eax, ebx, ecx, edx;

    if (__get_cpuid(1, &eax, &ebx, &ecx, &edx) && ecx >> 5 & 1)
        return true;                                                        /* VMX */
    return __get_cpuid(0x80000001, &eax, &ebx, &ecx, &edx) && ecx >> 2 & 1; /* SVM */
}

static int64_t now_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * NS_PER_SECOND + now.tv_nsec;
}

static bool start_at_code(int vcpu)
{
    struct kvm_sregs sregs;
    struct kvm_regs regs = {.rip = CODE_ADDRESS, .rflags = 2};

    if (kvm_ioctl(vcpu, KVM_GET_SREGS, &sregs) < 0)
        return false;
    sregs.cs.base = 0;
    sregs.cs.selector = 0;
    return kvm_ioctl(vcpu, KVM_SET_SREGS, &sregs) == 0 && kvm_ioctl(vcpu, KVM_SET_REGS, &regs) == 0;
}

/* Nanoseconds of the loop on this vCPU, or -1. */
static int64_t time_loop(int vcpu, struct kvm_run *run)
{
    if (!start_at_code(vcpu))
        return -1;
    int64_t begin = now_ns();
    if (kvm_ioctl(vcpu, KVM_RUN, NULL) < 0 || run->exit_reason != KVM_EXIT_HLT)
        return -1;
    return now_ns() - begin;
}

static int64_t measure(int kvm, int vm, uint8_t *page)
{
    /* mov cx, LOOPS; again: dec cx; jnz again; hlt */
    static const uint8_t code[] = {0xb9, LOOPS & 0xff, LOOPS >> 8, 0x49, 0x75, 0xfd, 0xf4};
    struct kvm_userspace_memory_region region = {
        .guest_phys_addr = CODE_ADDRESS, .memory_size = 4096, .userspace_addr = (uintptr_t)page};
    int64_t ns = -1;

    memcpy(page, code, sizeof(code));
    int size = kvm_ioctl(kvm, KVM_GET_VCPU_MMAP_SIZE, NULL);
    if (size <= 0 || kvm_ioctl(vm, KVM_SET_TSS_ADDR, (void *)0xfffbd000UL) < 0 ||
        kvm_ioctl(vm, KVM_SET_USER_MEMORY_REGION, &region) < 0)
        return -1;
    int vcpu = kvm_ioctl(vm, KVM_CREATE_VCPU, NULL);
    if (vcpu < 0)
        return -1;
    struct kvm_run *run = mmap(NULL, (size_t)size, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu, 0);
    if (run != MAP_FAILED) {
        for (unsigned i = 0; i < ATTEMPTS && (ns < 0 || ns >= HARDWARE_NS); i++)
            ns = time_loop(vcpu, run);
        munmap(run, (size_t)size);
    }
    close(vcpu);
    return ns;
}

static bool runs_in_hardware(int kvm)
{
    int64_t ns = -1;
    uint8_t *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    int vm = kvm_ioctl(kvm, KVM_CREATE_VM, NULL);

    if (vm >= 0 && page != MAP_FAILED)
        ns = measure(kvm, vm, page);
    if (vm >= 0)
        close(vm);
    if (page != MAP_FAILED)
        munmap(page, 4096);
    return ns >= 0 && ns < HARDWARE_NS;
}

/* A device file that is there and could not be opened is another matter than none. */
static const char *why_not_open(void)
{
    return access("/dev/kvm", F_OK) == 0
               ? "/dev/kvm is not for this user; its group may use it"
               : "there is no /dev/kvm; the modules kvm-intel or kvm-amd make it";
}

bool kvm_probe(int kvm, const char **why)
{
    const char *wrong = NULL;

    if (kvm < 0)
        wrong = why_not_open();
    else if (kvm_ioctl(kvm, KVM_GET_API_VERSION, NULL) != KVM_API_VERSION)
        wrong = "/dev/kvm speaks another version of its interface";
    else if (!kvm_processor_virtualizes())
        wrong = "the host's KVM has no hardware virtualization below it";
    else
        wrong = kvm_missing(kvm);
    if (!wrong && !runs_in_hardware(kvm))
        wrong = "the host's KVM runs kernels in software";
    *why = wrong ? wrong : "KVM runs in hardware here";
    return !wrong;
}
