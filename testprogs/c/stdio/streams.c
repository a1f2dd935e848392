/* SPDX-License-Identifier: MIT */
/* streams.c - reading, seeking, buffering and opening streams: all operations on streams. */
#define _GNU_SOURCE
#include "probe.h"

#include <locale.h>
#include <stdio_ext.h>
#include <sys/wait.h>
#include <wchar.h>

/* What fopen does for each mode: flags, allowed operations, initial position. */
static void modes(void)
{
    static const char *const all[] = { "r",        "r+",  "w",          "w+",          "a",
                                       "a+",       "rb",  "rb+",        "r+b",         "wx",
                                       "w+x",      "re",  "rx",         "at+",         "rbbbbb+",
                                       "rbbbbbb+", "rm",  "rc",         "r,ccs=UTF-8", "",
                                       "q",        "+r",  "R",          "r,ccs=nix",   "we",
                                       "ae+",      "wbx", "w,ccs=UTF-8" };
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        int fd = open("modes", O_WRONLY | O_CREAT | O_TRUNC, 0644);
        write_full(fd, "twelve bytes", 12);
        close(fd);
        if (strchr(all[i], 'x') && all[i][0] == 'w')
            unlink("modes");
        errno = ERRNO_UNTOUCHED;
        FILE *file = fopen("modes", all[i]);
        printf("fopen \"%s\": %s", all[i], file ? "" : strerror(errno));
        if (file) {
            int flags = fcntl(fileno(file), F_GETFL), cloexec = fcntl(fileno(file), F_GETFD);
            printf("errno %d flags %o %d offset %ld", errno != ERRNO_UNTOUCHED, flags & ~0100000,
                   cloexec, (long)lseek(fileno(file), 0, SEEK_CUR));
            printf(" ftell %ld readable %d writable %d wide %d", ftell(file), !!__freadable(file),
                   !!__fwritable(file), fwide(file, 0));
            int put = fputs("in", file), flushed = fflush(file);
            printf(" put %d %d", put > 0 ? 1 : put, flushed);
            clearerr(file);
            rewind(file);
            int got = getc(file);
            printf(" got %d closed %d", got, fclose(file));
        }
        printf("\n");
        show_file("modes");
    }
    umask(027);
    FILE *file = fopen("masked", "w");
    struct stat about;
    if (fstat(fileno(file), &about))
        die("fstat");
    printf("access %o\n", about.st_mode);
    fclose(file);
    printf("nowhere: %d", fopen("nowhere/at/all", "w") == NULL);
    printf(" %s\n", strerror(errno));
    printf("a directory: %d", fopen(".", "w") == NULL);
    printf(" %s\n", strerror(errno));
    file = fopen(".", "r");
    printf("a directory read: %d %d", file != NULL, getc(file));
    printf(" %s\n", strerror(errno));
    SHOW(fclose(file));
}

static void seeking(void)
{
    make_file("seek", 100000);
    FILE *file = fopen("seek", "r+");
    char data[5000];
    fpos_t there;
    SHOW(fread(data, 1, sizeof data, file));
    show_data("data", data, sizeof data);
    SHOW(ftell(file));
    SHOW(fgetpos(file, &there));
    SHOW(fseek(file, 90000, SEEK_SET));
    SHOW(getc(file));
    SHOW(ungetc('x', file));
    SHOW(ftell(file));
    SHOW(getc(file));
    SHOW(ungetc('y', file));
    SHOW(ungetc('z', file));
    SHOW(getc(file));
    SHOW(getc(file));
    SHOW(fseek(file, -10, SEEK_CUR));
    SHOW(ftell(file));
    SHOW(fread(data, 1, 100, file));
    show_data("data", data, 100);
    SHOW(fseek(file, -5, SEEK_END));
    SHOW(fread(data, 1, 100, file));
    SHOW(feof(file) != 0);
    SHOW(fsetpos(file, &there));
    SHOW(feof(file) != 0);
    SHOW(ftello(file));
    SHOW(fwrite("written", 1, 7, file));
    SHOW(ftell(file));
    SHOW(fseek(file, 0, SEEK_CUR));
    SHOW(getc(file));
    rewind(file);
    SHOW(ftell(file));
    SHOW(fseek(file, -1, SEEK_SET));
    SHOW(fflush(file));
    SHOW(lseek(fileno(file), 0, SEEK_CUR));
    SHOW(fread(data, 1, 1, file));
    SHOW(lseek(fileno(file), 0, SEEK_CUR));
    SHOW(fflush(file));
    SHOW(lseek(fileno(file), 0, SEEK_CUR));
    SHOW(fclose(file));
    show_file("seek");
    file = fopen("seek", "a+");
    SHOW(ftell(file));
    SHOW(fputs("at the end", file));
    SHOW(ftell(file));
    SHOW(fseek(file, 10, SEEK_SET));
    SHOW(getc(file));
    SHOW(fclose(file));
    show_file("seek");
}

