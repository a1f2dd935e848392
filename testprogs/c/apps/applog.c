/* SPDX-License-Identifier: MIT */
/* applog.c - many tasks append records to one log and fsync it; then the log is read back and
 * checked. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <inttypes.h>

#include "task.h"

static const char help[] = "applog [options] FILE\n"
                           "  -r N        records per task (default 20)\n"
                           "  --every N   fsync after N records (default 1; 0: never)\n"
                           "  --data      fdatasync instead\n" TASK_HELP;

static unsigned long records = 20, every = 1;
static int data_only, fd;
static task_barrier_t start;

/* On disk: the header, then size bytes that follow from task and serial. */
struct record {
    uint32_t magic, task, serial, size;
    uint64_t hash;
};

enum { MAGIC = 0x10ad10ad, MAX_BODY = 3000 };

static size_t make_record(uint32_t task, uint32_t serial, char *out)
{
    uint64_t random = ((uint64_t)task << 32) + serial + 1;
    struct record record = { MAGIC, task, serial, (uint32_t)(next_random(&random) % MAX_BODY), 0 };
    char *body = out + sizeof record;
    for (uint32_t i = 0; i < record.size; i++)
        body[i] = (char)next_random(&random);
    record.hash = hash(HASH_START + task + serial, body, record.size);
    memcpy(out, &record, sizeof record);
    return sizeof record + record.size;
}

static void *append(void *arg)
{
    uint32_t task = *(uint32_t *)arg;
    char *buf = allocate(sizeof(struct record) + MAX_BODY);
    task_barrier_wait(&start);
    for (uint32_t serial = 0; serial < records; serial++) {
        size_t size = make_record(task, serial, buf);
        ssize_t n = write(fd, buf, size);
        if (n < 0)
            die("write");
        if ((size_t)n != size)
            wrong("write: %zd bytes of %zu", n, size);
        if (every && (serial + 1) % every == 0 && (data_only ? fdatasync(fd) : fsync(fd)))
            die("fsync");
    }
    free(buf);
    return NULL;
}

/* Every record is whole, and those of one task are in order. */
static uint64_t verify(void)
{
    uint64_t sum = 0;
    struct record record;
    char *body = allocate(MAX_BODY);
    uint32_t *next = allocate(task_options.tasks * sizeof *next);
    if (lseek(fd, 0, SEEK_SET))
        die("lseek");
    size_t n;
    while ((n = read_full(fd, &record, sizeof record)) != 0) {
        if (n != sizeof record || record.magic != MAGIC || record.task >= task_options.tasks ||
            record.size >= MAX_BODY)
            wrong("a torn header before %jd", (intmax_t)lseek(fd, 0, SEEK_CUR));
        if (record.serial != next[record.task]++)
            wrong("task %u: record %u out of order", record.task, record.serial);
        if (read_full(fd, body, record.size) != record.size)
            wrong("task %u: record %u is cut", record.task, record.serial);
        if (hash(HASH_START + record.task + record.serial, body, record.size) != record.hash)
            wrong("task %u: record %u is torn", record.task, record.serial);
        sum += record.hash;
    }
    for (unsigned i = 0; i < task_options.tasks; i++)
        if (next[i] != records)
            wrong("task %u: %u records of %lu", i, next[i], records);
    free(next);
    free(body);
    return sum;
}

static void *run(void *arg)
{
    uint32_t *tasks = allocate(task_options.tasks * sizeof *tasks);
    for (unsigned i = 0; i < task_options.tasks; i++)
        tasks[i] = i;
    task_barrier_init(&start, task_options.tasks);
    task_each(append, tasks, sizeof *tasks, task_options.tasks);
    free(tasks);
    *(uint64_t *)arg = verify();
    return NULL;
}

int main(int argc, char **argv)
{
    static const struct option options[] = {
        { "every", required_argument, NULL, 'e' },
        { "data", no_argument, NULL, 'd' },
        TASK_LONG,
        { 0 },
    };
    int option;
    while ((option = getopt_long(argc, argv, "r:" TASK_SHORT, options, NULL)) != -1) {
        switch (option) {
        case 'r': records = number(optarg); break;
        case 'e': every = number(optarg); break;
        case 'd': data_only = 1; break;
        default: task_option(option, help);
        }
    }
    if (optind + 1 != argc)
        task_option('?', help);
    fd = open(argv[optind], O_RDWR | O_CREAT | O_TRUNC | O_APPEND | O_CLOEXEC, 0644);
    if (fd < 0)
        die("%s", argv[optind]);
    uint64_t sum = 0;
    task_run(run, &sum);
    if (close(fd))
        die("close");
    printf("records %lu checksum %016" PRIx64 "\n", records * task_options.tasks, sum);
    return 0;
}
