/* SPDX-License-Identifier: MIT */
/* lines.c - tasks write lines to one stream with every kind of call, into a small pipe with a slow
 * reader: no byte is lost, the output of each call stays together, and the lines of each task
 * arrive in order. */
#define _GNU_SOURCE
#include "probe.h"

#include <locale.h>
#include <wchar.h>

enum { TASKS = 8, LINES = 2500, LONGEST = 128 };

struct writer {
    int id;
    int wide;
};

static FILE *stream;
static int ends[2];

/* The same line for the writer and for the reader. */
static int line_of(char *line, int id, int i)
{
    uint64_t random = (uint64_t)(id * LINES + i) * 2 + 1;
    next_random(&random);
    int length = (int)(random >> 40) % 40;
    char pad[64];
    memset(pad, 'a' + id, (size_t)length);
    pad[length] = 0;
    return snprintf(line, LONGEST, "<%d %d %s>\n", id, i, pad);
}

static void put_bytes(const char *line, int n, int way)
{
    switch (way) {
    case 0: fprintf(stream, "%.*s%s", n / 2, line, line + n / 2); break;
    case 1: fputs(line, stream); break;
    case 2: fwrite(line, 1, (size_t)n, stream); break;
    case 3: fprintf(stream, "%s", line), fflush(stream); break;
    case 4:
        flockfile(stream);
        for (const char *at = line; *at; at++) {
            putc_unlocked(*at, stream);
            if (*at == ' ')
                usleep(0);
        }
        funlockfile(stream);
        break;
    case 5:
        flockfile(stream);
        fputs("..", stream);
        if (ftrylockfile(stream))
            wrong("not locked twice");
        fprintf(stream, "%s", line);
        funlockfile(stream);
        funlockfile(stream);
        break;
    /* Without a lock, other output may come between characters that are written by separate calls,
     * so these are only dots. */
    case 6: fputc('.', stream), putc('.', stream), fputs(line, stream); break;
    default:
        fprintf(stream, "<%d %d %s", atoi(line + 1), atoi(strchr(line, ' ')),
                strrchr(line, ' ') + 1);
        break;
    }
}

static void put_wide(const char *line, int way)
{
    wchar_t wide[LONGEST];
    mbstowcs(wide, line, LONGEST);
    switch (way % 3) {
    case 0: fwprintf(stream, L"%ls", wide); break;
    case 1: fputws(wide, stream); break;
    default:
        flockfile(stream);
        for (const wchar_t *at = wide; *at; at++)
            putwc(*at, stream);
        funlockfile(stream);
    }
    if (way == 7)
        fflush(stream);
}

static void *write_lines(void *arg)
{
    const struct writer *writer = arg;
    uint64_t random = (uint64_t)writer->id + 1;
    for (int i = 0; i < LINES; i++) {
        char line[LONGEST];
        int n = line_of(line, writer->id, i);
        int way = (int)(next_random(&random) >> 33) % 8;
        if (next_random(&random) % 4 == 0)
            task_yield();
        if (writer->wide)
            put_wide(line, way);
        else
            put_bytes(line, n, way);
    }
    return arg;
}

static void *read_lines(void *arg)
{
    static char data[4 << 20];
    size_t size = 0;
    uint64_t random = 99;
    for (;;) {
        /* The reader reads small amounts at intervals. */
        task_yield();
        ssize_t n = read(ends[0], data + size, 1 + (size_t)(next_random(&random) >> 40) % 1500);
        if (n < 0)
            die("read");
        if (n == 0)
            break;
        size += (size_t)n;
        if (size == sizeof data)
            wrong("more than was written");
    }
    int next[TASKS] = { 0 }, torn = 0, lines = 0;
    for (char *at = data, *end; (end = memchr(at, '\n', size - (size_t)(at - data)));
         at = end + 1) {
        char wanted[LONGEST];
        int id;
        while (*at == '.')
            at++;
        if (sscanf(at, "<%d ", &id) != 1 || id < 0 || id >= TASKS) {
            torn++;
            continue;
        }
        int n = line_of(wanted, id, next[id]);
        if (end + 1 - at == n && !memcmp(at, wanted, (size_t)n))
            next[id]++, lines++;
        else
            torn++;
    }
    printf("lines: %d, torn or lost: %d\n", lines, torn + TASKS * LINES - lines);
    return arg;
}

static void write_all(const char *what, int buffering, size_t size, int wide)
{
    struct writer writers[TASKS];
    if (pipe2(ends, O_CLOEXEC) || fcntl(ends[1], F_SETPIPE_SZ, 4096) < 0)
        die("pipe2");
    stream = fdopen(ends[1], "w");
    if (!stream || setvbuf(stream, NULL, buffering, size))
        die("fdopen");
    task_t reader = task_spawn(read_lines, NULL);
    for (int i = 0; i < TASKS; i++)
        writers[i] = (struct writer){ i, wide };
    printf("%s\n", what);
    task_each(write_lines, writers, sizeof *writers, TASKS);
    SHOW(fclose(stream));
    task_join(reader);
    close(ends[0]);
}

static void probe(void)
{
    if (!setlocale(LC_ALL, "C.UTF-8"))
        die("setlocale");
    write_all("fully buffered", _IOFBF, 300, 0);
    write_all("with a buffer as large as ever", _IOFBF, BUFSIZ, 0);
    write_all("by lines", _IOLBF, 200, 0);
    write_all("not buffered", _IONBF, 0, 0);
    write_all("wide characters", _IOFBF, 300, 1);
    write_all("wide characters by lines", _IOLBF, 200, 1);
}
