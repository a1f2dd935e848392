/* SPDX-License-Identifier: MIT */
/* pipeline.c - a chain of tasks connected by pipes: each reads numbers, changes them and passes
 * them on; the last one adds them up. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <inttypes.h>

#include "task.h"

static const char help[] = "pipeline [options]      (-n: number of stages; on fibers without the "
                           "preload it needs two more workers than stages)\n"
                           "  -r N        numbers (default 20000)\n"
                           "  -b N        numbers per read or write (default 1000)\n" TASK_HELP;

static unsigned long count = 20000, batch = 1000;

struct stage {
    int in, out; /* -1: none */
    uint64_t numbers, sum;
};

static void *produce(void *arg)
{
    struct stage *stage = arg;
    uint32_t *buf = allocate(batch * sizeof *buf);
    uint64_t random = 1;
    for (unsigned long done = 0; done < count;) {
        unsigned long n = next_random(&random) % batch + 1;
        if (n > count - done)
            n = count - done;
        for (unsigned long i = 0; i < n; i++)
            buf[i] = (uint32_t)(done + i);
        write_full(stage->out, buf, n * sizeof *buf);
        done += n;
    }
    if (close(stage->out))
        die("close");
    free(buf);
    return NULL;
}

/* A read may end inside a number; then wait for the rest. */
static size_t take(int fd, uint32_t *buf)
{
    ssize_t n = read(fd, buf, batch * sizeof *buf);
    if (n < 0)
        die("read");
    size_t rest = (sizeof *buf - (size_t)n % sizeof *buf) % sizeof *buf;
    if (rest && read_full(fd, (char *)buf + n, rest) != rest)
        wrong("half a number");
    return ((size_t)n + rest) / sizeof *buf;
}

static void *transform(void *arg)
{
    struct stage *stage = arg;
    uint32_t *buf = allocate(batch * sizeof *buf);
    size_t n;
    while ((n = take(stage->in, buf)) > 0) {
        for (size_t i = 0; i < n; i++) {
            buf[i] = buf[i] * 2654435761u + 1;
            stage->sum = hash(stage->sum + 1, &buf[i], sizeof *buf);
        }
        stage->numbers += n;
        if (stage->out >= 0)
            write_full(stage->out, buf, n * sizeof *buf);
    }
    if (close(stage->in) || (stage->out >= 0 && close(stage->out)))
        die("close");
    free(buf);
    return NULL;
}

static void *run(void *arg)
{
    unsigned n = task_options.tasks;
    struct stage source = { .in = -1, .out = -1 }, *stages = allocate(n * sizeof *stages);
    int *previous = &source.out;
    for (unsigned i = 0; i < n; i++) {
        int ends[2];
        if (pipe2(ends, O_CLOEXEC))
            die("pipe2");
        *previous = ends[1];
        stages[i].in = ends[0];
        stages[i].out = -1;
        previous = &stages[i].out;
    }
    task_t producer = task_spawn(produce, &source);
    task_each(transform, stages, sizeof *stages, n);
    task_join(producer);
    for (unsigned i = 0; i < n; i++) {
        if (stages[i].numbers != count)
            wrong("stage %u: %" PRIu64 " numbers of %lu", i, stages[i].numbers, count);
        *(uint64_t *)arg += stages[i].sum;
    }
    free(stages);
    return NULL;
}

int main(int argc, char **argv)
{
    static const struct option options[] = { TASK_LONG, { 0 } };
    int option;
    task_options.tasks = 8;
    while ((option = getopt_long(argc, argv, "r:b:" TASK_SHORT, options, NULL)) != -1) {
        switch (option) {
        case 'r': count = number(optarg); break;
        case 'b': batch = number(optarg); break;
        default: task_option(option, help);
        }
    }
    if (optind != argc || batch == 0)
        task_option('?', help);
    uint64_t sum = 0;
    task_run(run, &sum);
    printf("stages %u numbers %lu checksum %016" PRIx64 "\n", task_options.tasks, count, sum);
    return 0;
}
