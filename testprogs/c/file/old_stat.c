/* SPDX-License-Identifier: MIT */
/* old_stat.c - the functions through which programs built for a glibc before 2.33 read attributes
 * and create nodes. */
#define _GNU_SOURCE
#include <dlfcn.h>

#include "slow_lookup.h"

/* The headers of glibc no longer declare them, and the library keeps them only for old programs, so
 * they are found by name and version. */
static void *find(const char *name)
{
    void *symbol = dlsym(RTLD_DEFAULT, name);
    if (!symbol)
        wrong("%s: there is none", name);
    return symbol;
}

enum { VERSION = 1 }; /* _STAT_VER of 64-bit x86 */
static struct stat about;

static void show_about(void)
{
    printf("  type %o size %jd\n", about.st_mode & S_IFMT,
           S_ISDIR(about.st_mode) ? 0 : (intmax_t)about.st_size);
    memset(&about, 0, sizeof about);
}

static void old(const char *suffix)
{
    char name[32];
#define OLD(plain) (sprintf(name, "%s%s", plain, suffix), find(name))
    int (*xstat)(int, const char *, struct stat *) =
        (int (*)(int, const char *, struct stat *))OLD("__xstat");
    int (*lxstat)(int, const char *, struct stat *) =
        (int (*)(int, const char *, struct stat *))OLD("__lxstat");
    int (*fxstat)(int, int, struct stat *) = (int (*)(int, int, struct stat *))OLD("__fxstat");
    int (*fxstatat)(int, int, const char *, struct stat *, int) =
        (int (*)(int, int, const char *, struct stat *, int))OLD("__fxstatat");
    TRY(xstat(VERSION, "file", &about));
    show_about();
    TRY(xstat(VERSION, "none", &about));
    TRY(xstat(77, "file", &about));
    TRY(lxstat(VERSION, "link", &about));
    show_about();
    TRY(fxstat(VERSION, SLOW_FD, &about));
    show_about();
    TRY(fxstat(VERSION, -1, &about));
    TRY(fxstatat(VERSION, AT_FDCWD, "link", &about, 0));
    show_about();
    TRY(fxstatat(VERSION, -1, "link", &about, 0));
}

static void probe(void)
{
    int (*xmknod)(int, const char *, mode_t, dev_t *) =
        (int (*)(int, const char *, mode_t, dev_t *))find("__xmknod");
    int (*xmknodat)(int, int, const char *, mode_t, dev_t *) =
        (int (*)(int, int, const char *, mode_t, dev_t *))find("__xmknodat");
    dev_t none = 0;
    make_file("file", 1234);
    int fd = open("file", O_RDWR | O_CLOEXEC);
    if (symlink("file", "link") || fd < 0 || dup3(fd, SLOW_FD, O_CLOEXEC) < 0)
        die("making files");
    slow_lookup_begin();
    for (lookups_are_slow = 0; lookups_are_slow < 2; lookups_are_slow++) {
        old("");
        old("64");
        TRY(xmknod(0, "node", S_IFREG | 0600, &none));
        TRY(xmknodat(0, AT_FDCWD, "node", S_IFREG | 0600, &none));
        TRY(unlink("node"));
    }
    lookups_are_slow = 0;
    slow_lookup_end();
}
