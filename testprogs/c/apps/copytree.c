/* SPDX-License-Identifier: MIT */
/* copytree.c - copies a directory tree: one task walks it, many tasks copy the files. Prints a
 * checksum of the copied data. */
#define _GNU_SOURCE
#include <dirent.h>
#include <fcntl.h>
#include <inttypes.h>
#include <sys/stat.h>

#include "queue.h"

static const char help[] = "copytree [options] FROM TO\n"
                           "  -b N        bytes per read (default 65536)\n"
                           "  --sync      fsync each copy\n" TASK_HELP;

static const char *from, *to;
static size_t block_size = 65536;
static int sync_files;
static struct queue queue;

struct totals {
    uint64_t files, dirs, links, bytes, sum;
};

static char *join_path(const char *dir, const char *name)
{
    char *path = NULL;
    if (asprintf(&path, "%s%s%s", dir, *dir && *name ? "/" : "", name) < 0)
        die("asprintf");
    return path;
}

/* Copies the file rel, relative to both trees. The hash covers its name and its bytes. */
static void copy_file(const char *rel, char *buf, struct totals *totals)
{
    char *source = join_path(from, rel), *target = join_path(to, rel);
    struct stat about;
    int in = open(source, O_RDONLY | O_CLOEXEC);
    if (in < 0 || fstat(in, &about))
        die("%s", source);
    int out = open(target, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, about.st_mode & 0777);
    if (out < 0)
        die("%s", target);
    uint64_t sum = hash(HASH_START, rel, strlen(rel));
    ssize_t n;
    while ((n = read(in, buf, block_size)) != 0) {
        if (n < 0)
            die("read %s", source);
        write_full(out, buf, (size_t)n);
        sum = hash(sum, buf, (size_t)n);
        totals->bytes += (uint64_t)n;
    }
    if (sync_files && fsync(out))
        die("fsync %s", target);
    if (close(in) || close(out))
        die("close %s", target);
    totals->files++;
    totals->sum += sum;
    free(source);
    free(target);
}

static void *copy_files(void *arg)
{
    char *buf = allocate(block_size), *rel;
    while ((rel = queue_take(&queue))) {
        copy_file(rel, buf, arg);
        free(rel);
    }
    free(buf);
    return NULL;
}

static void copy_link(const char *rel, struct totals *totals)
{
    char *source = join_path(from, rel), *target = join_path(to, rel), text[4096];
    ssize_t n = readlink(source, text, sizeof text - 1);
    if (n < 0)
        die("readlink %s", source);
    text[n] = '\0';
    if (symlink(text, target))
        die("symlink %s", target);
    totals->links++;
    totals->sum += hash(hash(HASH_START, rel, strlen(rel)), text, (size_t)n);
    free(source);
    free(target);
}

static void walk(const char *rel, struct totals *totals)
{
    char *source = join_path(from, rel), *target = join_path(to, rel);
    if (mkdir(target, 0755))
        die("mkdir %s", target);
    totals->dirs++;
    DIR *dir = opendir(source);
    if (!dir)
        die("opendir %s", source);
    struct dirent *entry;
    while (errno = 0, (entry = readdir(dir))) {
        struct stat about;
        if (!strcmp(entry->d_name, ".") || !strcmp(entry->d_name, ".."))
            continue;
        char *child = join_path(rel, entry->d_name);
        if (fstatat(dirfd(dir), entry->d_name, &about, AT_SYMLINK_NOFOLLOW))
            die("%s", child);
        if (S_ISREG(about.st_mode)) {
            queue_put(&queue, child);
            continue;
        }
        if (S_ISDIR(about.st_mode))
            walk(child, totals);
        else if (S_ISLNK(about.st_mode))
            copy_link(child, totals);
        free(child);
    }
    if (errno)
        die("readdir %s", source);
    closedir(dir);
    free(source);
    free(target);
}

static void *run(void *arg)
{
    struct totals *all = arg, *each = allocate(task_options.tasks * sizeof *each);
    task_t *tasks = allocate(task_options.tasks * sizeof *tasks);
    queue_init(&queue);
    for (unsigned i = 0; i < task_options.tasks; i++)
        tasks[i] = task_spawn(copy_files, &each[i]);
    walk("", all);
    queue_close(&queue);
    for (unsigned i = 0; i < task_options.tasks; i++) {
        task_join(tasks[i]);
        all->files += each[i].files;
        all->bytes += each[i].bytes;
        all->sum += each[i].sum;
    }
    free(tasks);
    free(each);
    return NULL;
}

int main(int argc, char **argv)
{
    static const struct option options[] = { { "sync", no_argument, NULL, 'S' }, TASK_LONG, { 0 } };
    int option;
    while ((option = getopt_long(argc, argv, "b:" TASK_SHORT, options, NULL)) != -1) {
        switch (option) {
        case 'b': block_size = number(optarg); break;
        case 'S': sync_files = 1; break;
        default: task_option(option, help);
        }
    }
    if (optind + 2 != argc || block_size == 0)
        task_option('?', help);
    from = argv[optind];
    to = argv[optind + 1];
    struct totals totals = { 0 };
    task_run(run, &totals);
    printf("files %" PRIu64 " dirs %" PRIu64 " links %" PRIu64 " bytes %" PRIu64
           " checksum %016" PRIx64 "\n",
           totals.files, totals.dirs, totals.links, totals.bytes, totals.sum);
    return 0;
}
