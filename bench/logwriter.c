/* SPDX-License-Identifier: MIT */
/* logwriter.c - many tasks append records to one log, and each waits until its record is on the
 * disk. */
#define _GNU_SOURCE
#include "tasks.h"

#include <sys/stat.h>

static const char usage[] = "logwriter JOBS WORKERS RECORDS FILE\n"
                            "  JOBS     number of tasks\n"
                            "  WORKERS  OS threads that run the fibers\n"
                            "  RECORDS  number of records that each task writes\n"
                            "FILE is made, and removed after the clock has stopped.\n"
                            "Prints one line of JSON.\n";

enum { RECORD = 256 };

static unsigned jobs;
static uint64_t records;
static int fd;

static void append(unsigned member)
{
    char record[RECORD];
    memset(record, 'a' + (int)(member % 26), sizeof record);
    record[RECORD - 1] = '\n';
    for (uint64_t i = 0; i < records; i++) {
        ssize_t n = write(fd, record, sizeof record);
        if (n != (ssize_t)sizeof record)
            die(n < 0 ? errno : EIO, "write");
        if (fsync(fd))
            die(errno, "fsync");
    }
}

static void *all(void *unused)
{
    task_crew_run(jobs, append);
    return unused;
}

int main(int argc, char **argv)
{
    jobs = argc == 5 ? (unsigned)strtoul(argv[1], NULL, 10) : 0;
    unsigned workers = argc == 5 ? (unsigned)strtoul(argv[2], NULL, 10) : 0;
    records = argc == 5 ? strtoull(argv[3], NULL, 10) : 0;
    if (!jobs || !workers || !records) {
        fputs(usage, stderr);
        return 2;
    }
    struct stat st;
    fd = open(argv[4], O_WRONLY | O_CREAT | O_TRUNC | O_APPEND | O_CLOEXEC, 0644);
    if (fd < 0)
        die(errno, "%s", argv[4]);
    struct snapshot from = snap();
    tasks_run(workers, all, NULL);
    struct snapshot to = snap();
    if (fstat(fd, &st))
        die(errno, "%s", argv[4]);
    say_cost(jobs * records, (uint64_t)st.st_size, &from, &to);
    if (unlink(argv[4]))
        die(errno, "%s", argv[4]);
    return 0;
}
