// SPDX-License-Identifier: Apache-2.0
/*
 * Limits of a machine of this version. Each stands here and nowhere else; the VMM checks at compile
 * time that its layout agrees.
 */
#pragma once

#include <stdint.h>

#define CONFIG_CPUS_MAX         64ULL          /* vCPUs of one machine */
#define CONFIG_MEMORY_MIN       (1ULL << 20)   /* bytes: what a real-mode system addresses */
#define CONFIG_MEMORY_ALIGN     4096ULL        /* bytes: RAM comes in whole pages */
#define CONFIG_MEMORY_MAX       (508ULL << 30) /* bytes: RAM ends below the 64-bit PCI window */
#define CONFIG_RNG_RATE_MAX     (1ULL << 40)   /* bytes a second */
#define CONFIG_NICS_MAX         8              /* network cards of a machine */
#define CONFIG_NIC_MTU_MIN      68ULL          /* bytes: what IPv4 asks of every network */
#define CONFIG_NIC_MTU_MAX      65521ULL       /* bytes: what libslirp does */
#define CONFIG_NETWORK_MTU_MIN  576ULL         /* bytes: a DHCP message fits */
#define CONFIG_PORTS_MAX        30             /* named ports of a virtio console */
#define CONFIG_AGENT_PORT       "org.qemu.guest_agent.0" /* where a guest's agent listens */
#define CONFIG_PORT_NAME_MAX    127                      /* bytes of the name of one */
#define CONFIG_DISKS_MAX        16                       /* disks of one machine */
#define CONFIG_RATE_MIN         1024ULL                  /* bytes a second, of a limit */
#define CONFIG_RATE_MAX         (1ULL << 50)
#define CONFIG_IOPS_MIN         1ULL /* operations a second */
#define CONFIG_IOPS_MAX         (1ULL << 32)
#define CONFIG_BURST_MAX        3600000ULL /* milliseconds */
#define CONFIG_ID_MAX           32         /* bytes of the id of a disk or a network card */
#define CONFIG_PCI_FIRST        0x03       /* devices of bus 0 that are the user's... */
#define CONFIG_PCI_LAST         0x1B       /* ...up to this one */
#define CONFIG_ROOT_PORTS       8          /* each with a bus for one device */
#define CONFIG_SERIAL_MAX       20         /* bytes of a disk's serial number */
#define CONFIG_LIST_MAX         64         /* entries of one list, such as multiboot modules */
#define CONFIG_TEXT_MAX         65535      /* bytes of one value */
#define CONFIG_FILE_MAX         (1U << 20) /* bytes of one vm.yaml */
#define CONFIG_STOP_TIMEOUT_MAX 86400ULL   /* seconds that a guest gets to power off */
#define CONFIG_CPU_LIMIT_MAX    100000ULL  /* of cpu-limit, in percent of a processor */
#define CONFIG_CPU_WEIGHT_MAX   10000ULL   /* of cpu-weight, the kernel's own */
#define CONFIG_START_ORDER_MAX  9999ULL    /* of start-order */
#define CONFIG_START_DELAY_MAX  3600ULL    /* seconds between two machines */
#define CONFIG_NAME_MAX         64         /* bytes of a machine's name */
