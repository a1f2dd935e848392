/* SPDX-License-Identifier: MIT */
/* kv.c - a key-value server that speaks the get and set of memcached's text protocol. */
#define _GNU_SOURCE
#include "server.h"

static const char usage[] = "kv WORKERS\n"
                            "  WORKERS  OS threads that run the fibers\n"
                            "Prints a line with its port, and one with its cost when standard "
                            "input ends.\n";

enum { BUCKETS = 4096, MAX_KEY = 250, MAX_VALUE = 8192 };

struct entry {
    struct entry *next;
    char key[MAX_KEY + 1];
    size_t size;
    char *value;
};

static struct bucket {
    _Alignas(64) task_mutex_t mutex;
    struct entry *first;
} buckets[BUCKETS];

static struct bucket *bucket_of(const char *key)
{
    uint64_t hash = UINT64_C(14695981039346656037);
    for (; *key; key++)
        hash = (hash ^ (unsigned char)*key) * UINT64_C(1099511628211);
    return &buckets[(hash >> 32) % BUCKETS];
}

static struct entry *find(const struct bucket *bucket, const char *key)
{
    struct entry *entry = bucket->first;
    while (entry && strcmp(entry->key, key))
        entry = entry->next;
    return entry;
}

static void set(const char *key, const char *value, size_t size)
{
    struct bucket *bucket = bucket_of(key);
    char *copy = malloc(size ? size : 1);
    if (!copy)
        die(ENOMEM, "a value of %zu bytes", size);
    memcpy(copy, value, size);
    task_lock(&bucket->mutex);
    struct entry *entry = find(bucket, key);
    if (!entry) {
        entry = calloc(1, sizeof *entry);
        if (!entry)
            die(ENOMEM, "an entry");
        strcpy(entry->key, key);
        entry->next = bucket->first;
        bucket->first = entry;
    }
    char *old = entry->value;
    entry->value = copy;
    entry->size = size;
    task_unlock(&bucket->mutex);
    free(old);
}

/* Writes the answer to `out`, which has room for the largest one. Returns its length. */
static size_t get(const char *key, char *out)
{
    struct bucket *bucket = bucket_of(key);
    size_t n = 0;
    task_lock(&bucket->mutex);
    const struct entry *entry = find(bucket, key);
    if (entry) {
        n = (size_t)sprintf(out, "VALUE %s 0 %zu\r\n", key, entry->size);
        memcpy(out + n, entry->value, entry->size);
        n += entry->size;
        memcpy(out + n, "\r\n", 2);
        n += 2;
    }
    task_unlock(&bucket->mutex);
    memcpy(out + n, "END\r\n", 5);
    return n + 5;
}

/* Receives more bytes after the first `have`. Returns 0 if the peer is gone or the buffer full. */
static size_t receive(int connection, char *buffer, size_t have, size_t room)
{
    ssize_t n;
    do
        n = recv(connection, buffer + have, room - have, 0);
    while (n < 0 && errno == EINTR);
    return n > 0 ? (size_t)n : 0;
}

static void serve_commands(int connection)
{
    enum { ROOM = MAX_VALUE + 1024 };
    char *in = malloc(2 * ROOM), *out = in + ROOM, key[MAX_KEY + 1];
    size_t have = 0, size, n;
    if (!in)
        die(ENOMEM, "the buffers of a connection");
    for (;;) {
        char *end;
        while (!(end = memmem(in, have, "\r\n", 2))) {
            if (!(n = receive(connection, in, have, ROOM)))
                goto gone;
            have += n;
        }
        *end = 0;
        size_t used = (size_t)(end + 2 - in), length;
        if (sscanf(in, "get %250s", key) == 1) {
            length = get(key, out);
        } else if (sscanf(in, "set %250s %*u %*u %zu", key, &size) == 2 && size <= MAX_VALUE) {
            while (have < used + size + 2) {
                if (!(n = receive(connection, in, have, ROOM)))
                    goto gone;
                have += n;
            }
            set(key, in + used, size);
            used += size + 2;
            length = (size_t)sprintf(out, "STORED\r\n");
        } else {
            length = (size_t)sprintf(out, "ERROR\r\n");
        }
        atomic_fetch_add_explicit(&server.requests, 1, memory_order_relaxed);
        if (send_all(connection, out, length))
            goto gone;
        have -= used;
        memmove(in, in + used, have);
    }
gone:
    free(in);
}

int main(int argc, char **argv)
{
    unsigned workers = argc == 2 ? (unsigned)strtoul(argv[1], NULL, 10) : 0;
    if (!workers) {
        fputs(usage, stderr);
        return 2;
    }
    for (unsigned i = 0; i < BUCKETS; i++)
        buckets[i].mutex = (task_mutex_t)TASK_MUTEX_INIT;
    server.serve = serve_commands;
    server_run(workers);
    return 0;
}
