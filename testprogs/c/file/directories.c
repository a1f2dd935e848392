/* SPDX-License-Identifier: MIT */
/* directories.c - directories read by entry, as a list and as a walk; libc's callbacks run on the
 * task that made the call. */
#define _GNU_SOURCE
#include <fts.h>
#include <ftw.h>
#include <glob.h>

#include "slow_lookup.h"

enum { FILES = 1500 };

/* The task that made the call. */
static void *asker;

static void *self(void)
{
    return task_options.threads ? (void *)pthread_self() : (void *)fiber_self();
}

static const char *whose(void) { return self() == asker ? "" : " ELSEWHERE"; }

static void entries(const char *path)
{
    unsigned count = 0;
    uint64_t sum = 0;
    slow_lookup_make();
    errno = ERRNO_UNTOUCHED;
    DIR *dir = opendir(path);
    if (!dir) {
        printf("opendir %s: %s\n", path, strerror(errno));
        return;
    }
    struct stat about;
    if (fstat(dirfd(dir), &about) || !S_ISDIR(about.st_mode))
        die("dirfd");
    struct dirent *entry;
    for (;;) {
        if (count % 400 == 0)
            slow_lookup_make();
        errno = ERRNO_UNTOUCHED;
        entry = readdir(dir);
        if (!entry)
            break;
        count++;
        sum += hash(HASH_START, entry->d_name, strlen(entry->d_name));
    }
    printf("%s: %u entries, %016" PRIx64 "%s\n", path, count, sum,
           errno == ERRNO_UNTOUCHED ? "" : ", errno changed");
    rewinddir(dir);
    entry = readdir(dir);
    long at = telldir(dir);
    char second[256];
    entry = readdir(dir);
    snprintf(second, sizeof second, "%s", entry->d_name);
    while (readdir(dir))
        continue;
    seekdir(dir, at);
    entry = readdir(dir);
    printf("  seekdir: %s\n",
           entry && !strcmp(entry->d_name, second) ? "the same entry" : "another entry");
    rewinddir(dir);
    struct dirent room, *result;
    count = 0;
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"
    while (!readdir_r(dir, &room, &result) && result) {
        count++;
    }
#pragma GCC diagnostic pop
    printf("  readdir_r: %u entries\n", count);
    SHOW(closedir(dir));
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    slow_lookup_make();
    dir = fdopendir(fd);
    count = 0;
    while (readdir(dir))
        count++;
    printf("  fdopendir: %u entries\n", count);
    SHOW(closedir(dir));
    SHOW(close(fd));
}

