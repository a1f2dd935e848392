/* SPDX-License-Identifier: MIT */
/* stdio.c - the cost of one stdio call, off a fiber or on one. Most of the calls never reach the
 * kernel. */
#include "bench.h"

#include <fcntl.h>

static const char usage[] =
    "stdio CALL off|fiber DIR\n"
    "  CALL   fputc getc fprintf fputs fgets fwrite fread\n"
    "  DIR    directory for its files, which are created if missing\n"
    "then one number of calls per line on standard input; prints nanoseconds per call for each\n";

enum { READ_FILE = 1 << 22 };

static FILE *sink, *source;
static char block[64];

static void call_fputc(uint64_t n)
{
    for (uint64_t i = 0; i < n; i++)
        if (fputc('x', sink) == EOF)
            die(errno, "fputc");
}

static void call_fprintf(uint64_t n)
{
    for (uint64_t i = 0; i < n; i++)
        if (fprintf(sink, "%s %d: %x\n", "line", (int)i, 255) < 0)
            die(errno, "fprintf");
}

static void call_fputs(uint64_t n)
{
    for (uint64_t i = 0; i < n; i++)
        if (fputs("a line of thirty-two characters\n", sink) == EOF)
            die(errno, "fputs");
}

static void call_fwrite(uint64_t n)
{
    for (uint64_t i = 0; i < n; i++)
        if (fwrite(block, sizeof block, 1, sink) != 1)
            die(errno, "fwrite");
}

static void call_getc(uint64_t n)
{
    for (uint64_t i = 0; i < n; i++)
        if (getc(source) == EOF)
            rewind(source);
}

static void call_fgets(uint64_t n)
{
    char line[64];
    for (uint64_t i = 0; i < n; i++)
        if (!fgets(line, sizeof line, source))
            rewind(source);
}

static void call_fread(uint64_t n)
{
    for (uint64_t i = 0; i < n; i++)
        if (fread(block, sizeof block, 1, source) != 1)
            rewind(source);
}

static const struct {
    const char *name;
    void (*fn)(uint64_t);
} calls[] = {
    { "fputc", call_fputc }, { "getc", call_getc },     { "fprintf", call_fprintf },
    { "fputs", call_fputs }, { "fwrite", call_fwrite }, { "fgets", call_fgets },
    { "fread", call_fread },
};

static void (*chosen)(uint64_t);

static double one_round(uint64_t n)
{
    chosen(n / 8 + 1);
    uint64_t start = now_ns();
    chosen(n);
    return (double)(now_ns() - start) / (double)n;
}

static void open_streams(const char *dir)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/lines", dir);
    FILE *file = fopen(path, "w");
    if (!file)
        die(errno, "%s", path);
    for (int i = 0; i < READ_FILE / 32; i++)
        fputs("a line of thirty-two characters\n", file);
    if (fclose(file))
        die(errno, "%s", path);
    source = fopen(path, "r");
    sink = fopen("/dev/null", "w");
    if (!source || !sink)
        die(errno, "%s", path);
}

int main(int argc, char **argv)
{
    if (argc == 4)
        for (size_t i = 0; i < sizeof calls / sizeof *calls; i++)
            if (!strcmp(argv[1], calls[i].name))
                chosen = calls[i].fn;
    int on_fiber = argc == 4 && !strcmp(argv[2], "fiber");
    if (!chosen || (!on_fiber && strcmp(argv[2], "off"))) {
        fputs(usage, stderr);
        return 2;
    }
    open_streams(argv[3]);
    if (on_fiber)
        on_one_worker(serve_on_fiber, (void *)(uintptr_t)one_round);
    else
        serve(one_round);
    return 0;
}
