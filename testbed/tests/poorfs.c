/* poorfs FAULT BACKING MOUNTPOINT [FUSE-OPTION…]: the directory BACKING, as storage that is not fit for a
 * per-node cache would show it. FAULT is one of:
 *   solid   files have no holes: all of one takes room as soon as it is that long
 *   long    files have holes, but are said to be stored as they are long, as CephFS does
 *   quota   no more than 64 KiB can be written into a file
 *   dying   after the first fsync nothing can be read or written any more
 * For testbed/tests/cache.bats. */
#define main slow_main
#include "../bench.d/slowfs.c"
#undef main

static const char *fault;
static off_t taken;
static int synced;

static int is(const char *what) { return !strcmp(fault, what); }

static int poor_getattr(const char *path, struct stat *st, struct fuse_file_info *fi)
{
	int error = slow_getattr(path, st, fi);
	if (!error && S_ISREG(st->st_mode) && (is("solid") || is("long")))
		st->st_blocks = st->st_size / 512;
	return error;
}

static int poor_truncate(const char *path, off_t size, struct fuse_file_info *fi)
{
	taken = size;
	return slow_truncate(path, size, fi);
}

static int poor_statfs(const char *path, struct statvfs *st)
{
	int error = slow_statfs(path, st);
	if (!error && is("solid"))
		st->f_bavail -= taken / st->f_frsize;
	return error;
}

static int poor_create(const char *path, mode_t mode, struct fuse_file_info *fi)
{
	fi->direct_io = is("dying");
	return slow_create(path, mode, fi);
}

static int poor_read(const char *path, char *to, size_t size, off_t at, struct fuse_file_info *fi)
{
	return is("dying") && synced ? -EIO : slow_read(path, to, size, at, fi);
}

static int poor_write(const char *path, const char *from, size_t size, off_t at, struct fuse_file_info *fi)
{
	if (is("quota") && at + size > 64 << 10)
		return -EDQUOT;
	return is("dying") && synced ? -EIO : slow_write(path, from, size, at, fi);
}

static int poor_fsync(const char *path, int data, struct fuse_file_info *fi)
{
	synced = 1;
	return slow_fsync(path, data, fi);
}

int main(int argc, char **argv)
{
	struct fuse_operations poor = operations;
	poor.getattr = poor_getattr;
	poor.truncate = poor_truncate;
	poor.statfs = poor_statfs;
	poor.create = poor_create;
	poor.read = poor_read;
	poor.write = poor_write;
	poor.fsync = poor_fsync;
	if (argc < 4) {
		fprintf(stderr, "usage: poorfs FAULT BACKING MOUNTPOINT [FUSE-OPTION...]\n");
		return 2;
	}
	fault = argv[1];
	backing = open(argv[2], O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (backing == -1) {
		perror(argv[2]);
		return 1;
	}
	umask(0);
	argv[2] = argv[0];
	return fuse_main(argc - 2, argv + 2, &poor, NULL);
}
