/* SPDX-License-Identifier: MIT */
/* wordcount.c - counts the lines, words and bytes of many files and hashes the words; each task
 * takes the next file. */
#define _GNU_SOURCE
#include <ctype.h>
#include <fcntl.h>
#include <inttypes.h>

#include "task.h"

static const char help[] = "wordcount [options] FILE...\n"
                           "  -b N        bytes per read (default 16384)\n" TASK_HELP;

static size_t block_size = 16384;
static char **files;
static int next_file, last_file;
static task_mutex_t mutex;

struct totals {
    uint64_t lines, words, bytes, sum;
};

static void count_file(const char *path, unsigned char *buf, struct totals *totals)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        die("%s", path);
    /* A word may continue in the next block. */
    int in_word = 0;
    uint64_t word = HASH_START;
    ssize_t n;
    while ((n = read(fd, buf, block_size)) != 0) {
        if (n < 0)
            die("read %s", path);
        totals->bytes += (uint64_t)n;
        for (ssize_t i = 0; i < n; i++) {
            totals->lines += buf[i] == '\n';
            if (!isspace(buf[i])) {
                word = hash(in_word ? word : HASH_START, &buf[i], 1);
                in_word = 1;
            } else if (in_word) {
                totals->words++;
                totals->sum += word;
                in_word = 0;
            }
        }
    }
    if (in_word) {
        totals->words++;
        totals->sum += word;
    }
    if (close(fd))
        die("close %s", path);
}

static void *count_files(void *arg)
{
    unsigned char *buf = allocate(block_size);
    for (;;) {
        task_lock(&mutex);
        const char *path = next_file < last_file ? files[next_file++] : NULL;
        task_unlock(&mutex);
        if (!path)
            break;
        count_file(path, buf, arg);
    }
    free(buf);
    return NULL;
}

static void *run(void *arg)
{
    struct totals *all = arg, *each = allocate(task_options.tasks * sizeof *each);
    task_mutex_init(&mutex);
    task_each(count_files, each, sizeof *each, task_options.tasks);
    for (unsigned i = 0; i < task_options.tasks; i++) {
        all->lines += each[i].lines;
        all->words += each[i].words;
        all->bytes += each[i].bytes;
        all->sum += each[i].sum;
    }
    free(each);
    return NULL;
}

int main(int argc, char **argv)
{
    static const struct option options[] = { TASK_LONG, { 0 } };
    int option;
    while ((option = getopt_long(argc, argv, "b:" TASK_SHORT, options, NULL)) != -1) {
        if (option == 'b')
            block_size = number(optarg);
        else
            task_option(option, help);
    }
    if (optind == argc || block_size == 0)
        task_option('?', help);
    files = argv;
    next_file = optind;
    last_file = argc;
    struct totals totals = { 0 };
    task_run(run, &totals);
    printf("lines %" PRIu64 " words %" PRIu64 " bytes %" PRIu64 " checksum %016" PRIx64 "\n",
           totals.lines, totals.words, totals.bytes, totals.sum);
    return 0;
}
