/* SPDX-License-Identifier: MIT */
/* walk.h - visits a tree of files by many tasks, in one of two styles.
 *
 *   pool  a fixed number of tasks takes directories and files from one queue
 *   each  every directory and every file is a task of its own, and a semaphore limits the files
 *         that are visited at a time */
#ifndef WALK_H
#define WALK_H

#include "tasks.h"

#include <dirent.h>

struct walk_item {
    struct walk_item *next;
    int directory;
    char path[];
};

/* Visitors get the path from the top, which begins with "./" below the top itself, ".". They are
 * called on many tasks at a time; a directory is visited before its entries. */
struct walk {
    const char *top;
    void (*file)(const char *path);
    void (*directory)(const char *path); /* may be NULL */
    int top_fd;
    task_mutex_t mutex;
    task_cond_t changed;
    struct walk_item *directories, *files;
    unsigned pending; /* items that are queued or being visited */
    task_sem_t slots;
    struct task_group group;
};

static struct walk walk = { .mutex = TASK_MUTEX_INIT,
                            .changed = TASK_COND_INIT,
                            .group = TASK_GROUP_INIT };

static inline struct walk_item *walk_item(const char *directory, const char *name, int is_directory)
{
    size_t first = strlen(directory), second = strlen(name);
    struct walk_item *item = malloc(sizeof *item + first + second + 2);
    if (!item)
        die(ENOMEM, "%s/%s", directory, name);
    memcpy(item->path, directory, first);
    item->path[first] = '/';
    memcpy(item->path + first + 1, name, second + 1);
    item->directory = is_directory;
    return item;
}

/* Calls `found` for each file and directory in a directory. */
static inline void walk_list(const char *path, void (*found)(struct walk_item *))
{
    int fd = openat(walk.top_fd, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *stream = fd < 0 ? NULL : fdopendir(fd);
    if (!stream)
        die(errno, "%s/%s", walk.top, path);
    for (const struct dirent *entry; (entry = readdir(stream));) {
        if (!strcmp(entry->d_name, ".") || !strcmp(entry->d_name, ".."))
            continue;
        if (entry->d_type == DT_DIR || entry->d_type == DT_REG)
            found(walk_item(path, entry->d_name, entry->d_type == DT_DIR));
    }
    closedir(stream);
}

static inline void walk_visit(const struct walk_item *item, void (*found)(struct walk_item *))
{
    if (!item->directory) {
        walk.file(item->path);
        return;
    }
    if (walk.directory)
        walk.directory(item->path);
    walk_list(item->path, found);
}

/* ---- pool ----------------------------------------------------------------------------------- */

static inline void walk_push(struct walk_item *item)
{
    task_lock(&walk.mutex);
    struct walk_item **queue = item->directory ? &walk.directories : &walk.files;
    item->next = *queue;
    *queue = item;
    walk.pending++;
    task_cond_signal(&walk.changed);
    task_unlock(&walk.mutex);
}

static inline void walk_member(unsigned member)
{
    (void)member;
    task_lock(&walk.mutex);
    for (;;) {
        while (!walk.directories && !walk.files && walk.pending)
            task_cond_wait(&walk.changed, &walk.mutex);
        if (!walk.pending)
            break;
        struct walk_item **queue = walk.files ? &walk.files : &walk.directories;
        struct walk_item *item = *queue;
        *queue = item->next;
        task_unlock(&walk.mutex);
        walk_visit(item, walk_push);
        free(item);
        task_lock(&walk.mutex);
        if (--walk.pending == 0)
            task_cond_broadcast(&walk.changed);
    }
    task_unlock(&walk.mutex);
}

/* ---- each ----------------------------------------------------------------------------------- */

static inline void walk_begin(struct walk_item *item);

static inline void *walk_task(void *arg)
{
    struct walk_item *item = arg;
    walk_visit(item, walk_begin);
    if (!item->directory)
        task_sem_post(&walk.slots);
    free(item);
    task_group_leave(&walk.group);
    return NULL;
}

static inline void walk_begin(struct walk_item *item)
{
    if (!item->directory)
        task_sem_wait(&walk.slots);
    task_group_enter(&walk.group);
    task_start(walk_task, item);
}

/* Returns whether `style` is one of the two. */
static inline int is_walk_style(const char *style)
{
    return !strcmp(style, "pool") || !strcmp(style, "each");
}

/* Visits the tree; the calling task waits. walk.top and the visitors are set. */
static inline void walk_tree(const char *style, unsigned jobs)
{
    struct walk_item *top = malloc(sizeof *top + 2);
    if (!top)
        die(ENOMEM, "%s", walk.top);
    top->directory = 1;
    memcpy(top->path, ".", 2);
    if (!strcmp(style, "pool")) {
        walk_push(top);
        task_crew_run(jobs, walk_member);
    } else {
        task_sem_init(&walk.slots, 0, jobs);
        walk_begin(top);
        task_group_wait(&walk.group);
    }
}

static inline void walk_open(const char *top)
{
    walk.top = top;
    walk.top_fd = open(top, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (walk.top_fd < 0)
        die(errno, "%s", top);
}

#endif
