/* Counts the bytes that a process has from its allocator, between count_start and count_stop. Preloaded by
 * check_plan.py; glibc only. What was there before the start is not counted, nor is its end. */
#include <errno.h>
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

extern void *__libc_malloc(size_t);
extern void __libc_free(void *);
extern void *__libc_calloc(size_t, size_t);
extern void *__libc_realloc(void *, size_t);
extern void *__libc_memalign(size_t, size_t);

#define SLOTS (1 << 20)
#define GONE ((void *)1)

static struct { void *at; long bytes; } blocks[SLOTS];
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static int counting;
static long in_use, most;

static size_t slot(void *at) { return ((uintptr_t)at >> 4) * 0x9E3779B97F4A7C15ull >> 44; }

static void *came(void *at, size_t bytes) {
    if (!counting || !at) return at;
    pthread_mutex_lock(&lock);
    size_t i = slot(at);
    while (blocks[i].at && blocks[i].at != GONE) i = (i + 1) % SLOTS;
    blocks[i].at = at;
    blocks[i].bytes = bytes;
    in_use += bytes;
    if (in_use > most) most = in_use;
    pthread_mutex_unlock(&lock);
    return at;
}

static void goes(void *at) {
    if (!counting || !at) return;
    pthread_mutex_lock(&lock);
    for (size_t i = slot(at); blocks[i].at; i = (i + 1) % SLOTS) {
        if (blocks[i].at == at) {
            in_use -= blocks[i].bytes;
            blocks[i].at = GONE;
            break;
        }
    }
    pthread_mutex_unlock(&lock);
}

void count_start(void) {
    memset(blocks, 0, sizeof blocks);
    in_use = most = 0;
    counting = 1;
}

long count_stop(void) {
    counting = 0;
    return most;
}

void *malloc(size_t n) { return came(__libc_malloc(n), n); }
void *calloc(size_t n, size_t each) { return came(__libc_calloc(n, each), n * each); }
void *memalign(size_t to, size_t n) { return came(__libc_memalign(to, n), n); }
void *aligned_alloc(size_t to, size_t n) { return memalign(to, n); }

void *realloc(void *at, size_t n) {
    goes(at);
    return came(__libc_realloc(at, n), n);
}

int posix_memalign(void **at, size_t to, size_t n) {
    *at = memalign(to, n);
    return *at ? 0 : ENOMEM;
}

void free(void *at) {
    goes(at);
    __libc_free(at);
}
