/* SPDX-License-Identifier: MIT */
/* idle_locks.c - a process that waits for a lock does not wake up until the lock is released. */
#define _GNU_SOURCE
#include "probe.h"

#include <dirent.h>
#include <linux/futex.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>

/* The parent holds all of these. */
static struct shared {
    pthread_mutex_t mutex, robust;
    pthread_rwlock_t rwlock;
    pthread_barrier_t barrier;
    pthread_cond_t cond;
    sem_t sem;
    uint32_t futex;
    volatile int waits;
} * shared;

static void wait_mutex(void) { check(pthread_mutex_lock(&shared->mutex), "lock"); }
static void wait_robust(void) { check(pthread_mutex_lock(&shared->robust), "lock"); }
static void wait_rwlock(void) { check(pthread_rwlock_rdlock(&shared->rwlock), "rdlock"); }
static void wait_barrier(void) { pthread_barrier_wait(&shared->barrier); }
static void wait_sem(void) { sem_wait(&shared->sem); }
static void wait_futex(void) { syscall(SYS_futex, &shared->futex, FUTEX_WAIT, 0, NULL, NULL, 0); }
static void wait_cond(void)
{
    pthread_mutex_t own = PTHREAD_MUTEX_INITIALIZER;
    check(pthread_mutex_lock(&own), "lock");
    check(pthread_cond_wait(&shared->cond, &own), "cond_wait");
}

/* How often the threads of the process have gone to sleep. */
static long sleeps(pid_t pid)
{
    char path[100];
    long sum = 0, n;
    snprintf(path, sizeof path, "/proc/%d/task", (int)pid);
    DIR *threads = opendir(path);
    for (struct dirent *entry; threads && (entry = readdir(threads));) {
        snprintf(path, sizeof path, "/proc/%d/task/%.20s/status", (int)pid, entry->d_name);
        FILE *status = entry->d_name[0] == '.' ? NULL : fopen(path, "re");
        char line[200];
        while (status && fgets(line, sizeof line, status))
            if (sscanf(line, "voluntary_ctxt_switches: %ld", &n) == 1)
                sum += n;
        if (status)
            fclose(status);
    }
    if (threads)
        closedir(threads);
    return sum;
}

static void show(const char *what, void (*wait_for_it)(void))
{
    fflush(stdout);
    shared->waits = 0;
    pid_t child = fork();
    if (child == 0) {
        shared->waits = 1;
        wait_for_it();
        _exit(0);
    }
    while (!shared->waits)
        usleep(1000);
    /* Waits until the child is quiet: threads start, and look for work a few times. */
    long before = sleeps(child), now;
    for (int still = 0, i = 0; still < 3 && i < 100; i++, before = now) {
        usleep(20000);
        now = sleeps(child);
        still = now == before ? still + 1 : 0;
    }
    usleep(200000);
    now = sleeps(child);
    kill(child, SIGKILL);
    waitpid(child, NULL, 0);
    printf("%s: %s\n", what, now - before < 5 ? "idle" : "wakes up");
}

static void probe(void)
{
    shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (shared == MAP_FAILED)
        die("mmap");
    pthread_mutexattr_t kind;
    pthread_rwlockattr_t rwlock;
    pthread_barrierattr_t barrier;
    pthread_condattr_t cond;
    pthread_mutexattr_init(&kind);
    pthread_rwlockattr_init(&rwlock);
    pthread_barrierattr_init(&barrier);
    pthread_condattr_init(&cond);
    pthread_mutexattr_setpshared(&kind, PTHREAD_PROCESS_SHARED);
    pthread_rwlockattr_setpshared(&rwlock, PTHREAD_PROCESS_SHARED);
    pthread_barrierattr_setpshared(&barrier, PTHREAD_PROCESS_SHARED);
    pthread_condattr_setpshared(&cond, PTHREAD_PROCESS_SHARED);
    pthread_mutex_init(&shared->mutex, &kind);
    pthread_mutexattr_setrobust(&kind, PTHREAD_MUTEX_ROBUST);
    pthread_mutex_init(&shared->robust, &kind);
    pthread_rwlock_init(&shared->rwlock, &rwlock);
    pthread_barrier_init(&shared->barrier, &barrier, 2);
    pthread_cond_init(&shared->cond, &cond);
    sem_init(&shared->sem, 1, 0);
    check(pthread_mutex_lock(&shared->mutex), "lock");
    check(pthread_mutex_lock(&shared->robust), "lock");
    check(pthread_rwlock_wrlock(&shared->rwlock), "wrlock");
    show("mutex", wait_mutex);
    show("robust mutex", wait_robust);
    show("rwlock", wait_rwlock);
    show("barrier", wait_barrier);
    show("condition", wait_cond);
    show("semaphore", wait_sem);
    show("futex", wait_futex);
}
