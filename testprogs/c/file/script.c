/* SPDX-License-Identifier: MIT */
/* script.c - reads scripts of file calls from standard input, runs them, -n at a time, and prints
 * the result of each call.
 *
 * A script has one line per call, whose name is a letter, and ends with a line that contains a dot.
 * It has slots 0..7 for descriptors, files 0..2 and its own directory. */
#define _GNU_SOURCE
#include "probe.h"

enum { SLOTS = 8, FILES = 3, BUFFER = 16384 };

struct script {
    char *text, *out;
    size_t out_size;
};

static struct script *scripts;
static unsigned script_count, next_script;

struct state {
    FILE *out; /* memory */
    unsigned id;
    int fds[SLOTS];
    char *buf;
};

/* Prints the result of the last call; for reads also the content of the buffer. */
static void result(struct state *s, const char *line, long value, const void *data, size_t size)
{
    int error = errno;
    fprintf(s->out, "%s = %ld", line, value);
    if (value == -1)
        fprintf(s->out, " %s", strerror(error));
    else if (error != ERRNO_UNTOUCHED)
        fprintf(s->out, " errno changed");
    if (data)
        fprintf(s->out, " %016" PRIx64, hash(HASH_START, data, size));
    fputc('\n', s->out);
}

static void path_of(const struct state *s, long file, char *path, size_t size)
{
    snprintf(path, size, "s%u/f%ld", s->id, file % FILES);
}

/* Splits the buffer into three consecutive parts. */
static int split(struct state *s, struct iovec *parts, const long *lengths)
{
    char *at = s->buf;
    for (int i = 0; i < 3; i++) {
        parts[i] = (struct iovec){ at, (size_t)lengths[i] };
        at += lengths[i];
    }
    return 3;
}

static void close_slot(struct state *s, long slot)
{
    if (s->fds[slot] >= 0 && close(s->fds[slot]))
        die("close");
    s->fds[slot] = -1;
}

/* Descriptors differ from run to run, so each is shown as 0. */
static long any(int fd) { return fd < 0 ? -1 : 0; }

static void run_line(struct state *s, const char *line)
{
    char call, path[64];
    long a[4] = { 0 }, value;
    struct iovec parts[3];
    if (sscanf(line, "%c %ld %ld %ld %ld", &call, &a[0], &a[1], &a[2], &a[3]) < 2 || a[0] < 0 ||
        a[0] >= SLOTS)
        wrong("not a call: %s", line);
    int *slot = &s->fds[a[0]], fd = *slot;
    memset(s->buf, 0x55, BUFFER);
    errno = ERRNO_UNTOUCHED;
    switch (call) {
    case 'r':
        value = read(fd, s->buf, (size_t)a[1]);
        result(s, line, value, s->buf, BUFFER);
        break;
    case 'R':
        value = pread(fd, s->buf, (size_t)a[1], a[2]);
        result(s, line, value, s->buf, BUFFER);
        break;
    case 'v':
        value = readv(fd, parts, split(s, parts, a + 1));
        result(s, line, value, s->buf, BUFFER);
        break;
    case 'w':
        pattern(s->buf, (size_t)a[1], (uint64_t)a[2]);
        errno = ERRNO_UNTOUCHED;
        result(s, line, write(fd, s->buf, (size_t)a[1]), NULL, 0);
        break;
    case 'W':
        pattern(s->buf, (size_t)a[1], (uint64_t)a[2]);
        errno = ERRNO_UNTOUCHED;
        result(s, line, pwrite(fd, s->buf, (size_t)a[1], a[2]), NULL, 0);
        break;
    case 'V':
        pattern(s->buf, BUFFER, (uint64_t)a[1]);
        errno = ERRNO_UNTOUCHED;
        result(s, line, writev(fd, parts, split(s, parts, a + 1)), NULL, 0);
        break;
    case 'l': result(s, line, lseek(fd, a[1], (int)a[2]), NULL, 0); break;
    case 't': result(s, line, ftruncate(fd, a[1]), NULL, 0); break;
    case 'f': result(s, line, a[1] ? fdatasync(fd) : fsync(fd), NULL, 0); break;
    case 'a': result(s, line, fcntl(fd, F_SETFL, (int)a[1]), NULL, 0); break;
    case 'c':
        result(s, line, close(fd), NULL, 0);
        *slot = -1;
        break;
    case 'o':
        close_slot(s, a[0]);
        path_of(s, a[1], path, sizeof path);
        errno = ERRNO_UNTOUCHED;
        *slot = open(path, (int)a[2] | O_CLOEXEC, 0644);
        result(s, line, any(*slot), NULL, 0);
        break;
    case 'd':
        close_slot(s, a[1] % SLOTS);
        errno = ERRNO_UNTOUCHED;
        fd = *slot;
        s->fds[a[1] % SLOTS] = dup(fd);
        result(s, line, any(s->fds[a[1] % SLOTS]), NULL, 0);
        break;
    case 'D':
        /* Only replaces a descriptor of this script, because other scripts run at the same time. */
        if (s->fds[a[1] % SLOTS] >= 0)
            result(s, line, any(dup2(fd, s->fds[a[1] % SLOTS])), NULL, 0);
        break;
    default: wrong("not a call: %s", line);
    }
}

