/* SPDX-License-Identifier: MIT */
/* many_streams.c - many streams at once, each used by several tasks, which are parked in one of
 * them most of the time. The threads track this concurrently, and that must never let two tasks
 * into one stream. */
#define _GNU_SOURCE
#include "probe.h"

enum { STREAMS = 12, WRITERS = 3, LINES = 400 };

struct stream {
    FILE *file;
    int read_end;
    int torn;
    int next[WRITERS];
};

struct writer {
    struct stream *stream;
    int id;
};

static struct stream streams[STREAMS];

static void *write_lines(void *arg)
{
    const struct writer *writer = arg;
    for (int i = 0; i < LINES; i++)
        if (fprintf(writer->stream->file, "%d %d\n", writer->id, i) < 0 ||
            fflush(writer->stream->file))
            die("fprintf");
    return arg;
}

static void *read_lines(void *arg)
{
    struct stream *stream = arg;
    FILE *file = fdopen(stream->read_end, "r");
    char line[64];
    while (fgets(line, sizeof line, file)) {
        int id, i;
        if (sscanf(line, "%d %d", &id, &i) == 2 && id >= 0 && id < WRITERS && i == stream->next[id])
            stream->next[id]++;
        else
            stream->torn++;
    }
    fclose(file);
    return arg;
}

static void probe(void)
{
    static struct writer writers[STREAMS * WRITERS];
    task_t readers[STREAMS];
    for (int i = 0; i < STREAMS; i++) {
        int ends[2];
        if (pipe2(ends, O_CLOEXEC) || fcntl(ends[1], F_SETPIPE_SZ, 4096) < 0)
            die("pipe2");
        streams[i] = (struct stream){ .file = fdopen(ends[1], "w"), .read_end = ends[0] };
        readers[i] = task_spawn(read_lines, &streams[i]);
    }
    for (int i = 0; i < STREAMS * WRITERS; i++)
        writers[i] = (struct writer){ &streams[i % STREAMS], i / STREAMS };
    task_each(write_lines, writers, sizeof *writers, STREAMS * WRITERS);
    int torn = 0, lines = 0;
    for (int i = 0; i < STREAMS; i++) {
        fclose(streams[i].file);
        task_join(readers[i]);
        torn += streams[i].torn;
        for (int id = 0; id < WRITERS; id++)
            lines += streams[i].next[id];
    }
    printf("lines: %d, torn: %d\n", lines, torn);
}
