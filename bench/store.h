/* SPDX-License-Identifier: MIT */
/* store.h - the table of a key-value server. Keys and values are any bytes. Each bucket has its own
 * lock. */
#ifndef STORE_H
#define STORE_H

#include "tasks.h"

enum { BUCKETS = 4096, MAX_KEY = 250, MAX_VALUE = 8192, MAX_DIGITS = 24 };

/* Some bytes of a request. */
struct word {
    const char *at;
    size_t length;
};

struct entry {
    struct entry *next;
    char key[MAX_KEY];
    size_t key_length;
    size_t size;
    char *value;
};

static struct bucket {
    _Alignas(64) task_mutex_t mutex;
    struct entry *first;
} buckets[BUCKETS];

static inline void store_init(void)
{
    for (unsigned i = 0; i < BUCKETS; i++)
        buckets[i].mutex = (task_mutex_t)TASK_MUTEX_INIT;
}

static inline struct bucket *bucket_of(struct word key)
{
    uint64_t hash = UINT64_C(14695981039346656037);
    for (size_t i = 0; i < key.length; i++)
        hash = (hash ^ (unsigned char)key.at[i]) * UINT64_C(1099511628211);
    return &buckets[(hash >> 32) % BUCKETS];
}

/* Returns the link to the entry of the key, or the link where it belongs. Must be called with the
 * lock held. */
static inline struct entry **find(struct bucket *bucket, struct word key)
{
    struct entry **link = &bucket->first;
    while (*link && ((*link)->key_length != key.length || memcmp((*link)->key, key.at, key.length)))
        link = &(*link)->next;
    return link;
}

/* Makes `copy`, which the table then owns, the value of the key. Returns the old value or NULL.
 * Must be called with the lock held. */
static inline char *replace(struct bucket *bucket, struct word key, char *copy, size_t size)
{
    struct entry **link = find(bucket, key);
    if (!*link) {
        *link = calloc(1, sizeof **link);
        if (!*link)
            die(ENOMEM, "an entry");
        memcpy((*link)->key, key.at, key.length);
        (*link)->key_length = key.length;
    }
    char *old = (*link)->value;
    (*link)->value = copy;
    (*link)->size = size;
    return old;
}

static inline void store_set(struct word key, struct word value)
{
    struct bucket *bucket = bucket_of(key);
    char *copy = malloc(value.length ? value.length : 1);
    if (!copy)
        die(ENOMEM, "a value of %zu bytes", value.length);
    memcpy(copy, value.at, value.length);
    task_lock(&bucket->mutex);
    char *old = replace(bucket, key, copy, value.length);
    task_unlock(&bucket->mutex);
    free(old);
}

/* Copies the value to `to`, which has room for MAX_VALUE bytes. Returns its size, or -1 if the key
 * does not exist. */
static inline ssize_t store_get(struct word key, char *to)
{
    struct bucket *bucket = bucket_of(key);
    ssize_t size = -1;
    task_lock(&bucket->mutex);
    const struct entry *entry = *find(bucket, key);
    if (entry) {
        size = (ssize_t)entry->size;
        memcpy(to, entry->value, entry->size);
    }
    task_unlock(&bucket->mutex);
    return size;
}

/* Adds one to the number that is the value of the key; a key that does not exist counts as zero.
 * Returns 0 if the value is not a number. */
static inline int store_increment(struct word key, long long *number)
{
    struct bucket *bucket = bucket_of(key);
    char *copy = malloc(MAX_DIGITS), *old = copy;
    if (!copy)
        die(ENOMEM, "a number");
    task_lock(&bucket->mutex);
    const struct entry *entry = *find(bucket, key);
    int valid = !entry || (entry->size > 0 && entry->size < MAX_DIGITS);
    *number = 0;
    if (valid && entry) {
        char *end;
        memcpy(copy, entry->value, entry->size);
        copy[entry->size] = 0;
        errno = 0;
        *number = strtoll(copy, &end, 10);
        valid = end == copy + entry->size && !errno && *number < INT64_MAX;
    }
    if (valid)
        old = replace(bucket, key, copy, (size_t)sprintf(copy, "%lld", ++*number));
    task_unlock(&bucket->mutex);
    free(old);
    return valid;
}

/* Returns whether the key existed. */
static inline int store_delete(struct word key)
{
    struct bucket *bucket = bucket_of(key);
    task_lock(&bucket->mutex);
    struct entry **link = find(bucket, key), *entry = *link;
    if (entry)
        *link = entry->next;
    task_unlock(&bucket->mutex);
    if (!entry)
        return 0;
    free(entry->value);
    free(entry);
    return 1;
}

#endif
