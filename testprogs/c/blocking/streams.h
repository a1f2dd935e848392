/* SPDX-License-Identifier: MIT */
/* streams.h - cases with stdio, in which each task has its own stream on one pipe, and with the
 * functions that open and close streams. */

#include <stdio_ext.h>
#include <wchar.h>

static FILE *streams[TASKS];

static void make_readers(void)
{
    make_pipe();
    for (int i = 0; i < TASKS; i++) {
        streams[i] = fdopen(dup(ends[0]), "r");
        must(streams[i] && setvbuf(streams[i], NULL, _IONBF, 0) == 0, "fdopen");
    }
}

static void make_writers(void)
{
    make_full_pipe();
    for (int i = 0; i < TASKS; i++) {
        streams[i] = fdopen(dup(ends[1]), "w");
        must(streams[i] && setvbuf(streams[i], NULL, _IONBF, 0) == 0, "fdopen");
    }
}

static void feed_line(void) { feed("7\n", 2); }

static void getc_call(unsigned i)
{
    must(CALL(int (*)(FILE *), fgetc, streams[i]) != EOF, "fgetc");
}

static void getwc_call(unsigned i)
{
    must(CALL(wint_t(*)(FILE *), fgetwc, streams[i]) != WEOF, "fgetwc");
}

static void fread_call(unsigned i)
{
    char byte;
    must(CALL(size_t(*)(void *, size_t, size_t, FILE *), fread, &byte, 1, 1, streams[i]) == 1,
         "fread");
}

static void fgets_call(unsigned i)
{
    char line[8];
    must(CALL(char *(*)(char *, int, FILE *), fgets, line, sizeof line, streams[i]) != NULL,
         "fgets");
}

static void getline_call(unsigned i)
{
    char *line = NULL;
    size_t n = 0;
    must(CALL(ssize_t(*)(char **, size_t *, FILE *), getline, &line, &n, streams[i]) > 0,
         "getline");
    free(line);
}

static void fscanf_call(unsigned i)
{
    int value;
    must(CALL(int (*)(FILE *, const char *, ...), fscanf, streams[i], "%d", &value) == 1, "fscanf");
}

static void putc_call(unsigned i)
{
    must(CALL(int (*)(int, FILE *), fputc, 'x', streams[i]) == 'x', "fputc");
}

static void fputs_call(unsigned i)
{
    must(CALL(int (*)(const char *, FILE *), fputs, "some text", streams[i]) >= 0, "fputs");
}

static void fwrite_call(unsigned i)
{
    must(CALL(size_t(*)(const void *, size_t, size_t, FILE *), fwrite, some, 1, sizeof some,
              streams[i]) == sizeof some,
         "fwrite");
}

static void fprintf_call(unsigned i)
{
    must(CALL(int (*)(FILE *, const char *, ...), fprintf, streams[i], "%s\n", "some text") > 0,
         "fprintf");
}

static void make_full_buffers(void)
{
    make_full_pipe();
    for (int i = 0; i < TASKS; i++) {
        streams[i] = fdopen(dup(ends[1]), "w");
        must(streams[i] && fputs("some text", streams[i]) >= 0, "fdopen");
    }
}

static void fflush_call(unsigned i)
{
    must(CALL(int (*)(FILE *), fflush, streams[i]) == 0, "fflush");
}

static void fclose_call(unsigned i)
{
    must(CALL(int (*)(FILE *), fclose, streams[i]) == 0, "fclose");
}

static void dprintf_call(unsigned i)
{
    (void)i;
    must(CALL(int (*)(int, const char *, ...), dprintf, ends[1], "%s\n", "some text") > 0,
         "dprintf");
}

static int vdprint(int has_flag, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    int n = has_flag
                ? ((int (*)(int, int, const char *, va_list))named)(ends[1], 1, format, arguments)
                : ((int (*)(int, const char *, va_list))named)(ends[1], format, arguments);
    va_end(arguments);
    return n;
}