static void raw(void)
{
    static char buf[1 << 16];
    int fd = open("many", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    ssize_t n, all = 0;
    if (dup3(fd, SLOW_FD, O_CLOEXEC) < 0)
        die("dup3");
    while (slow_lookup_make(), (n = getdents64(SLOW_FD, buf, sizeof buf)) > 0)
        all += n;
    printf("getdents64: %zd, %zd\n", all, n);
    TRY(getdents64(SLOW_FD, buf, 1));
    TRY(getdents64(-1, buf, sizeof buf));
    TRY(getdents64(slow_lookup_quit[0], buf, sizeof buf));
    close(fd);
    close(SLOW_FD);
}

static unsigned filtered, compared, elsewhere;

static int odd(const struct dirent *entry)
{
    filtered++;
    elsewhere += self() != asker;
    errno = EDOM;
    return (entry->d_name[strlen(entry->d_name) - 1] - '0') % 2 == 1;
}

static int nothing(const struct dirent *entry)
{
    (void)entry;
    return 0;
}

static int backwards(const struct dirent **a, const struct dirent **b)
{
    compared++;
    elsewhere += self() != asker;
    return strcmp((*b)->d_name, (*a)->d_name);
}

static void show_list(const char *what, int n, struct dirent **list)
{
    if (n < 0) {
        printf("%s: %s\n", what, strerror(errno));
        return;
    }
    printf("%s: %d entries%s", what, n, errno == ERRNO_UNTOUCHED ? "" : ", errno changed");
    if (n > 0)
        printf(", %s to %s", list[0]->d_name, list[n - 1]->d_name);
    printf(", filtered %u, compared %s, elsewhere %u\n", filtered, compared ? "some" : "none",
           elsewhere);
    for (int i = 0; i < n; i++)
        free(list[i]);
    free(list);
    filtered = compared = elsewhere = 0;
}

#define LIST(call)                              \
    do {                                        \
        slow_lookup_make();                     \
        errno = ERRNO_UNTOUCHED;                \
        int entries_listed = call;              \
        show_list(#call, entries_listed, list); \
    } while (0)

static void lists(void)
{
    struct dirent **list = NULL;
    LIST(scandir("many", &list, NULL, alphasort));
    LIST(scandir("many", &list, odd, backwards));
    LIST(scandir("many", &list, nothing, backwards));
    LIST(scandir("none", &list, odd, backwards));
    LIST(scandir("many/f1", &list, odd, backwards));
    LIST(scandirat(AT_FDCWD, "tree", &list, NULL, versionsort));
    LIST(scandirat(-1, "tree", &list, NULL, versionsort));
}

static uint64_t visited;
static unsigned visits;

static int visit(const char *path, const struct stat *about, int kind)
{
    char line[PATH_MAX + 64];
    /* The order depends on the directory, so the lines are summed up. */
    snprintf(line, sizeof line, "%s %d %o%s", path, kind, kind == FTW_NS ? 0 : about->st_mode,
             whose());
    visited += hash(HASH_START, line, strlen(line));
    visits++;
    if (strstr(path, "stop")) {
        errno = EDOM;
        return -1;
    }
    /* A call that parks. */
    if (visits % 16 == 0)
        task_yield();
    return 0;
}

static int visit_more(const char *path, const struct stat *about, int kind, struct FTW *place)
{
    char line[64];
    snprintf(line, sizeof line, "%d %d", place->base, place->level);
    visited += hash(HASH_START, line, strlen(line));
    return visit(path, about, kind);
}

static int skip(const char *path, const struct stat *about, int kind, struct FTW *place)
{
    visit_more(path, about, kind, place);
    return strstr(path, "deep") ? FTW_SKIP_SUBTREE : FTW_CONTINUE;
}

#define WALK(call)                                                                               \
    do {                                                                                         \
        errno = ERRNO_UNTOUCHED;                                                                 \
        visited = visits = 0;                                                                    \
        int walked = call;                                                                       \
        const char *error = errno == EDOM ? "EDOM" : walked < 0 ? strerror(errno) : "";          \
        printf("%s: %d %s, %u visits, %016" PRIx64 "\n", #call, walked, error, visits, visited); \
    } while (0)

static void walks(void)
{
    WALK(ftw("tree", visit, 5));
    WALK(ftw("tree", visit, 1));
    WALK(ftw("none", visit, 5));
    WALK(ftw("with", visit, 5));
    WALK(nftw("tree", visit_more, 5, 0));
    WALK(nftw("tree", visit_more, 5, FTW_PHYS | FTW_DEPTH));
    WALK(nftw("tree", visit_more, 5, FTW_CHDIR));
    WALK(nftw("tree", skip, 5, FTW_ACTIONRETVAL));
    WALK(nftw("tree", visit_more, 5, FTW_MOUNT | FTW_PHYS));
    WALK(nftw("many", visit_more, 5, FTW_PHYS));
}

static int by_name(const FTSENT **a, const FTSENT **b)
{
    elsewhere += self() != asker;
    compared++;
    return strcmp((*a)->fts_name, (*b)->fts_name);
}

static void trees(int (*order)(const FTSENT **, const FTSENT **))
{
    char tree[] = "tree", many[] = "many", none[] = "none";
    char *const paths[] = { tree, many, none, NULL };
    uint64_t sum = 0;
    unsigned count = 0;
    slow_lookup_make();
    errno = ERRNO_UNTOUCHED;
    FTS *fts = fts_open(paths, FTS_PHYSICAL | FTS_NOCHDIR, order);
    if (!fts)
        die("fts_open");
    FTSENT *entry;
    while (slow_lookup_make(), (entry = fts_read(fts)) != NULL) {
        char line[PATH_MAX + 64];
        snprintf(line, sizeof line, "%s %d %d", entry->fts_path, entry->fts_info, entry->fts_level);
        uint64_t one = hash(HASH_START, line, strlen(line));
        sum = order ? sum * 31 + one : sum + one;
        if (entry->fts_info == FTS_D && !strcmp(entry->fts_name, "tree")) {
            unsigned children = 0;
            for (FTSENT *child = fts_children(fts, 0); child; child = child->fts_link)
                children++;
            printf("fts_children: %u\n", children);
        }
        if (!strcmp(entry->fts_name, "deep"))
            fts_set(fts, entry, FTS_SKIP);
        if (count++ == 40)
            lookups_are_slow = 0;
    }
    printf("fts: %u entries, %016" PRIx64 ", %s, errno %d, compared %s, elsewhere %u\n", count, sum,
           order ? "in order" : "as they come", errno, compared ? "some" : "none", elsewhere);
    compared = elsewhere = 0;
    SHOW(fts_close(fts));
    errno = 0;
    printf("fts_open: %s\n", fts_open(paths, 0, order) ? "open" : strerror(errno));
    if (chdir("/proc/self/cwd"))
        die("chdir");
}

static int refuse(const char *path, int error)
{
    printf("  glob: %s: %s%s\n", path, strerror(error), whose());
    return 1;
}

static int accept_error(const char *path, int error)
{
    printf("  glob: %s: %s%s\n", path, strerror(error), whose());
    return 0;
}

static void show_glob(const char *what, int result, glob_t *found)
{
    printf("%s: %d", what, result);
    if (result == 0) {
        printf(", %zu paths, %s to %s", found->gl_pathc, found->gl_pathv[0],
               found->gl_pathv[found->gl_pathc - 1]);
        globfree(found);
    }
    printf("\n");
}

#define GLOB(call) (slow_lookup_make(), show_glob(#call, call, &found))

static void globs(void)
{
    glob_t found;
    GLOB(glob("many/f*7", 0, NULL, &found));
    GLOB(glob("*/a*", GLOB_MARK, NULL, &found));
    GLOB(glob("none*", 0, NULL, &found));
    GLOB(glob("none*", GLOB_NOCHECK, NULL, &found));
    GLOB(glob("tree/*", 0, refuse, &found));
    GLOB(glob("link-to-loop/*", 0, refuse, &found));
    GLOB(glob("link-to-loop/*", 0, accept_error, &found));
    GLOB(glob("link-to-loop/*", GLOB_ERR, accept_error, &found));
}

static void make(const char *path)
{
    if (mkdir(path, 0755))
        die("%s", path);
}

static void probe(void)
{
    asker = self();
    make("many");
    make("tree");
    make("tree/a");
    make("tree/b");
    make("tree/b/deep");
    make("tree/b/deep/deeper");
    make("with");
    make_file("tree/a/one", 1);
    make_file("tree/b/deep/two", 2);
    make_file("tree/b/deep/deeper/three", 3);
    make_file("with/stop", 3);
    if (symlink("../b", "tree/a/up") || symlink("nowhere", "tree/dangling") ||
        symlink("link-to-loop", "link-to-loop"))
        die("symlink");
    for (int i = 0; i < FILES; i++) {
        char name[32];
        snprintf(name, sizeof name, "many/f%d", i);
        int fd = open(name, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
        if (fd < 0 || close(fd))
            die("%s", name);
    }
    slow_lookup_begin();
    for (int slow = 0; slow < 2; slow++) {
        lookups_are_slow = slow;
        entries("many");
        entries("tree");
        entries("none");
        entries("many/f1");
        raw();
        lists();
        walks();
        trees(NULL);
        lookups_are_slow = slow;
        trees(by_name);
        lookups_are_slow = slow;
        globs();
    }
    lookups_are_slow = 0;
    slow_lookup_end();
}
