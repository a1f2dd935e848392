/* SPDX-License-Identifier: MIT */
/* files.h - cases with file locks, with splices between pipes, and with calls that a slow disk
 * would delay; the latter are held. */

#include <dirent.h>
#include <fts.h>
#include <ftw.h>
#include <glob.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/statfs.h>
#include <sys/statvfs.h>
#include <sys/xattr.h>

/* ---- File locks ----------------------------------------------------------------------------- */

static void hold_flock(void)
{
    open_file();
    must(flock(file, LOCK_EX) == 0, "flock");
    held = 1;
}

static void let_flock_go(void)
{
    if (held)
        must(flock(file, LOCK_UN) == 0, "flock");
    held = 0;
}

static int open_again(void)
{
    int fd = open(path, O_RDWR | O_CLOEXEC);
    must(fd >= 0, path);
    return fd;
}

static void flock_call(unsigned i)
{
    int fd = open_again();
    (void)i;
    must(CALL(int (*)(int, int), flock, fd, LOCK_EX) == 0, "flock");
    close(fd);
}

/* Another process holds the lock until the pipe ends, because a process does not wait for its own
 * lock. */
static void hold_lockf(void)
{
    open_file();
    make_pipe();
    int ready[2];
    must(pipe(ready) == 0, "pipe");
    pid_t child = fork();
    must(child >= 0, "fork");
    if (child == 0) {
        char byte = 'x';
        close(ends[1]);
        must(lockf(file, F_LOCK, 0) == 0 && write(ready[1], &byte, 1) == 1, "lockf");
        while (syscall(SYS_read, ends[0], &byte, 1) < 0)
            ;
        _exit(0);
    }
    char byte;
    must(read(ready[0], &byte, 1) == 1, "read");
}

static void lockf_call(unsigned i)
{
    (void)i;
    must(CALL(int (*)(int, int, off_t), lockf, file, F_LOCK, 0) == 0, "lockf");
}

static void fcntl_call(unsigned i)
{
    struct flock all = { .l_type = F_WRLCK };
    (void)i;
    must(CALL(int (*)(int, int, ...), fcntl, file, F_SETLKW, &all) == 0, "fcntl");
}

/* ---- Pipes ---------------------------------------------------------------------------------- */

static int other[2];

static void make_two_pipes(void)
{
    make_pipe();
    must(pipe2(other, O_CLOEXEC) == 0, "pipe2");
}

static void feed_and_drain(void)
{
    feed_pipe();
    drain(other[0]);
}

static void splice_call(unsigned i)
{
    (void)i;
    must(CALL(ssize_t(*)(int, off64_t *, int, off64_t *, size_t, unsigned), splice, ends[0], NULL,
              other[1], NULL, 1, 0) == 1,
         "splice");
}

static void tee_call(unsigned i)
{
    (void)i;
    must(CALL(ssize_t(*)(int, int, size_t, unsigned), tee, ends[0], other[1], 1, 0) == 1, "tee");
}

static void vmsplice_call(unsigned i)
{
    struct iovec part = { some, sizeof some };
    (void)i;
    must(CALL(ssize_t(*)(int, const struct iovec *, size_t, unsigned), vmsplice, ends[1], &part, 1,
              0) > 0,
         "vmsplice");
}

static void make_file_and_full_pipe(void)
{
    open_file();
    make_full_pipe();
}

static void sendfile_call(unsigned i)
{
    off_t at = 0;
    (void)i;
    must(CALL(ssize_t(*)(int, int, off_t *, size_t), sendfile, ends[1], file, &at, 8) > 0,
         "sendfile");
}

/* ---- Held: contents ------------------------------------------------------------------------- */

static void copy_file_range_call(unsigned i)
{
    off64_t from = 0, to = 100 + i;
    must(CALL(ssize_t(*)(int, off64_t *, int, off64_t *, size_t, unsigned), copy_file_range, file,
              &from, file, &to, 1, 0) == 1,
         "copy_file_range");
}

static void ftruncate_call(unsigned i)
{
    must(CALL(int (*)(int, off_t), ftruncate, file, i) == 0, "ftruncate");
}

