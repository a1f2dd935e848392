/* SPDX-License-Identifier: MIT */
/* proc_maps.c - a file in /proc, which is generated as it is read: each read returns whole lines,
 * as many as fit into the buffer. */
#define _GNU_SOURCE
#include "probe.h"

#include <sys/mman.h>

enum { READERS = 4, REGIONS = 400, MOST = 1 << 16 };

static const size_t rooms[] = { 4096, 5000, 10000, MOST };

struct reader {
    int by_offset, cut, strange, short_of_lines;
};

static char *regions;

/* Reads the whole map like a program that reads it line by line, each piece after the last one. */
static void *read_map(void *arg)
{
    struct reader *r = arg;
    char *buf = allocate(MOST + 1);
    for (int round = 0; round < 8; round++) {
        size_t room = rooms[round % 4];
        int fd = open("/proc/self/maps", O_RDONLY | O_CLOEXEC), lines = 0;
        if (fd < 0)
            die("/proc/self/maps");
        off_t at = 0;
        for (ssize_t n; (n = r->by_offset ? pread(fd, buf, room, at) : read(fd, buf, room)) != 0;
             at += n) {
            if (n < 0)
                die("read");
            buf[n] = '\0';
            r->cut += buf[n - 1] != '\n';
            for (char *line = buf; line < buf + n; line = strchr(line, '\n') + 1) {
                unsigned long from, to;
                lines++;
                if (sscanf(line, "%lx-%lx ", &from, &to) != 2 || from >= to)
                    r->strange++;
                if (!strchr(line, '\n'))
                    break;
            }
            /* Other tasks change the map in the meantime. */
            mprotect(regions + 4096 * (lines % REGIONS), 4096, round % 2 ? PROT_NONE : PROT_READ);
        }
        r->short_of_lines += lines < REGIONS / 2;
        if (!r->by_offset && lseek(fd, 0, SEEK_CUR) != at)
            r->strange++;
        close(fd);
    }
    free(buf);
    return arg;
}

static void probe(void)
{
    struct reader readers[READERS];
    regions = mmap(NULL, 4096 * REGIONS, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (regions == MAP_FAILED)
        die("mmap");
    for (int i = 0; i < REGIONS; i += 2)
        if (mprotect(regions + 4096 * i, 4096, PROT_NONE))
            die("mprotect");
    for (int by_offset = 0; by_offset < 2; by_offset++) {
        int cut = 0, strange = 0, few = 0;
        for (int i = 0; i < READERS; i++)
            readers[i] = (struct reader){ by_offset, 0, 0, 0 };
        task_each(read_map, readers, sizeof *readers, READERS);
        for (int i = 0; i < READERS; i++)
            cut += readers[i].cut, strange += readers[i].strange, few += readers[i].short_of_lines;
        printf("%s: %d reads that end within a line, %d strange lines, %d maps that lack some\n",
               by_offset ? "by offset" : "at the position", cut, strange, few);
    }
}
