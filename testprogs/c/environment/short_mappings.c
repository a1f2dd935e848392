/* SPDX-License-Identifier: MIT */
/* short_mappings.c - a library to preload together with the shim. A mapping of a ring that is
 * longer than LONGEST_MAPPING fails, as if the process had no address space for it. */
#define _GNU_SOURCE
#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

void *mmap(void *address, size_t n, int protection, int flags, int fd, off_t offset)
{
    const char *longest = getenv("LONGEST_MAPPING");
    if (fd >= 0 && (flags & MAP_POPULATE) && n > (longest ? strtoul(longest, NULL, 10) : 0)) {
        errno = ENOMEM;
        return MAP_FAILED;
    }
    return (void *)syscall(SYS_mmap, address, n, protection, flags, fd, offset);
}

void *mmap64(void *address, size_t n, int protection, int flags, int fd, off_t offset)
{
    return mmap(address, n, protection, flags, fd, offset);
}
