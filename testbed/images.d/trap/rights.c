/* Says which ids it runs with, and tries to become root: "real effective saved" of uid and gid. */
#define _GNU_SOURCE
#include <stdio.h>
#include <unistd.h>

static void ids(const char *when)
{
	uid_t uid, euid, suid;
	gid_t gid, egid, sgid;

	getresuid(&uid, &euid, &suid);
	getresgid(&gid, &egid, &sgid);
	printf("%s: uid %u %u %u, gid %u %u %u\n", when, uid, euid, suid, gid, egid, sgid);
}

int main(void)
{
	ids("as it starts");
	if (setresgid(0, 0, 0) == 0 && setresuid(0, 0, 0) == 0)
		ids("and then");
	return 0;
}