static void scanning(void)
{
    int ends[2];
    if (pipe(ends))
        die("pipe");
    FILE *in = fdopen(ends[0], "r"), *out = fdopen(ends[1], "w");
    fprintf(out, "12 words 3.5\nline two\n\nlast without end");
    fclose(out);
    int number;
    char word[20], *line = NULL;
    double real;
    size_t size = 0;
    SHOW(fscanf(in, "%d %19s %lf", &number, word, &real));
    printf("%d %s %g\n", number, word, real);
    SHOW(getline(&line, &size, in));
    SHOW(getline(&line, &size, in));
    printf("%s", line);
    SHOW(getline(&line, &size, in));
    SHOW(fgets(word, 5, in) == word);
    printf("%s\n", word);
    SHOW(getdelim(&line, &size, 'h', in));
    printf("%s\n", line);
    SHOW(fgets(word, sizeof word, in) == word);
    printf("%s\n", word);
    SHOW(fgets(word, sizeof word, in) == NULL);
    SHOW(feof(in) != 0);
    SHOW(fscanf(in, "%d", &number));
    SHOW(fseek(in, 0, SEEK_SET));
    SHOW(ftell(in));
    SHOW(fclose(in));
    free(line);
}

static ssize_t cookie_read(void *cookie, char *data, size_t n)
{
    /* The callback of the program makes calls that park. */
    usleep(0);
    return read(*(int *)cookie, data, n > 10 ? 10 : n);
}

static ssize_t cookie_write(void *cookie, const char *data, size_t n)
{
    usleep(0);
    task_yield();
    return write(*(int *)cookie, data, n);
}

static void memory(void)
{
    char *text = NULL, buffer[40] = "in memory";
    size_t size = 0;
    FILE *file = open_memstream(&text, &size);
    for (int i = 0; i < 1000; i++)
        fprintf(file, "%d ", i);
    SHOW(fclose(file));
    printf("%zu %.30s\n", size, text);
    free(text);
    wchar_t *wide = NULL;
    file = open_wmemstream(&wide, &size);
    fwprintf(file, L"%d %ls", 5, L"wide");
    SHOW(fclose(file));
    printf("%zu %ls\n", size, wide);
    free(wide);
    file = fmemopen(buffer, sizeof buffer, "r+");
    char word[20];
    SHOW(fscanf(file, "%*s %s", word));
    SHOW(fseek(file, 3, SEEK_SET));
    SHOW(fputs("MEMO", file));
    SHOW(fclose(file));
    printf("%s %s\n", word, buffer);
    make_file("cookie", 100);
    int fd = open("cookie", O_RDWR);
    file = fopencookie(&fd, "r+",
                       (cookie_io_functions_t){ .read = cookie_read, .write = cookie_write });
    SHOW(fread(buffer, 1, sizeof buffer, file));
    show_data("cookie", buffer, sizeof buffer);
    SHOW(fclose(file));
    file = fopencookie(&fd, "w",
                       (cookie_io_functions_t){ .read = cookie_read, .write = cookie_write });
    SHOW(fprintf(file, "%s %d", "by a cookie", 7));
    SHOW(fflush(file));
    SHOW(fclose(file));
    close(fd);
    show_file("cookie");
    SHOW(sscanf("5 6", "%d", &fd));
    SHOW(snprintf(buffer, sizeof buffer, "%d", 77));
}

static void buffering(void)
{
    static const struct {
        const char *name;
        int mode;
        size_t size;
    } all[] = {
        { "full", _IOFBF, 0 }, { "small", _IOFBF, 16 }, { "line", _IOLBF, 0 }, { "none", _IONBF, 0 }
    };
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        FILE *file = fopen("buffering", "w+");
        char own[64];
        SHOW(setvbuf(file, i == 1 ? own : NULL, all[i].mode, all[i].size));
        printf("%s: ", all[i].name);
        struct stat about;
        const char *const parts[] = { "half", " a line\n", "and more than sixteen bytes", "\n",
                                      "rest" };
        for (size_t p = 0; p < sizeof parts / sizeof *parts; p++) {
            fputs(parts[p], file);
            fstat(fileno(file), &about);
            printf("%ld ", (long)about.st_size);
        }
        putc('!', file);
        putw(12345, file);
        printf("pending %zu of %zu\n", __fpending(file), __fbufsize(file));
        rewind(file);
        char line[100];
        while (fgets(line, sizeof line, file))
            printf("%zu ", strlen(line));
        printf("\n");
        SHOW(fclose(file));
        show_file("buffering");
    }
}

static void wide(void)
{
    FILE *file = fopen("wide", "w+");
    SHOW(fwprintf(file, L"%ls %d\n", L"\u00e9t\u00e9", 5));
    SHOW(fputwc(L'\u20ac', file));
    SHOW(fputws(L" and more\n", file));
    SHOW(fwide(file, 0));
    SHOW(fputs("bytes", file));
    rewind(file);
    wchar_t line[100], word[100];
    SHOW(fgetws(line, 100, file) == line);
    printf("%ls", line);
    SHOW(fgetwc(file));
    SHOW(ungetwc(L'\u00fc', file));
    SHOW(fgetwc(file));
    SHOW(fwscanf(file, L"%99ls", word));
    printf("%ls\n", word);
    SHOW(ftell(file));
    SHOW(fseek(file, 2, SEEK_SET));
    SHOW(fgetwc(file));
    SHOW(fclose(file));
    show_file("wide");
    file = fopen("wide", "w");
    SHOW(fputwc(0xd800, file));
    SHOW(ferror(file) != 0);
    SHOW(fclose(file));
}