static void truncate_call(unsigned i)
{
    must(CALL(int (*)(const char *, off_t), truncate, path, i) == 0, "truncate");
}

static void fallocate_call(unsigned i)
{
    must(CALL(int (*)(int, int, off_t, off_t), fallocate, file, 0, 0, i + 1) == 0, "fallocate");
}

static void posix_fallocate_call(unsigned i)
{
    check(CALL(int (*)(int, off_t, off_t), posix_fallocate, file, 0, i + 1), "posix_fallocate");
}

static void sync_call(unsigned i)
{
    (void)i;
    CALL(void (*)(void), sync, );
}

static void syncfs_call(unsigned i)
{
    (void)i;
    must(CALL(int (*)(int), syncfs, file) == 0, "syncfs");
}

static void sync_file_range_call(unsigned i)
{
    (void)i;
    must(CALL(int (*)(int, off64_t, off64_t, unsigned), sync_file_range, file, 0, 0,
              SYNC_FILE_RANGE_WRITE) == 0,
         "sync_file_range");
}

static void *mapped;

static void map_file(void)
{
    open_file();
    mapped = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    must(mapped != MAP_FAILED, "mmap");
}

static void msync_call(unsigned i)
{
    (void)i;
    must(CALL(int (*)(void *, size_t, int), msync, mapped, 4096, MS_SYNC) == 0, "msync");
}

static void mlock_call(unsigned i)
{
    (void)i;
    must(CALL(int (*)(const void *, size_t), mlock, mapped, 4096) == 0, "mlock");
}

static void mlock2_call(unsigned i)
{
    (void)i;
    must(CALL(int (*)(const void *, size_t, unsigned), mlock2, mapped, 4096, 0) == 0, "mlock2");
}

static void mlockall_call(unsigned i)
{
    (void)i;
    must(CALL(int (*)(int), mlockall, MCL_CURRENT) == 0, "mlockall");
}

/* ---- Held: names ---------------------------------------------------------------------------- */

static void make_named(void)
{
    make_one(path);
    for (int i = 0; i < TASKS; i++) {
        char name[32];
        snprintf(name, sizeof name, "old%d", i);
        make_one(name);
        snprintf(name, sizeof name, "dir%d", i);
        must(mkdir(name, 0700) == 0, name);
        snprintf(name, sizeof name, "link%d", i);
        must(symlink("file", name) == 0, name);
    }
}

#define NAME(prefix) \
    char name[32];   \
    snprintf(name, sizeof name, prefix "%u", i)

#define NAMES(from, to)                        \
    char name[32], new[32];                    \
    snprintf(name, sizeof name, from "%u", i); \
    snprintf(new, sizeof new, to "%u", i)

static void unlink_call(unsigned i)
{
    NAME("old");
    must(CALL(int (*)(const char *), unlink, name) == 0, "unlink");
}

static void unlinkat_call(unsigned i)
{
    NAME("old");
    must(CALL(int (*)(int, const char *, int), unlinkat, AT_FDCWD, name, 0) == 0, "unlinkat");
}

static void rmdir_call(unsigned i)
{
    NAME("dir");
    must(CALL(int (*)(const char *), rmdir, name) == 0, "rmdir");
}

static void mkdir_call(unsigned i)
{
    NAME("new");
    must(CALL(int (*)(const char *, mode_t), mkdir, name, 0700) == 0, "mkdir");
}

static void mkdirat_call(unsigned i)
{
    NAME("new");
    must(CALL(int (*)(int, const char *, mode_t), mkdirat, AT_FDCWD, name, 0700) == 0, "mkdirat");
}

static void rename_call(unsigned i)
{
    NAMES("old", "new");
    must(CALL(int (*)(const char *, const char *), rename, name, new) == 0, "rename");
}

static void renameat_call(unsigned i)
{
    NAMES("old", "new");
    must(CALL(int (*)(int, const char *, int, const char *), renameat, AT_FDCWD, name, AT_FDCWD,
              new) == 0,
         "renameat");
}

