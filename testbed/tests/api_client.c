/*
 * A client of libslurm that knows nothing of SPANK: submits a batch job with the given entries of
 * spank_job_env, or changes that of a job. Built against the headers only; the library is that of the
 * machine it runs on.
 * usage: api_client LIBRARY submit|JOB [NAME=VALUE…]
 */
#include <dlfcn.h>
#include <slurm/slurm.h>
#include <slurm/slurm_errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#if SLURM_VERSION_NUMBER >= SLURM_VERSION_NUM(25, 11, 0)
#define JOB_ID(message) ((message)->step_id.job_id)
#else
#define JOB_ID(message) ((message)->job_id)
#endif

int main(int argc, char **argv)
{
	static char *env[] = { "PATH=/usr/bin:/bin" };
	void *library = argc > 2 ? dlopen(argv[1], RTLD_NOW | RTLD_GLOBAL) : NULL;
	if (!library) {
		fprintf(stderr, "%s\n", dlerror());
		return 2;
	}
	void (*start)(const char *) = (void (*)(const char *)) dlsym(library, "slurm_init");
	void (*init)(job_desc_msg_t *) =
		(void (*)(job_desc_msg_t *)) dlsym(library, "slurm_init_job_desc_msg");
	int (*submit)(job_desc_msg_t *, submit_response_msg_t **) =
		(int (*)(job_desc_msg_t *, submit_response_msg_t **)) dlsym(library, "slurm_submit_batch_job");
	int (*update)(job_desc_msg_t *) = (int (*)(job_desc_msg_t *)) dlsym(library, "slurm_update_job");
	if (start)
		start(NULL);
	job_desc_msg_t job;
	submit_response_msg_t *answer = NULL;
	init(&job);
	job.spank_job_env = argv + 3;
	job.spank_job_env_size = argc - 3;
	if (strcmp(argv[2], "submit")) {
		JOB_ID(&job) = atoi(argv[2]);
		int refused = update(&job) != SLURM_SUCCESS;
		printf(refused ? "refused\n" : "changed\n");
		return refused;
	}
	job.user_id = getuid();
	job.group_id = getgid();
	job.name = "api";
	job.min_nodes = 1;
	job.work_dir = "/";
	job.std_out = job.std_err = job.std_in = "/dev/null";
	job.script = "#!/bin/sh\ntrue\n";
	job.environment = env;
	job.env_size = 1;
	if (submit(&job, &answer) != SLURM_SUCCESS) {
		printf("refused\n");
		return 1;
	}
	printf("Submitted batch job %u\n", JOB_ID(answer));
	return 0;
}
