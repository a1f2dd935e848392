/* SPDX-License-Identifier: MIT */
/* fuzz.c - random programs of many tasks, on fibers or with --threads on pthreads. The same
 * invariants hold for both.
 *
 * Each case is a separate process. Its seed chooses a few scenes (fuzz/NAME.h, one each), which run
 * concurrently. A violated invariant prints one line with the seed; a case that fails prints the
 * command that repeats it. */
#define _GNU_SOURCE
#include "fuzz/case.h"

#include "fuzz/cancels.h"
#include "fuzz/ferry.h"
#include "fuzz/files.h"
#include "fuzz/forks.h"
#include "fuzz/herd.h"
#include "fuzz/locks.h"
#include "fuzz/signals.h"
#include "fuzz/sockets.h"
#include "fuzz/stream.h"
#include "fuzz/swap.h"
#include "fuzz/waits.h"
#include "fuzz/watch.h"

struct scene {
    const char *name;
    void (*lead)(struct actor *, void *);
    unsigned weight;
};

static const struct scene scenes[] = {
    { "swap", swap_scene, 4 },       { "stream", stream_scene, 5 },
    { "append", append_scene, 3 },   { "position", position_scene, 3 },
    { "model", model_scene, 2 },     { "forks", forks_scene, 3 },
    { "signals", signals_scene, 3 }, { "cancels", cancels_scene, 3 },
    { "waits", waits_scene, 2 },     { "locks", locks_scene, 2 },
    { "sockets", sockets_scene, 2 }, { "herd", herd_scene, 2 },
    { "ferry", ferry_scene, 2 },     { "lines", lines_scene, 2 },
};
enum { SCENES = sizeof scenes / sizeof scenes[0], SCENES_AT_ONCE = 4 };

static unsigned jobs = 1;
static const char *only; /* if set, cases consist of this scene */

/* ---- A case --------------------------------------------------------------------------------- */

static const struct scene *draw_scene(struct actor *self)
{
    unsigned total = 0, at;
    for (unsigned i = 0; i < SCENES; i++)
        total += scenes[i].weight;
    at = below(self, total);
    for (unsigned i = 0;; i++) {
        if (at < scenes[i].weight)
            return &scenes[i];
        at -= scenes[i].weight;
    }
}

static const struct scene *scene_called(const char *name)
{
    for (unsigned i = 0; i < SCENES; i++)
        if (!strcmp(scenes[i].name, name))
            return &scenes[i];
    wrong("%s: no such scene", name);
}

/* Chooses the scenes. After a handler, the kernel restarts calls with the same descriptor number,
 * so signals cannot be combined with swaps. A signal can have only one handler, so signals occur at
 * most once. */
static unsigned draw_scenes(struct actor *self, const struct scene **chosen)
{
    unsigned count = between(self, 1, SCENES_AT_ONCE), kept = 0;
    int swaps = 0, signals = 0, lines = 0;
    for (unsigned i = 0; i < count; i++) {
        const struct scene *scene = only ? scene_called(only) : draw_scene(self);
        int is_swap = scene->lead == swap_scene, is_signals = scene->lead == signals_scene;
        if ((is_swap && signals) || (is_signals && (swaps || signals)))
            continue;
        swaps |= is_swap;
        signals |= is_signals;
        lines |= scene->lead == lines_scene;
        chosen[kept++] = scene;
    }
    /* Handlers without SA_RESTART are not combined with stdio, which loses the data of an
     * interrupted write. */
    fuzz.interrupts = signals && !lines && chance(self, 50);
    return kept;
}

static void run_case(struct actor *self, void *unused)
{
    const struct scene *chosen[SCENES_AT_ONCE];
    struct actor *leaders[SCENES_AT_ONCE];
    (void)unused;
    unsigned count = draw_scenes(self, chosen);
    for (unsigned i = 0; i < count; i++) {
        leaders[i] = new_actor(chosen[i]->name, next_random(&self->random), chosen[i]->lead, NULL);
        leaders[i]->task = task_spawn(actor_main, leaders[i]);
    }
    for (unsigned i = 0; i < count; i++)
        finish(self, leaders[i]);
}

