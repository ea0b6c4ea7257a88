// SPDX-License-Identifier: Apache-2.0
/*
 * Registration of RCU readers: once a thread, undone by a thread-specific destructor.
 */
#include "vmm/util/rcu.h"

#include <pthread.h>

_Thread_local bool rcu_reader_registered;

#ifdef RCU_TSAN
char rcu_tsan_tag;
#endif

static pthread_key_t reader_key;
static pthread_once_t reader_once = PTHREAD_ONCE_INIT;

static void reader_unregister(void *registered)
{
    rcu_reader_registered = false;
    urcu_memb_unregister_thread();
}

static void reader_key_create(void)
{
    pthread_key_create(&reader_key, reader_unregister);
}

void rcu_reader_register(void)
{
    pthread_once(&reader_once, reader_key_create);
    pthread_setspecific(reader_key, &rcu_reader_registered);
    urcu_memb_register_thread();
    rcu_reader_registered = true;
}
