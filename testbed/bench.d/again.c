// again N PROGRAM: runs it N times, and says how many microseconds each run took. Static, so that
// nothing of its own start depends on where libraries are.
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

int main(int argc, char **argv) {
    if (argc != 3) return 2;
    for (int left = atoi(argv[1]); left > 0; left--) {
        struct timespec a, b;
        int status;
        clock_gettime(CLOCK_MONOTONIC, &a);
        pid_t child = vfork();
        if (child == 0) {
            execl(argv[2], argv[2], (char *)NULL);
            _exit(127);
        }
        if (child < 0 || waitpid(child, &status, 0) != child || status) return 1;
        clock_gettime(CLOCK_MONOTONIC, &b);
        printf("took %ld\n", (b.tv_sec - a.tv_sec) * 1000000 + (b.tv_nsec - a.tv_nsec) / 1000);
    }
    return 0;
}
