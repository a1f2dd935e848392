/* SPDX-License-Identifier: MIT */
/* fortify.c - a checked read larger than its buffer, or a checked open without its mode, must
 * still end the program. */
#define _GNU_SOURCE
#include "probe.h"

extern ssize_t read_chk(int, void *, size_t, size_t) __asm__("__read_chk");
extern ssize_t pread_chk(int, void *, size_t, off_t, size_t) __asm__("__pread_chk");
extern ssize_t pread64_chk(int, void *, size_t, off_t, size_t) __asm__("__pread64_chk");
extern int open_2(const char *, int) __asm__("__open_2");
extern int openat_2(int, const char *, int) __asm__("__openat_2");

/* The variable CASE selects the case, because all probes have the same options. */
static void probe(void)
{
    const char *which = getenv("CASE");
    char buf[10];
    make_file("file", 100);
    int fd = open("file", O_RDONLY | O_CLOEXEC);
    if (!which || fd < 0)
        die("CASE and file");
    fflush(stdout);
    switch (number(which)) {
    case 0: SHOW(read_chk(fd, buf, 11, sizeof buf)); break;
    case 1: SHOW(pread_chk(fd, buf, 11, 0, sizeof buf)); break;
    case 2: SHOW(pread64_chk(fd, buf, 11, 0, sizeof buf)); break;
    case 3: SHOW_FD(open_2("new", O_CREAT | O_RDWR)); break;
    case 4: SHOW_FD(openat_2(AT_FDCWD, "new", O_TMPFILE | O_RDWR)); break;
    default: SHOW(read_chk(fd, buf, 10, sizeof buf));
    }
}
