/* slowfs MICROSECONDS BACKING MOUNTPOINT [FUSE-OPTION…]: shows the directory BACKING, each operation
 * delayed as if a server were that far away. For testbed/bench cache; built with libfuse3-dev. */
#define _GNU_SOURCE
#define FUSE_USE_VERSION 31
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <fuse3/fuse.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/fsuid.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <time.h>
#include <unistd.h>

static int backing;
static long delay;

static void travel(void)
{
	struct timespec there_and_back = { delay / 1000000, delay % 1000000 * 1000 };
	/* Else the kernel may add 50 µs of its own. */
	prctl(PR_SET_TIMERSLACK, 1UL);
	nanosleep(&there_and_back, NULL);
}

static const char *below(const char *path) { return path[1] ? path + 1 : "."; }

/* Every operation is a journey and one system call below the backing directory. */
#define ANSWER(call) do { travel(); return (call) == -1 ? -errno : 0; } while (0)

static int slow_getattr(const char *path, struct stat *st, struct fuse_file_info *fi)
{
	if (fi)
		ANSWER(fstat(fi->fh, st));
	ANSWER(fstatat(backing, below(path), st, AT_SYMLINK_NOFOLLOW));
}

static int slow_readdir(const char *path, void *buffer, fuse_fill_dir_t fill, off_t offset,
			struct fuse_file_info *fi, enum fuse_readdir_flags flags)
{
	(void)offset, (void)fi, (void)flags;
	travel();
	int fd = openat(backing, below(path), O_RDONLY | O_DIRECTORY);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	if (!dir)
		return -errno;
	for (struct dirent *entry; (entry = readdir(dir));)
		fill(buffer, entry->d_name, NULL, 0, 0);
	closedir(dir);
	return 0;
}

static int opened(const char *path, int flags, mode_t mode, struct fuse_file_info *fi)
{
	int fd = openat(backing, below(path), flags & ~O_DIRECT, mode);
	if (fd < 0)
		return -errno;
	fi->fh = fd;
	return 0;
}

static int slow_open(const char *path, struct fuse_file_info *fi)
{
	travel();
	return opened(path, fi->flags, 0, fi);
}

static int slow_create(const char *path, mode_t mode, struct fuse_file_info *fi)
{
	travel();
	int error = opened(path, fi->flags | O_CREAT, mode, fi);
	if (!error && fchown(fi->fh, fuse_get_context()->uid, fuse_get_context()->gid) == -1)
		return -errno;
	return error;
}

static int slow_read(const char *path, char *to, size_t size, off_t at, struct fuse_file_info *fi)
{
	(void)path;
	travel();
	ssize_t done = pread(fi->fh, to, size, at);
	return done == -1 ? -errno : done;
}

static int slow_write(const char *path, const char *from, size_t size, off_t at, struct fuse_file_info *fi)
{
	(void)path;
	travel();
	ssize_t done = pwrite(fi->fh, from, size, at);
	return done == -1 ? -errno : done;
}

static int slow_truncate(const char *path, off_t size, struct fuse_file_info *fi)
{
	travel();
	int fd = fi ? (int)fi->fh : openat(backing, below(path), O_WRONLY);
	int done = fd == -1 ? -1 : ftruncate(fd, size), error = errno;
	if (!fi && fd != -1)
		close(fd);
	return done == -1 ? -error : 0;
}

static int slow_fsync(const char *path, int data, struct fuse_file_info *fi)
{
	(void)path;
	ANSWER(data ? fdatasync(fi->fh) : fsync(fi->fh));
}

static int slow_release(const char *path, struct fuse_file_info *fi)
{
	(void)path;
	ANSWER(close(fi->fh));
}

static int slow_mkdir(const char *path, mode_t mode)
{
	travel();
	if (mkdirat(backing, below(path), mode) == -1)
		return -errno;
	ANSWER(fchownat(backing, below(path), fuse_get_context()->uid, fuse_get_context()->gid, 0));
}

static int slow_rename(const char *from, const char *to, unsigned int flags)
{
	ANSWER(renameat2(backing, below(from), backing, below(to), flags));
}

static int slow_chown(const char *path, uid_t uid, gid_t gid, struct fuse_file_info *fi)
{
	(void)fi;
	ANSWER(fchownat(backing, below(path), uid, gid, AT_SYMLINK_NOFOLLOW));
}

static int slow_unlink(const char *path) { ANSWER(unlinkat(backing, below(path), 0)); }
static int slow_rmdir(const char *path) { ANSWER(unlinkat(backing, below(path), AT_REMOVEDIR)); }
static int slow_chmod(const char *path, mode_t mode, struct fuse_file_info *fi)
{
	(void)fi;
	ANSWER(fchmodat(backing, below(path), mode, 0));
}
static int slow_utimens(const char *path, const struct timespec times[2], struct fuse_file_info *fi)
{
	(void)fi;
	ANSWER(utimensat(backing, below(path), times, AT_SYMLINK_NOFOLLOW));
}
static int slow_statfs(const char *path, struct statvfs *st)
{
	(void)path;
	ANSWER(fstatvfs(backing, st));
}

static const struct fuse_operations operations = {
	.getattr = slow_getattr, .readdir = slow_readdir, .open = slow_open, .create = slow_create,
	.read = slow_read, .write = slow_write, .truncate = slow_truncate, .fsync = slow_fsync,
	.release = slow_release, .mkdir = slow_mkdir, .rename = slow_rename, .chown = slow_chown,
	.unlink = slow_unlink, .rmdir = slow_rmdir, .chmod = slow_chmod, .utimens = slow_utimens,
	.statfs = slow_statfs,
};

int main(int argc, char **argv)
{
	if (argc < 4) {
		fprintf(stderr, "usage: slowfs MICROSECONDS BACKING MOUNTPOINT [FUSE-OPTION...]\n");
		return 2;
	}
	delay = atol(argv[1]);
	backing = open(argv[2], O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (backing == -1) {
		perror(argv[2]);
		return 1;
	}
	umask(0);
	argv[2] = argv[0];
	return fuse_main(argc - 2, argv + 2, &operations, NULL);
}