static void renameat2_call(unsigned i)
{
    NAMES("old", "new");
    must(CALL(int (*)(int, const char *, int, const char *, unsigned), renameat2, AT_FDCWD, name,
              AT_FDCWD, new, 0) == 0,
         "renameat2");
}

static void link_call(unsigned i)
{
    NAMES("old", "new");
    must(CALL(int (*)(const char *, const char *), link, name, new) == 0, "link");
}

static void linkat_call(unsigned i)
{
    NAMES("old", "new");
    must(CALL(int (*)(int, const char *, int, const char *, int), linkat, AT_FDCWD, name, AT_FDCWD,
              new, 0) == 0,
         "linkat");
}

static void symlink_call(unsigned i)
{
    NAME("new");
    must(CALL(int (*)(const char *, const char *), symlink, "file", name) == 0, "symlink");
}

static void symlinkat_call(unsigned i)
{
    NAME("new");
    must(CALL(int (*)(const char *, int, const char *), symlinkat, "file", AT_FDCWD, name) == 0,
         "symlinkat");
}

static void realpath_call(unsigned i)
{
    char resolved[PATH_MAX];
    NAME("link");
    must(CALL(char *(*)(const char *, char *), realpath, name, resolved) != NULL, "realpath");
}

static void realpath_chk_call(unsigned i)
{
    char resolved[PATH_MAX];
    NAME("link");
    must(((char *(*)(const char *, char *, size_t))named)(name, resolved, sizeof resolved) != NULL,
         "realpath_chk");
}

static void canonicalize_call(unsigned i)
{
    NAME("link");
    free(CALL(char *(*)(const char *), canonicalize_file_name, name));
}

/* ---- Held: directories ---------------------------------------------------------------------- */

static void opendir_call(unsigned i)
{
    NAME("dir");
    DIR *dir = CALL(DIR * (*)(const char *), opendir, name);
    must(dir && closedir(dir) == 0, "opendir");
}

static DIR *dirs[TASKS];

static void open_dirs(void)
{
    make_named();
    for (int i = 0; i < TASKS; i++)
        must((dirs[i] = opendir(".")) != NULL, "opendir");
}

static void readdir_call(unsigned i)
{
    must(CALL(struct dirent * (*)(DIR *), readdir, dirs[i]) != NULL, "readdir");
}

static void readdir_r_call(unsigned i)
{
    struct dirent entry, *result;
    check(((int (*)(DIR *, struct dirent *, struct dirent **))named)(dirs[i], &entry, &result),
          "readdir_r");
}

static void getdents_call(unsigned i)
{
    char data[4096];
    must(CALL(ssize_t(*)(int, void *, size_t), getdents64, dirfd(dirs[i]), data, sizeof data) > 0,
         "getdents64");
}

static void scandir_call(unsigned i)
{
    struct dirent **list;
    NAME("dir");
    must(CALL(int (*)(const char *, struct dirent ***, int (*)(const struct dirent *),
                      int (*)(const struct dirent **, const struct dirent **)),
              scandir, name, &list, NULL, alphasort) == 2,
         "scandir");
}

static void glob_call(unsigned i)
{
    glob_t found;
    NAME("di[r]");
    must(CALL(int (*)(const char *, int, int (*)(const char *, int), glob_t *), glob, name, 0, NULL,
              &found) == 0,
         "glob");
    globfree(&found);
}

static int see(const char *path, const struct stat *about, int flag, struct FTW *where)
{
    (void)path, (void)about, (void)flag, (void)where;
    return 0;
}

static void nftw_call(unsigned i)
{
    NAME("dir");
    must(CALL(int (*)(const char *, int (*)(const char *, const struct stat *, int, struct FTW *),
                      int, int),
              nftw, name, see, 4, FTW_PHYS) == 0,
         "nftw");
}