static void vdprintf_call(unsigned i)
{
    (void)i;
    must(vdprint(0, "%s\n", "some text") > 0, "vdprintf");
}

static void vdprintf_chk_call(unsigned i)
{
    (void)i;
    must(vdprint(1, "%s\n", "some text") > 0, "vdprintf_chk");
}

static void dprintf_chk_call(unsigned i)
{
    (void)i;
    must(((int (*)(int, int, const char *, ...))named)(ends[1], 1, "%s\n", "some text") > 0,
         "dprintf_chk");
}

static void fopen_call(unsigned i)
{
    (void)i;
    FILE *stream = CALL(FILE * (*)(const char *, const char *), fopen, "fifo", "r");
    must(stream && fclose(stream) == 0, "fopen");
}

static void open_something(void)
{
    make_fifo();
    for (int i = 0; i < TASKS; i++)
        must((streams[i] = fopen("/dev/null", "r")) != NULL, "fopen");
}

static void freopen_call(unsigned i)
{
    must(CALL(FILE * (*)(const char *, const char *, FILE *), freopen, "fifo", "r", streams[i]) !=
             NULL,
         "freopen");
}

static void tmpfile_call(unsigned i)
{
    (void)i;
    FILE *stream = CALL(FILE * (*)(void), tmpfile, );
    must(stream && fclose(stream) == 0, "tmpfile");
}

static void start_readers(void)
{
    make_fifo();
    for (int i = 0; i < TASKS; i++)
        must((streams[i] = popen("read x < fifo", "r")) != NULL, "popen");
}

static void pclose_call(unsigned i)
{
    must(CALL(int (*)(FILE *), pclose, streams[i]) != -1, "pclose");
}

static const struct blocking streams_cases[] = {
    { "fgetc getc", make_readers, getc_call, feed_line, 0, { 0 }, 0 },
    { "fgetwc getwc", make_readers, getwc_call, feed_line, 0, { 0 }, 0 },
    { "fread", make_readers, fread_call, feed_line, 0, { 0 }, 0 },
    { "fgets", make_readers, fgets_call, feed_line, 0, { 0 }, 0 },
    { "getline", make_readers, getline_call, feed_line, 0, { 0 }, 0 },
    { "fscanf", make_readers, fscanf_call, feed_line, 0, { 0 }, 0 },
    { "fputc putc", make_writers, putc_call, drain_pipe, 0, { 0 }, 0 },
    { "fputs", make_writers, fputs_call, drain_pipe, 0, { 0 }, 0 },
    { "fwrite", make_writers, fwrite_call, drain_pipe, 0, { 0 }, 0 },
    { "fprintf", make_writers, fprintf_call, drain_pipe, 0, { 0 }, 0 },
    { "fflush fflush_unlocked _IO_fflush",
      make_full_buffers,
      fflush_call,
      drain_pipe,
      0,
      { 0 },
      0 },
    { "fclose _IO_fclose", make_full_buffers, fclose_call, drain_pipe, 0, { 0 }, 0 },
    { "dprintf", make_full_pipe, dprintf_call, drain_pipe, 0, { 0 }, 0 },
    { "vdprintf", make_full_pipe, vdprintf_call, drain_pipe, 0, { 0 }, 0 },
    { "__vdprintf_chk", make_full_pipe, vdprintf_chk_call, drain_pipe, 0, { 0 }, 0 },
    { "__dprintf_chk", make_full_pipe, dprintf_chk_call, drain_pipe, 0, { 0 }, 0 },
    { "fopen fopen64 _IO_fopen", make_fifo, fopen_call, open_for_writing, 0, { 0 }, 0 },
    { "freopen freopen64", open_something, freopen_call, open_for_writing, 0, { 0 }, 0 },
    { "tmpfile tmpfile64", NULL, tmpfile_call, NULL, 0, { SYS_openat }, 0 },
    { "pclose", start_readers, pclose_call, open_for_writing, 0, { 0 }, 0 },
};
