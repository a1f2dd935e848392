/* SPDX-License-Identifier: MIT */
/* blocking.c - many tasks call one blocking libc symbol at the same time. Tests whether the first
 * task that waits prevents the others on its OS thread from making the call at all.
 *
 * The first task starts TASKS others, which count themselves and make the call. When all of them
 * have done so, it releases them. With one worker, a call that blocks the OS thread prevents this:
 * the program hangs, and the test reports it. With --threads, where no task can prevent another
 * from running, the program checks that the call does block: none may have returned before the
 * release. */
#define _GNU_SOURCE
#include "blocking/case.h"

#include "blocking/transfers.h"
#include "blocking/sockets.h"
#include "blocking/waits.h"
#include "blocking/locks.h"
#include "blocking/files.h"
#include "blocking/names.h"
#include "blocking/streams.h"

static const struct {
    const struct blocking *cases;
    size_t n;
} groups[] = {
    GROUP(transfers),
    GROUP(sockets),
    GROUP(waits),
    GROUP(locks),
    GROUP(files),
    GROUP(names),
    { streams_cases, sizeof streams_cases / sizeof *streams_cases },
};

/* Calls f(case, name) for each name of each case until f returns nonzero, and returns that case;
 * NULL if f never does. */
static const struct blocking *
each_name(int (*f)(const struct blocking *, const char *, const char *), const char *arg)
{
    for (size_t g = 0; g < sizeof groups / sizeof *groups; g++)
        for (size_t i = 0; i < groups[g].n; i++) {
            const struct blocking *one = &groups[g].cases[i];
            char names[512], *rest = names;
            snprintf(names, sizeof names, "%s", one->names);
            for (char *name; (name = strsep(&rest, " "));)
                if (f(one, name, arg))
                    return one;
        }
    return NULL;
}

static int print_name(const struct blocking *one, const char *name, const char *unused)
{
    (void)one, (void)unused;
    return puts(name) == EOF;
}

static int is_named(const struct blocking *one, const char *name, const char *wanted)
{
    return one && strcmp(name, wanted) == 0;
}

static const struct blocking *chosen;
static atomic_uint entered, returned;

static void *call(void *arg)
{
    unsigned number = *(unsigned *)arg;
    atomic_fetch_add(&entered, 1);
    chosen->call(number);
    atomic_fetch_add(&returned, 1);
    return arg;
}

static void *all(void *arg)
{
    if (chosen->setup)
        chosen->setup();
    if (chosen->holds[0])
        hold_begin(chosen->holds, chosen->is_learned && !task_options.threads);
    static unsigned numbers[TASKS];
    for (unsigned i = 0; i < TASKS; i++) {
        numbers[i] = i;
        tasks[i] = task_spawn(call, &numbers[i]);
    }
    while (atomic_load(&entered) < TASKS)
        task_yield();
    unsigned early = atomic_load(&returned);
    int must_wait = task_options.threads || chosen->ends_by_itself;
    if (task_options.threads)
        /* Gives calls that do not block the time to return. */
        usleep(50000);
    if (must_wait && (early = atomic_load(&returned)) > 0)
        wrong("%u calls returned before they were let go", early);
    while (atomic_load(&returned) < TASKS) {
        if (chosen->release)
            chosen->release();
        hold_release();
        task_yield();
    }
    for (unsigned i = 0; i < TASKS; i++)
        task_join(tasks[i]);
    printf("all of %d entered before one was let go\n", TASKS);
    return arg;
}

int main(int argc, char **argv)
{
    static const struct option options[] = {
        TASK_LONG, { "list", no_argument, NULL, 'l' }, { "direct", no_argument, NULL, 'd' }, { 0 }
    };
    int option, direct = 0;
    while ((option = getopt_long(argc, argv, TASK_SHORT, options, NULL)) != -1)
        if (option == 'l')
            return each_name(print_name, ""), 0;
        else if (option == 'd')
            direct = 1;
        else
            task_option(option, TASK_HELP);
    if (optind + 1 != argc)
        wrong("the name of a symbol is wanted; --list shows them");
    chosen = each_name(is_named, argv[optind]);
    if (!chosen)
        wrong("%s: no such symbol; --list shows them", argv[optind]);
    named = dlsym(RTLD_DEFAULT, argv[optind]);
    symbol = direct ? NULL : named;
    if (!named) {
        fprintf(stderr, "%s: not in this libc\n", argv[optind]);
        return 77;
    }
    signal(SIGPIPE, SIG_IGN);
    task_run(all, NULL);
    return 0;
}