/* The child process of one case, in its own directory. */
__attribute__((noreturn)) static void case_process(uint64_t seed)
{
    static unsigned char known[DESCRIPTORS];
    char name[64];
    pthread_t dog;
    snprintf(name, sizeof name, "case.%" PRIu64, seed);
    if (mkdir(name, 0700) || chdir(name))
        die("%s", name);
    signal(SIGPIPE, SIG_IGN);
    fuzz.seed = seed;
    pthread_sigmask(SIG_BLOCK, NULL, &fuzz.mask);
    look_at_descriptors(NULL, known);
    check(pthread_create(&dog, NULL, watchdog, NULL), "pthread_create");
    struct actor *first = new_actor("case", seed, run_case, NULL);
    task_run(actor_main, first);
    look_at_descriptors(first, known);
    snprintf(name, sizeof name, "../case.%" PRIu64, seed);
    if (rmdir(name))
        violation(first, "files are left in the directory of the case: %s", strerror(errno));
    _exit(fuzz.violations ? EXIT_VIOLATION : EXIT_SUCCESS);
}

/* ---- All cases ------------------------------------------------------------------------------ */

/* Prints the command that repeats a case: the same program and environment, with only this seed. */
static void show_command(const char *program, uint64_t seed)
{
    static const char *const variables[] = { "LD_PRELOAD", "AIOSHIM_ENGINE" };
    fprintf(stderr, "repeat:");
    for (unsigned i = 0; i < 2; i++)
        if (getenv(variables[i]))
            fprintf(stderr, " %s=%s", variables[i], getenv(variables[i]));
    fprintf(stderr, " %s --seed %" PRIu64 " --seconds %u -w %u%s%s%s\n", program, seed,
            fuzz.seconds, task_options.workers, task_options.threads ? " --threads" : "",
            only ? " --scene " : "", only ? only : "");
}

/* If a case failed, reports how it ended and returns 1. */
static int judge(const char *program, uint64_t seed, int status)
{
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
        return 0;
    if (WIFSIGNALED(status))
        fprintf(stderr, "seed %" PRIu64 ": killed by %s\n", seed, strsignal(WTERMSIG(status)));
    else
        fprintf(stderr, "seed %" PRIu64 ": exit status %d\n", seed, WEXITSTATUS(status));
    show_command(program, seed);
    return 1;
}

static const char help[] = "fuzz: random programs of many tasks\n"
                           "  --seed N       the first seed (default 1)\n"
                           "  --count N      number of cases, one seed each (default 1)\n"
                           "  --jobs N       cases at a time (default 1)\n"
                           "  --seconds N    a case that takes longer counts as hung (default 30)\n"
                           "  --scene NAME   only cases of this scene\n" TASK_HELP;

int main(int argc, char **argv)
{
    static const struct option options[] = {
        { "seed", required_argument, NULL, 's' },  { "count", required_argument, NULL, 'c' },
        { "jobs", required_argument, NULL, 'j' },  { "seconds", required_argument, NULL, 'S' },
        { "scene", required_argument, NULL, 'o' }, { "threads", no_argument, NULL, 'T' },
        { "help", no_argument, NULL, 'h' },        { 0 }
    };
    uint64_t seed = 1, count = 1;
    unsigned failed = 0, running = 0;
    int option, status;
    fuzz.seconds = 30;
    while ((option = getopt_long(argc, argv, TASK_SHORT, options, NULL)) != -1)
        switch (option) {
        case 's': seed = number(optarg); break;
        case 'c': count = number(optarg); break;
        case 'j': jobs = (unsigned)number(optarg); break;
        case 'S': fuzz.seconds = (unsigned)number(optarg); break;
        case 'o': only = optarg; break;
        default: task_option(option, help);
        }
    struct {
        pid_t pid;
        uint64_t seed;
    } *children = allocate(jobs * sizeof *children);
    for (uint64_t next = 0; next < count || running > 0;) {
        if (next < count && running < jobs) {
            unsigned slot = 0;
            while (children[slot].pid)
                slot++;
            children[slot].seed = seed + next++;
            children[slot].pid = fork();
            if (children[slot].pid == -1)
                die("fork");
            if (children[slot].pid == 0)
                case_process(children[slot].seed);
            running++;
            continue;
        }
        pid_t pid = wait(&status);
        if (pid == -1)
            die("wait");
        for (unsigned slot = 0; slot < jobs; slot++)
            if (children[slot].pid == pid) {
                children[slot].pid = 0;
                failed += (unsigned)judge(argv[0], children[slot].seed, status);
                running--;
            }
    }
    printf("%" PRIu64 " cases, %u failed\n", count, failed);
    free(children);
    return failed > 0;
}