/* Prints the files that the script left, and removes them. */
static void finish(struct state *s)
{
    char path[64];
    for (long i = 0; i < SLOTS; i++)
        close_slot(s, i);
    for (long i = 0; i < FILES; i++) {
        struct stat about;
        path_of(s, i, path, sizeof path);
        int fd = open(path, O_RDONLY | O_CLOEXEC);
        if (fd < 0)
            continue;
        if (fstat(fd, &about))
            die("%s", path);
        char *data = allocate((size_t)about.st_size);
        size_t n = read_full(fd, data, (size_t)about.st_size);
        fprintf(s->out, "file %ld: %zu bytes %016" PRIx64 "\n", i, n, hash(HASH_START, data, n));
        free(data);
        if (close(fd) || unlink(path))
            die("%s", path);
    }
    snprintf(path, sizeof path, "s%u", s->id);
    if (rmdir(path))
        die("%s", path);
}

static void *run_scripts(void *arg)
{
    (void)arg;
    for (;;) {
        char path[64], *save = NULL;
        struct state s = { .id = __atomic_fetch_add(&next_script, 1, __ATOMIC_RELAXED) };
        if (s.id >= script_count)
            return NULL;
        struct script *script = &scripts[s.id];
        memset(s.fds, -1, sizeof s.fds);
        s.buf = allocate_aligned(BUFFER);
        s.out = open_memstream(&script->out, &script->out_size);
        snprintf(path, sizeof path, "s%u", s.id);
        if (!s.out || mkdir(path, 0755))
            die("%s", path);
        for (char *line = strtok_r(script->text, "\n", &save); line;
             line = strtok_r(NULL, "\n", &save))
            run_line(&s, line);
        finish(&s);
        if (fclose(s.out))
            die("memory");
        free(s.buf);
    }
}

/* Cuts the input at the lines with a dot. */
static void load(void)
{
    size_t size = 0, room = 1 << 16, n;
    char *all = allocate(room);
    while ((n = read_full(0, all + size, room - size - 1)) > 0) {
        size += n;
        all = realloc(all, room *= 2);
        if (!all)
            die("memory");
    }
    all[size] = '\0';
    for (char *at = all, *end; (end = strstr(at, ".\n")); at = end + 2) {
        *end = '\0';
        scripts = realloc(scripts, (script_count + 1) * sizeof *scripts);
        if (!scripts)
            die("memory");
        scripts[script_count++] = (struct script){ at, NULL, 0 };
    }
}

static void probe(void)
{
    load();
    char *tasks = allocate(task_options.tasks);
    task_each(run_scripts, tasks, sizeof *tasks, task_options.tasks);
    for (unsigned i = 0; i < script_count; i++)
        printf("script %u\n%s", i, scripts[i].out);
    free(tasks);
}
