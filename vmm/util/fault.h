// SPDX-License-Identifier: Apache-2.0
/*
 * The error domain of the VMM. GIO's would do, but linking its library costs each start more than
 * a millisecond.
 */
#pragma once

#include <glib.h>

#define VMM_ERROR vmm_error_quark()
GQuark vmm_error_quark(void);

enum vmm_error {
    VMM_ERROR_FAILED,        /* anything that has no code of its own; a system call */
    VMM_ERROR_INVALID,       /* data or an argument that cannot be */
    VMM_ERROR_NOT_SUPPORTED, /* it could be, but not here */
    VMM_ERROR_NO_SPACE,      /* it does not fit */
    VMM_ERROR_EXISTS,        /* the name or place is taken */
    VMM_ERROR_BUSY,          /* not now */
    VMM_ERROR_CLOSED,        /* the other end has gone */
    VMM_ERROR_CANCELLED,     /* it was told to stop */
};