static void errors(void)
{
    FILE *file = fopen("/dev/full", "w");
    SHOW(fputs("no room", file));
    SHOW(fflush(file));
    SHOW(ferror(file) != 0);
    clearerr(file);
    SHOW(fputs("no room", file));
    SHOW(fclose(file));
    file = fopen("modes", "r");
    SHOW(fputc('x', file));
    SHOW(ferror(file) != 0);
    close(fileno(file));
    SHOW(getc(file));
    SHOW(fclose(file));
    int ends[2];
    if (pipe2(ends, O_NONBLOCK))
        die("pipe2");
    file = fdopen(ends[0], "r");
    SHOW(getc(file));
    SHOW(ferror(file) != 0);
    clearerr(file);
    write_full(ends[1], "now", 3);
    SHOW(getc(file));
    close(ends[1]);
    SHOW(fclose(file));
    SHOW(fdopen(-1, "r") == NULL);
    printf("%s\n", strerror(errno));
}

static void reopening(void)
{
    make_file("first", 10);
    FILE *file = fopen("first", "r+");
    int fd = fileno(file);
    fputs("kept", file);
    SHOW(freopen("second", "w", file) == file);
    SHOW(fileno(file) == fd);
    SHOW(fputs("second", file));
    SHOW(freopen(NULL, "a", file) == file);
    SHOW(fputs(" more", file));
    SHOW(freopen64("nowhere/at/all", "r", file) == NULL);
    printf("%s\n", strerror(errno));
    show_file("first");
    show_file("second");
    file = tmpfile();
    SHOW(fputs("temporary", file));
    rewind(file);
    SHOW(getc(file));
    SHOW(fclose(file));
    file = tmpfile64();
    SHOW(fclose(file));
}

static void processes(void)
{
    char line[100];
    FILE *file = popen("echo one; echo two; exit 3", "r");
    SHOW(fgets(line, sizeof line, file) == line);
    printf("%s", line);
    SHOW(fgets(line, sizeof line, file) == line);
    printf("%s", line);
    SHOW(fgets(line, sizeof line, file) == NULL);
    SHOW(pclose(file));
    file = popen("cat > popened; kill -TERM $$", "we");
    SHOW(fprintf(file, "%05d", 42));
    SHOW(pclose(file));
    show_file("popened");
    file = popen("exec true", "w");
    int (*volatile close_it)(FILE *) = fclose;
    SHOW(close_it(file));
    SHOW(wait(NULL));
    SHOW(popen("true", "q") == NULL);
    SHOW(system("exit 5") >> 8);
}

static void printing(void)
{
    int fd = open("printed", O_RDWR | O_CREAT | O_TRUNC, 0644);
    SHOW(dprintf(fd, "plain\n"));
    SHOW(dprintf(fd, "%d %s %c %ld %u %x %p|\n", 1, "two", '3', 4L, 5u, 6, (void *)7));
    SHOW(dprintf(fd, "%g %f %d %g %s %g %g %g %g %g %g %g\n", 1.5, 2.5, 3, 4.5, "five", 6.5, 7.5,
                 8.5, 9.5, 10.5, 11.5, 12.5));
    SHOW(dprintf(fd, "%Lg %d %Lg\n", 1.25L, 2, 3.25L));
    SHOW(dprintf(fd, "%*d|%-*d|%.*s|\n", 5, 6, 7, 8, 3, "nine"));
    SHOW(dprintf(fd, "%2$s %1$d\n", 1, "two"));
    SHOW(dprintf(fd, "%2000d\n", 7));
    SHOW(dprintf(fd, "%s", ""));
    errno = ENOENT;
    int length = dprintf(fd, "%600d %m\n", 7);
    printf("%d\n", length);
    SHOW(dprintf(fd, "%ls\n", L"\u00e9"));
    SHOW(dprintf(fd, "%lc", (wint_t)0xd800));
    SHOW(dprintf(-1, "%d", 1));
    SHOW(close(fd));
    show_file("printed");
}

/* A background task, because the calls of a lone fiber are plain ones. */
static void *wait_for_end(void *arg)
{
    char byte;
    if (read(*(int *)arg, &byte, 1) != 0)
        die("read");
    return arg;
}

static void probe(void)
{
    int ends[2];
    if (!setlocale(LC_ALL, "C.UTF-8") || pipe2(ends, O_CLOEXEC))
        die("pipe2");
    task_t beside = task_spawn(wait_for_end, ends);
    task_yield();
    modes();
    seeking();
    scanning();
    memory();
    buffering();
    wide();
    errors();
    reopening();
    processes();
    printing();
    close(ends[1]);
    task_join(beside);
}
