/* SPDX-License-Identifier: MIT */
/* parked.c - things that other tasks can do while a task waits inside a stream: run, read the same
 * stream, flush all streams, fork, try its lock, close another stream. */
#define _GNU_SOURCE
#include "probe.h"

#include <stdio_ext.h>
#include <sys/ioctl.h>
#include <sys/wait.h>

enum { READERS = 8, ROWS = 4000 };

static FILE *shared;
static int ends[2];

static void *get_line(void *arg)
{
    char *line = NULL;
    size_t size = 0;
    ssize_t n = getline(&line, &size, arg);
    printf("got %zd: %s", n, line);
    free(line);
    return NULL;
}

/* A task that waits inside a stream after it has received half a line. */
static task_t start_reader(FILE **in)
{
    int left;
    if (pipe2(ends, O_CLOEXEC))
        die("pipe2");
    *in = fdopen(ends[0], "r");
    write_full(ends[1], "half ", 5);
    task_t reader = task_spawn(get_line, *in);
    do {
        task_yield();
        if (ioctl(ends[0], FIONREAD, &left))
            die("ioctl");
    } while (left);
    return reader;
}

/* The reader of half a line waits for the rest while this task runs. */
static void others_run(void)
{
    FILE *in;
    task_t reader = start_reader(&in);
    printf("going on\n");
    write_full(ends[1], "and half\n", 9);
    task_join(reader);
    SHOW(fclose(in));
    close(ends[1]);
}

static unsigned char seen[ROWS];
static int bad_rows;
static task_mutex_t rows_mutex;

static int row(char *line, int i) { return sprintf(line, "row %d %0*d\n", i, i % 50 + 1, i); }

static void *read_rows(void *arg)
{
    int way = *(int *)arg;
    char *line = NULL, buffer[200], wanted[200];
    size_t size = 0;
    for (;;) {
        if (way % 2 ? !fgets(buffer, sizeof buffer, shared) : getline(&line, &size, shared) <= 0)
            break;
        const char *got = way % 2 ? buffer : line;
        int i = atoi(got + 4);
        task_lock(&rows_mutex);
        if (i < 0 || i >= ROWS || (row(wanted, i), strcmp(got, wanted)) || seen[i])
            bad_rows++;
        else
            seen[i] = 1;
        task_unlock(&rows_mutex);
    }
    free(line);
    return arg;
}

static void *write_rows(void *arg)
{
    char line[200];
    for (int i = 0; i < ROWS; i++) {
        int n = row(line, i), half = i % n;
        write_full(ends[1], line, (size_t)half);
        if (i % 3 == 0)
            task_yield();
        write_full(ends[1], line + half, (size_t)(n - half));
    }
    close(ends[1]);
    return arg;
}

/* Each line is delivered complete to one reader. */
static void rows_of_one(int buffering)
{
    int ways[READERS], missing = 0;
    memset(seen, 0, sizeof seen);
    if (pipe2(ends, O_CLOEXEC) || fcntl(ends[1], F_SETPIPE_SZ, 4096) < 0)
        die("pipe2");
    shared = fdopen(ends[0], "r");
    if (setvbuf(shared, NULL, buffering, buffering == _IOFBF ? 100 : 0))
        die("setvbuf");
    task_t writer = task_spawn(write_rows, NULL);
    for (int i = 0; i < READERS; i++)
        ways[i] = i;
    task_each(read_rows, ways, sizeof *ways, READERS);
    task_join(writer);
    for (int i = 0; i < ROWS; i++)
        missing += !seen[i];
    printf("rows: %d bad, %d missing\n", bad_rows, missing);
    SHOW(fclose(shared));
}

static void *read_own(void *arg)
{
    FILE *in = arg;
    int sum = 0, number;
    while (fscanf(in, "%d", &number) == 1)
        sum += number;
    fclose(in);
    return (void *)(intptr_t)sum;
}

/* Many streams, in each of which a different task waits. */
static void own_streams(void)
{
    enum { MANY = 100 };
    task_t tasks[MANY];
    FILE *out[MANY];
    long sum = 0;
    for (int i = 0; i < MANY; i++) {
        if (pipe2(ends, O_CLOEXEC))
            die("pipe2");
        out[i] = fdopen(ends[1], "w");
        tasks[i] = task_spawn(read_own, fdopen(ends[0], "r"));
    }
    for (int n = 0; n < 10; n++) {
        for (int i = 0; i < MANY; i++) {
            fprintf(out[i], "%d\n", i * n);
            if (n % 2)
                fflush(out[i]);
        }
        task_yield();
    }
    for (int i = 0; i < MANY; i++) {
        fclose(out[i]);
        sum += (intptr_t)task_join(tasks[i]);
    }
    printf("sum %ld\n", sum);
}

static volatile int has_lock;

static void *lock_and_read(void *arg)
{
    char byte;
    flockfile(shared);
    fputs("<", shared);
    has_lock = 1;
    if (read(*(int *)arg, &byte, 1) != 1)
        die("read");
    fputs(">", shared);
    has_lock = 0;
    funlockfile(shared);
    return arg;
}

static void *put_word(void *arg)
{
    switch (*(int *)arg) {
    case 0: fputs("word", shared); break;
    case 1: putc('c', shared); break;
    case 2: fprintf(shared, "%d", 2); break;
    default:
        flockfile(shared);
        fputs("lo", shared);
        fputs("ck", shared);
        funlockfile(shared);
    }
    return arg;
}

