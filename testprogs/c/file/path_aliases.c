/* SPDX-License-Identifier: MIT */
/* path_aliases.c - makes calls on files under every name that a binary may import, each once; most
 * of them fail. */
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <fts.h>

#include "probe.h"

/* All of these functions take their arguments in registers. */
typedef long function_t(long, long, long, long, long, long);

static char nowhere[] = "no/ne", room[8192];

static void *find(const char *name) { return dlsym(RTLD_DEFAULT, name); }

static long called(const char *name, long a, long b, long c, long d, long e)
{
    function_t *function = (function_t *)find(name);
    if (!function) {
        printf("%s: not in this libc\n", name);
        return -1;
    }
    printf("%s: called\n", name);
    return function(a, b, c, d, e, 0);
}

#define EACH(name, ...) \
    for (const char *const *name = (const char *const[]){ __VA_ARGS__, NULL }; *name; name++)

static void probe(void)
{
    long path = (long)nowhere, into = (long)room;
    EACH(name, "stat", "stat64", "lstat", "lstat64", "access", "euidaccess", "eaccess", "statfs",
         "statfs64", "__statfs", "statvfs", "statvfs64", "realpath", "canonicalize_file_name",
         "chdir", "unlink", "rmdir", "remove", "rename", "link", "symlink", "mkdir", "mkfifo",
         "chmod", "lchmod", "opendir", "truncate", "truncate64", "mkstemp", "mkstemp64", "mkdtemp",
         "mktemp")
    called(*name, path, into, 0, 0, 0);
    EACH(name, "readlink", "utime", "utimes", "lutimes", "chown", "lchown", "mknod", "listxattr",
         "llistxattr", "removexattr", "lremovexattr", "mkostemp", "mkostemp64", "mkstemps",
         "mkstemps64", "mkostemps", "mkostemps64", "scandir", "scandir64", "glob", "glob64", "ftw",
         "ftw64", "nftw", "nftw64")
    called(*name, path, 0, 0, into, 0);
    EACH(name, "getxattr", "lgetxattr", "setxattr", "lsetxattr")
    called(*name, path, into, into, 0, 0);
    called("__readlink_chk", path, into, 10, 100, 0);
    called("__realpath_chk", path, into, sizeof room, 0, 0);
    EACH(name, "__xstat", "__xstat64", "__lxstat", "__lxstat64")
    called(*name, 1, path, into, 0, 0);
    called("__xmknod", 0, path, 0600, into, 0);
    called("__xmknodat", 0, -1, path, 0600, into);
    EACH(name, "fstat", "fstat64", "fstatfs", "fstatfs64", "fstatvfs", "fstatvfs64", "fgetxattr",
         "flistxattr", "fchdir", "fchmod", "fchown", "futimes", "futimens", "fsetxattr",
         "fremovexattr", "ftruncate", "ftruncate64", "fallocate", "fallocate64", "posix_fallocate",
         "posix_fallocate64", "posix_fadvise", "posix_fadvise64", "readahead", "syncfs",
         "sync_file_range", "flock", "lockf", "lockf64", "fdopendir", "getdents64", "getdirentries",
         "getdirentries64", "copy_file_range", "sendfile", "sendfile64", "splice", "tee",
         "vmsplice", "open_by_handle_at")
    called(*name, -1, into, 0, 0, 0);
    EACH(name, "__fxstat", "__fxstat64")
    called(*name, 1, -1, into, 0, 0);
    EACH(name, "fstatat", "fstatat64", "faccessat", "readlinkat", "name_to_handle_at", "unlinkat",
         "renameat", "renameat2", "linkat", "mkdirat", "mkfifoat", "mknodat", "fchmodat",
         "fchownat", "futimesat", "utimensat")
    called(*name, -1, path, into, path, 0);
    EACH(name, "__fxstatat", "__fxstatat64")
    called(*name, 1, -1, path, into, 0);
    called("__readlinkat_chk", -1, path, into, 10, 100);
    called("statx", -1, path, 0, 0, into);
    called("symlinkat", path, -1, path, 0, 0);
    EACH(name, "scandirat", "scandirat64")
    called(*name, -1, path, into, 0, 0);
    called("msync", 0, 0, 4, 0, 0);
    called("sync", 0, 0, 0, 0, 0);
    called("tmpnam_r", into, 0, 0, 0, 0);
    called("tmpnam", into, 0, 0, 0, 0);
    free((void *)called("tempnam", path, 0, 0, 0, 0));

    DIR *dir = opendir(".");
    if (!dir)
        die("opendir");
    called("readdir", (long)dir, 0, 0, 0, 0);
    called("readdir64", (long)dir, 0, 0, 0, 0);
    struct dirent *entry;
    called("readdir_r", (long)dir, into, (long)&entry, 0, 0);
    called("readdir64_r", (long)dir, into, (long)&entry, 0, 0);
    called("closedir", (long)dir, 0, 0, 0, 0);
    char *paths[] = { (char[]){ "." }, NULL };
    EACH(name, "fts", "fts64")
    {
        char of_tree[4][32];
        for (int i = 0; i < 4; i++)
            sprintf(of_tree[i], "%s_%s", *name,
                    (const char *[]){ "open", "read", "children", "close" }[i]);
        long tree = called(of_tree[0], (long)paths, FTS_PHYSICAL | FTS_NOCHDIR, 0, 0, 0);
        called(of_tree[1], tree, 0, 0, 0, 0);
        called(of_tree[2], tree, 0, 0, 0, 0);
        called(of_tree[3], tree, 0, 0, 0, 0);
    }
}
