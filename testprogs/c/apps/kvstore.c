/* SPDX-License-Identifier: MIT */
/* kvstore.c - a small key-value store in one file: many tasks put, get and delete keys, and check
 * the values they get. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <inttypes.h>

#include "task.h"

static const char help[] =
    "kvstore [options] FILE\n"
    "  -r N        operations per task (default 100)\n"
    "  -k N        keys per task (default 16)\n"
    "  --sync N    fdatasync after every N puts of a task (default 16; 0: never)\n" TASK_HELP;

static unsigned long operations = 100, keys = 16, sync_every = 16;
static int fd;

/* The file is an array of buckets of one page each. A key lives in the bucket of its hash. A bucket
 * is changed under the lock of its stripe, which is held across the read and the write. */
enum { ENTRY_SIZE = 64, BUCKET_SIZE = 4096, ENTRIES = BUCKET_SIZE / ENTRY_SIZE, STRIPES = 16 };

struct entry {
    uint64_t key; /* 0: free */
    uint64_t version;
    char value[ENTRY_SIZE - 16];
};

static uint64_t buckets;
static task_mutex_t stripes[STRIPES];

static void fill(struct entry *entry, uint64_t key, uint64_t version)
{
    uint64_t random = key * 1000003 + version + 1;
    entry->key = key;
    entry->version = version;
    for (size_t i = 0; i < sizeof entry->value; i++)
        entry->value[i] = (char)next_random(&random);
}

static void load(uint64_t bucket, struct entry *page)
{
    ssize_t n = pread(fd, page, BUCKET_SIZE, (off_t)(bucket * BUCKET_SIZE));
    if (n < 0)
        die("pread");
    if (n != BUCKET_SIZE)
        wrong("bucket %" PRIu64 ": %zd bytes", bucket, n);
}

static void store(uint64_t bucket, const struct entry *entry, ptrdiff_t at)
{
    ssize_t n =
        pwrite(fd, entry, sizeof *entry, (off_t)(bucket * BUCKET_SIZE + (uint64_t)at * ENTRY_SIZE));
    if (n < 0)
        die("pwrite");
    if (n != ENTRY_SIZE)
        wrong("bucket %" PRIu64 ": %zd bytes written", bucket, n);
}

static struct entry *find(struct entry *page, uint64_t key)
{
    for (int i = 0; i < ENTRIES; i++)
        if (page[i].key == key)
            return &page[i];
    return NULL;
}

/* Sets key to version, or deletes it when version is 0. */
static void put(uint64_t key, uint64_t version, struct entry *page)
{
    uint64_t bucket = hash(HASH_START, &key, sizeof key) % buckets;
    task_mutex_t *stripe = &stripes[bucket % STRIPES];
    task_lock(stripe);
    load(bucket, page);
    struct entry *entry = find(page, key);
    if (!entry)
        entry = find(page, 0);
    if (!entry)
        wrong("bucket %" PRIu64 " is full", bucket);
    if (version)
        fill(entry, key, version);
    else
        memset(entry, 0, sizeof *entry);
    store(bucket, entry, entry - page);
    task_unlock(stripe);
}

/* The version of key, or 0 if it does not exist. */
static uint64_t get(uint64_t key, struct entry *page)
{
    uint64_t bucket = hash(HASH_START, &key, sizeof key) % buckets;
    task_mutex_t *stripe = &stripes[bucket % STRIPES];
    task_lock(stripe);
    load(bucket, page);
    task_unlock(stripe);
    struct entry *entry = find(page, key), expected;
    if (!entry)
        return 0;
    fill(&expected, key, entry->version);
    if (memcmp(entry, &expected, sizeof expected))
        wrong("key %" PRIu64 ": torn", key);
    return entry->version;
}

struct client {
    unsigned id;
    uint64_t sum;
};

/* Clients do not share keys, so each client knows which values to expect. */
static void *work(void *arg)
{
    struct client *client = arg;
    struct entry *page = allocate_aligned(BUCKET_SIZE);
    uint64_t *version = allocate(keys * sizeof *version), random = client->id + 1, puts = 0;
    for (uint64_t i = 1; i <= operations; i++) {
        uint64_t k = next_random(&random) % keys, key = client->id * keys + k + 1,
                 what = next_random(&random) % 8;
        if (what < 4) {
            if (get(key, page) != version[k])
                wrong("key %" PRIu64 ": not what was put", key);
        } else {
            version[k] = what == 7 ? 0 : i;
            put(key, version[k], page);
            if (sync_every && ++puts % sync_every == 0 && fdatasync(fd))
                die("fdatasync");
        }
    }
    for (uint64_t k = 0; k < keys; k++) {
        uint64_t key = client->id * keys + k + 1, found = get(key, page);
        if (found != version[k])
            wrong("key %" PRIu64 ": not what was put", key);
        client->sum += hash(hash(HASH_START, &key, sizeof key), &found, sizeof found);
    }
    free(version);
    free(page);
    return NULL;
}

static void *run(void *arg)
{
    struct client *clients = allocate(task_options.tasks * sizeof *clients);
    for (int i = 0; i < STRIPES; i++)
        task_mutex_init(&stripes[i]);
    for (unsigned i = 0; i < task_options.tasks; i++)
        clients[i].id = i;
    task_each(work, clients, sizeof *clients, task_options.tasks);
    for (unsigned i = 0; i < task_options.tasks; i++)
        *(uint64_t *)arg += clients[i].sum;
    free(clients);
    return NULL;
}

int main(int argc, char **argv)
{
    static const struct option options[] = { { "sync", required_argument, NULL, 'S' },
                                             TASK_LONG,
                                             { 0 } };
    int option;
    while ((option = getopt_long(argc, argv, "r:k:" TASK_SHORT, options, NULL)) != -1) {
        switch (option) {
        case 'r': operations = number(optarg); break;
        case 'k': keys = number(optarg); break;
        case 'S': sync_every = number(optarg); break;
        default: task_option(option, help);
        }
    }
    if (optind + 1 != argc || keys == 0)
        task_option('?', help);
    /* Buckets are a quarter full on average; a full one would mean a bad hash. */
    buckets = (uint64_t)task_options.tasks * keys * 4 / ENTRIES + STRIPES;
    fd = open(argv[optind], O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    if (fd < 0 || ftruncate(fd, (off_t)(buckets * BUCKET_SIZE)))
        die("%s", argv[optind]);
    uint64_t sum = 0;
    task_run(run, &sum);
    if (close(fd))
        die("close");
    printf("operations %lu checksum %016" PRIx64 "\n", operations * task_options.tasks, sum);
    return 0;
}