static const struct blocking files[] = {
    { "flock", hold_flock, flock_call, let_flock_go, 0, { 0 }, 0 },
    { "lockf lockf64", hold_lockf, lockf_call, close_writer, 0, { 0 }, 0 },
    { "fcntl fcntl64 __fcntl", hold_lockf, fcntl_call, close_writer, 0, { 0 }, 0 },
    { "splice", make_two_pipes, splice_call, feed_and_drain, 0, { 0 }, 0 },
    { "tee", make_two_pipes, tee_call, feed_and_drain, 0, { 0 }, 0 },
    { "vmsplice", make_full_pipe, vmsplice_call, drain_pipe, 0, { 0 }, 0 },
    { "sendfile sendfile64", make_file_and_full_pipe, sendfile_call, drain_pipe, 0, { 0 }, 0 },
    { "copy_file_range", open_file, copy_file_range_call, NULL, 0, { SYS_copy_file_range }, 1 },
    { "ftruncate ftruncate64", open_file, ftruncate_call, NULL, 0, { SYS_ftruncate }, 1 },
    { "truncate truncate64", open_file, truncate_call, NULL, 0, { SYS_truncate }, 1 },
    { "fallocate fallocate64", open_file, fallocate_call, NULL, 0, { SYS_fallocate }, 1 },
    { "posix_fallocate posix_fallocate64",
      open_file,
      posix_fallocate_call,
      NULL,
      0,
      { SYS_fallocate },
      1 },
    { "sync", NULL, sync_call, NULL, 0, { SYS_sync }, 0 },
    { "syncfs", open_file, syncfs_call, NULL, 0, { SYS_syncfs }, 0 },
    { "sync_file_range", open_file, sync_file_range_call, NULL, 0, { SYS_sync_file_range }, 1 },
    { "msync", map_file, msync_call, NULL, 0, { SYS_msync }, 0 },
    { "mlock", map_file, mlock_call, NULL, 0, { SYS_mlock }, 0 },
    { "mlock2", map_file, mlock2_call, NULL, 0, { SYS_mlock2, SYS_mlock }, 0 },
    { "mlockall", NULL, mlockall_call, NULL, 0, { SYS_mlockall }, 0 },
    { "unlink remove", make_named, unlink_call, NULL, 0, { SYS_unlink }, 1 },
    { "unlinkat", make_named, unlinkat_call, NULL, 0, { SYS_unlinkat }, 1 },
    { "rmdir", make_named, rmdir_call, NULL, 0, { SYS_rmdir }, 1 },
    { "mkdir", make_named, mkdir_call, NULL, 0, { SYS_mkdir }, 1 },
    { "mkdirat", make_named, mkdirat_call, NULL, 0, { SYS_mkdirat }, 1 },
    { "rename", make_named, rename_call, NULL, 0, { SYS_rename }, 1 },
    { "renameat", make_named, renameat_call, NULL, 0, { SYS_renameat }, 1 },
    { "renameat2", make_named, renameat2_call, NULL, 0, { SYS_renameat2, SYS_renameat }, 1 },
    { "link", make_named, link_call, NULL, 0, { SYS_link }, 1 },
    { "linkat", make_named, linkat_call, NULL, 0, { SYS_linkat }, 1 },
    { "symlink", make_named, symlink_call, NULL, 0, { SYS_symlink }, 1 },
    { "symlinkat", make_named, symlinkat_call, NULL, 0, { SYS_symlinkat }, 1 },
    { "realpath", make_named, realpath_call, NULL, 0, { SYS_readlink }, 1 },
    { "__realpath_chk", make_named, realpath_chk_call, NULL, 0, { SYS_readlink }, 1 },
    { "canonicalize_file_name", make_named, canonicalize_call, NULL, 0, { SYS_readlink }, 1 },
    { "opendir", make_named, opendir_call, NULL, 0, { SYS_openat }, 1 },
    { "readdir readdir64", open_dirs, readdir_call, NULL, 0, { SYS_getdents64 }, 1 },
    { "readdir_r readdir64_r", open_dirs, readdir_r_call, NULL, 0, { SYS_getdents64 }, 1 },
    { "getdents64", open_dirs, getdents_call, NULL, 0, { SYS_getdents64 }, 1 },
    { "scandir scandir64", make_named, scandir_call, NULL, 0, { SYS_openat }, 1 },
    { "glob glob64", make_named, glob_call, NULL, 0, { SYS_openat }, 1 },
    { "nftw nftw64", make_named, nftw_call, NULL, 0, { SYS_openat }, 0 },
};