/* A lock is held across a call that waits: no other task's output comes in between. */
static void locks(void)
{
    static int numbers[] = { 0, 1, 2, 3 };
    char *text = NULL;
    if (pipe2(ends, O_CLOEXEC))
        die("pipe2");
    shared = fopen("locked", "w+");
    setvbuf(shared, NULL, _IOFBF, 4096);
    task_t holder = task_spawn(lock_and_read, &ends[0]);
    while (!has_lock)
        task_yield();
    SHOW(ftrylockfile(shared) != 0);
    task_t others[4];
    for (int i = 0; i < 4; i++)
        others[i] = task_spawn(put_word, &numbers[i]);
    for (int i = 0; i < 20; i++)
        task_yield();
    write_full(ends[1], "x", 1);
    task_join(holder);
    for (int i = 0; i < 4; i++)
        task_join(others[i]);
    rewind(shared);
    size_t size = 0;
    ssize_t n = getline(&text, &size, shared);
    printf("%zd: %.2s, word %d, c %d, 2 %d, lock %d\n", n, text, !!strstr(text, "word"),
           !!strchr(text + 2, 'c'), !!strchr(text, '2'), !!strstr(text, "lock"));
    free(text);
    SHOW(ftrylockfile(shared));
    SHOW(fclose(shared));
    close(ends[0]);
    close(ends[1]);
}

/* All streams are flushed while a task waits in one of them. */
static void flushing(void)
{
    FILE *in, *one = fopen("one", "w"), *two = fopen("two", "w");
    task_t reader = start_reader(&in);
    fputs("one", one);
    fputs("two", two);
    /* With threads, libc's fflush(NULL) would wait for the reader, because it locks each stream. */
    printf("flushed: %d\n", task_options.threads ? fflush(one) | fflush(two) : fflush(NULL));
    show_file("one");
    show_file("two");
    fputs(" more", one);
    SHOW(fclose(two));
    write_full(ends[1], "line\n", 5);
    task_join(reader);
    SHOW(fclose(one));
    show_file("one");
    FILE *full = fopen("/dev/full", "w");
    fputs("x", full);
    SHOW(fflush(NULL));
    SHOW(fclose(full));
    SHOW(fclose(in));
    close(ends[1]);
}

/* A child inherits the stream in which a task of its parent waits, and can use it. */
static void forking(void)
{
    task_t reader = start_reader(&shared);
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        FILE *out = fopen("child", "w");
        fputs("from the child\n", out);
        if (task_options.threads)
            /* With threads, the child must not use the lock, which another thread may have held. */
            __fsetlocking(shared, FSETLOCKING_BYCALLER);
        fprintf(out, "%d\n", fileno(shared));
        fclose(out);
        _exit(fflush(NULL) ? 1 : 7);
    }
    int status;
    if (waitpid(child, &status, 0) != child)
        die("waitpid");
    printf("child: %d\n", WEXITSTATUS(status));
    write_full(ends[1], "parent's\n", 9);
    task_join(reader);
    SHOW(fclose(shared));
    close(ends[1]);
}

static void *close_shared(void *arg)
{
    *(int *)arg = fclose(shared);
    return arg;
}

/* A stream is closed once no task is inside it. */
static void closing(void)
{
    int result = -5;
    task_t reader = start_reader(&shared);
    task_t closer = task_spawn(close_shared, &result);
    for (int i = 0; i < 20; i++)
        task_yield();
    write_full(ends[1], "the last\n", 9);
    task_join(reader);
    task_join(closer);
    printf("closed: %d\n", result);
    close(ends[1]);
}

static void *get_word(void *arg)
{
    char word[20];
    if (scanf("%19s", word) == 1)
        printf("word %s\n", word);
    return arg;
}

/* A read from a terminal, or from an unbuffered stream, first flushes an incomplete line in stdout.
 */
static void prompting(void)
{
    int out[2], in[2], kept_in = dup(0), kept_out = dup(1);
    char text[100];
    if (pipe2(out, O_CLOEXEC) || pipe2(in, O_CLOEXEC))
        die("pipe2");
    fflush(stdout);
    if (dup2(out[1], 1) < 0 || dup2(in[0], 0) < 0 || setvbuf(stdin, NULL, _IONBF, 0))
        die("dup2");
    printf("prompt> ");
    task_t asker = task_spawn(get_word, NULL);
    ssize_t n = read(out[0], text, sizeof text);
    write_full(in[1], "answer\n", 7);
    task_join(asker);
    fflush(stdout);
    if (dup2(kept_out, 1) < 0 || dup2(kept_in, 0) < 0)
        die("dup2");
    printf("%.*s\n", (int)n, text);
    n = read(out[0], text, sizeof text);
    printf("%.*s", (int)n, text);
    close(kept_in);
    close(kept_out);
    close(out[0]);
    close(out[1]);
    close(in[0]);
    close(in[1]);
}

static void probe(void)
{
    task_mutex_init(&rows_mutex);
    others_run();
    rows_of_one(_IOFBF);
    rows_of_one(_IONBF);
    own_streams();
    locks();
    flushing();
    forking();
    closing();
    prompting();
}
