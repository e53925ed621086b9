/*
 * A Slurm that fits on a page: the functions that a SPANK plugin calls, and a main() that calls the
 * plugin as srun, sbatch, slurmd, slurmstepd and its prolog process do. Commands come on standard
 * input, one a line; what Slurm would log or be told goes to standard output.
 *
 *   context local|allocator|remote|slurmd|script    which program this is
 *   arg WORD             a word behind the plugin in plugstack.conf
 *   item NAME NUMBER     uid gid job step node nnodes tasks ntasks task
 *   env NAME=VALUE       the job's environment (remote), else the process's
 *   load                 dlopen, and look at what Slurm looks at
 *   call HOOK            call slurm_spank_HOOK, print its answer
 *   rank N HOOK...       fork, and call the hooks as task N does, until one fails
 *   give NAME=VALUE      an option is given
 *   component            the next one of a heterogeneous job: options that the environment has
 *   show env|control NAME
 *   count                how many files are open, how many mounts there are
 *   unload
 */
#define _GNU_SOURCE
#include <ctype.h>
#include <dirent.h>
#include <dlfcn.h>
#include <slurm/spank.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <unistd.h>

struct spank_handle { const char *hook; };

static spank_context_t context = S_CTX_ERROR;
static int in_rank, has_job;
static char *args[16];
static int arg_count;
static uint32_t uid, gid, job, step, node, nnodes = 1, tasks = 1, ntasks = 1, task;
static char *env[256], *control[256];
static struct spank_option options[16];
static int option_count;
static char *option_value[16];
static int option_found[16];
static void *plugin;
static char *plugin_path;

#define LOG(name, prefix) \
	void name(const char *format, ...) \
	{ \
		va_list list; \
		va_start(list, format); \
		fputs(prefix, stdout); \
		vprintf(format, list); \
		putchar('\n'); \
		va_end(list); \
	}
LOG(slurm_error, "error: ")
LOG(slurm_info, "info: ")
LOG(slurm_verbose, "verbose: ")
LOG(slurm_debug, "debug: ")
LOG(slurm_spank_log, "user: ")

long slurm_api_version(void)
{
	const char *number = getenv("FAKE_API");
	return (number ? atol(number) : 38) << 16;
}

spank_context_t spank_context(void) { return context; }
const char *spank_strerror(spank_err_t e) { (void) e; return "fake"; }

static char **find(char **list, const char *name)
{
	size_t n = strlen(name);
	for (; *list; list++)
		if (!strncmp(*list, name, n) && (*list)[n] == '=')
			break;
	return list;
}

static void put(char **list, const char *name, const char *value)
{
	char **at = find(list, name);
	if (asprintf(at, "%s=%s", name, value) < 0)
		abort();
}

static spank_err_t get(char **list, const char *name, char *buffer, int size)
{
	char *entry = *find(list, name);
	if (!entry)
		return ESPANK_ENV_NOEXIST;
	entry += strlen(name) + 1;
	snprintf(buffer, size, "%s", entry);
	return strlen(entry) >= (size_t) size ? ESPANK_NOSPACE : ESPANK_SUCCESS;
}

static void drop(char **list, const char *name)
{
	char **at = find(list, name);
	for (; *at; at++)
		at[0] = at[1];
}

#define REMOTE_ONLY if (context != S_CTX_REMOTE) return ESPANK_NOT_REMOTE
#define COMMAND_ONLY \
	if (context != S_CTX_LOCAL && context != S_CTX_ALLOCATOR) return ESPANK_NOT_LOCAL

spank_err_t spank_getenv(spank_t s, const char *n, char *b, int l) { REMOTE_ONLY; return get(env, n, b, l); }
spank_err_t spank_setenv(spank_t s, const char *n, const char *v, int o)
{ REMOTE_ONLY; if (!o && *find(env, n)) return ESPANK_ENV_EXISTS; put(env, n, v); return 0; }
spank_err_t spank_unsetenv(spank_t s, const char *n) { REMOTE_ONLY; drop(env, n); return 0; }
spank_err_t spank_job_control_getenv(spank_t s, const char *n, char *b, int l)
{ COMMAND_ONLY; return get(control, n, b, l); }
spank_err_t spank_job_control_setenv(spank_t s, const char *n, const char *v, int o)
{ COMMAND_ONLY; put(control, n, v); return 0; }
spank_err_t spank_job_control_unsetenv(spank_t s, const char *n) { COMMAND_ONLY; drop(control, n); return 0; }

spank_err_t spank_option_register(spank_t s, struct spank_option *o)
{
	if (strcmp(s->hook, "init"))
		return ESPANK_BAD_ARG;
	struct spank_option copy = { strdup(o->name), o->arginfo ? strdup(o->arginfo) : NULL,
		strdup(o->usage), o->has_arg, o->val, o->cb };
	options[option_count++] = copy;
	printf("option --%s\n", o->name);
	return ESPANK_SUCCESS;
}

spank_err_t spank_option_getopt(spank_t s, struct spank_option *o, char **value)
{
	char name[256];
	if (!strcmp(s->hook, "init") || !strcmp(s->hook, "init_post_opt") || !strcmp(s->hook, "exit"))
		return ESPANK_NOT_AVAIL;
	*value = NULL;
	for (int i = 0; i < option_count; i++)
		if (!strcmp(options[i].name, o->name)) {
			*value = option_value[i];
			return option_found[i] ? ESPANK_SUCCESS : ESPANK_ERROR;
		}
	snprintf(name, sizeof name, "SPANK__SLURM_SPANK_OPTION_%s_%s",
		 (char *) dlsym(plugin, "plugin_name"), o->name);
	*value = getenv(name);
	return *value ? ESPANK_SUCCESS : ESPANK_ERROR;
}

static spank_err_t valid(spank_item_t item)
{
	switch (context) {
	case S_CTX_REMOTE:
		if (item >= S_TASK_ID && item <= S_TASK_PID && !in_rank)
			return ESPANK_NOT_TASK;
		return 0;
	case S_CTX_JOB_SCRIPT:
		return item == S_JOB_UID || item == S_JOB_GID || item == S_JOB_ID ? 0 : ESPANK_NOT_AVAIL;
	case S_CTX_LOCAL:
		return has_job ? 0 : ESPANK_NOT_AVAIL;
	default:
		return ESPANK_NOT_AVAIL;
	}
}

spank_err_t spank_get_item(spank_t s, spank_item_t item, ...)
{
	static char *argv[] = { "true", NULL };
	static gid_t gids[2];
	spank_err_t rc = item >= S_SLURM_VERSION && item <= S_SLURM_VERSION_MICRO ? 0 : valid(item);
	va_list list;
	if (rc)
		return rc;
	va_start(list, item);
	switch (item) {
	case S_JOB_UID: *va_arg(list, uid_t *) = uid; break;
	case S_JOB_GID: *va_arg(list, gid_t *) = gid; break;
	case S_JOB_ID: *va_arg(list, uint32_t *) = job; break;
	case S_JOB_STEPID: *va_arg(list, uint32_t *) = step; break;
	case S_JOB_NNODES: *va_arg(list, uint32_t *) = nnodes; break;
	case S_JOB_NODEID: *va_arg(list, uint32_t *) = node; break;
	case S_JOB_LOCAL_TASK_COUNT: *va_arg(list, uint32_t *) = tasks; break;
	case S_JOB_TOTAL_TASK_COUNT: *va_arg(list, uint32_t *) = ntasks; break;
	case S_SLURM_RESTART_COUNT:
	case S_JOB_ARRAY_ID:
	case S_JOB_ARRAY_TASK_ID: *va_arg(list, uint32_t *) = 0; break;
	case S_TASK_ID: *va_arg(list, int *) = (int) task; break;
	case S_TASK_GLOBAL_ID: *va_arg(list, uint32_t *) = task; break;
	case S_TASK_PID: *va_arg(list, pid_t *) = getpid(); break;
	case S_JOB_ARGV: *va_arg(list, int *) = 1; *va_arg(list, char ***) = argv; break;
	case S_JOB_ENV: *va_arg(list, char ***) = context == S_CTX_REMOTE ? env : NULL; break;
	case S_JOB_SUPPLEMENTARY_GIDS:
		gids[0] = gid;
		gids[1] = 100;
		*va_arg(list, gid_t **) = gids;
		*va_arg(list, int *) = 2;
		break;
	case S_SLURM_VERSION: *va_arg(list, char **) = "22.05.8"; break;
	default: rc = ESPANK_NOT_AVAIL;
	}
	va_end(list);
	return rc;
}

static char *option_variable(const struct spank_option *option)
{
	char *name, *c;
	if (asprintf(&name, "_SLURM_SPANK_OPTION_%s_%s", (char *) dlsym(plugin, "plugin_name"),
		     option->name) < 0)
		abort();
	for (c = name; *c; c++)
		if (!isalnum(*c))
			*c = '_';
	return name;
}

/* What the job shall carry: for slurmctld, and from salloc and sbatch for commands in the job. */
static void carry_options(void)
{
	for (int i = 0; i < option_count; i++)
		if (option_found[i])
			put(control, option_variable(&options[i]), option_value[i]);
}

static void export_control(void)
{
	for (char **entry = control; *entry; entry++) {
		char *whole;
		if (asprintf(&whole, "SLURM_SPANK_%s", *entry) < 0)
			abort();
		putenv(whole);
	}
}

static int call(const char *hook)
{
	char symbol[128];
	struct spank_handle handle = { hook };
	int is_post_opt = !strcmp(hook, "init_post_opt");
	snprintf(symbol, sizeof symbol, "slurm_spank_%s", hook);
	spank_f *function = (spank_f *) dlsym(plugin, symbol);
	if (!function) {
		printf("%s is absent\n", hook);
		return 0;
	}
	has_job = has_job || !strcmp(hook, "local_user_init");
	if (is_post_opt && (context == S_CTX_LOCAL || context == S_CTX_ALLOCATOR))
		carry_options();
	int rc = function(&handle, arg_count, args);
	printf("%s = %d\n", hook, rc);
	if (is_post_opt && !rc && context == S_CTX_ALLOCATOR)
		export_control();
	return rc;
}

static void load(void)
{
	plugin = dlopen(plugin_path, RTLD_LAZY);
	if (!plugin) {
		printf("cannot load: %s\n", dlerror());
		exit(1);
	}
	uint32_t *version = dlsym(plugin, "plugin_version");
	printf("loaded %s %s %02u.%02u\n", (char *) dlsym(plugin, "plugin_name"),
	       (char *) dlsym(plugin, "plugin_type"), *version >> 16, *version >> 8 & 0xff);
}

static void take(int i, const char *value)
{
	int rc = options[i].cb(options[i].val, value, context == S_CTX_REMOTE);
	printf("--%s = %d\n", options[i].name, rc);
	if (!rc) {
		option_value[i] = strdup(value);
		option_found[i] = 1;
	}
}

static void give(char *text)
{
	char *value = strchr(text, '=');
	*value++ = '\0';
	for (int i = 0; i < option_count; i++)
		if (!strcmp(options[i].name, text))
			return take(i, value);
	printf("unrecognized option --%s\n", text);
}

static void component(void)
{
	for (int i = 0; i < option_count; i++) {
		char *name, *value;
		if (asprintf(&name, "SLURM_SPANK_%s", option_variable(&options[i])) < 0)
			abort();
		if ((value = getenv(name)))
			take(i, value);
	}
}

static void rank(char *words)
{
	char *word = strtok(words, " ");
	task = atoi(word);
	fflush(stdout);
	pid_t child = fork();
	if (!child) {
		in_rank = 1;
		while ((word = strtok(NULL, " ")))
			if (call(word) < 0)
				break;
		fflush(stdout);
		_exit(word ? 1 : 0);
	}
	int status;
	waitpid(child, &status, 0);
	if (WIFSIGNALED(status))
		printf("rank %u: signal %d\n", task, WTERMSIG(status));
	else
		printf("rank %u: exit %d\n", task, WEXITSTATUS(status));
}

static void item(char *words)
{
	static const struct { const char *name; uint32_t *number; } items[] = {
		{ "uid", &uid }, { "gid", &gid }, { "job", &job }, { "step", &step }, { "node", &node },
		{ "nnodes", &nnodes }, { "tasks", &tasks }, { "ntasks", &ntasks }, { "task", &task },
	};
	char *number = strchr(words, ' ');
	*number++ = '\0';
	for (size_t i = 0; i < sizeof items / sizeof *items; i++)
		if (!strcmp(items[i].name, words))
			*items[i].number = strtoul(number, NULL, 0);
}

static void enter(const char *name)
{
	static const char *names[] = { "error", "local", "remote", "allocator", "slurmd", "script" };
	for (unsigned i = 0; i < 6; i++)
		if (!strcmp(names[i], name))
			context = (spank_context_t) i;
}

static void show(char *words)
{
	char *name = strchr(words, ' ');
	*name++ = '\0';
	char **list = !strcmp(words, "control") ? control : env;
	const char *value = NULL;
	if (list == env && context != S_CTX_REMOTE)
		value = getenv(name);
	else if (*find(list, name))
		value = *find(list, name) + strlen(name) + 1;
	printf("%s %s=%s\n", words, name, value ? value : "(unset)");
}

static void count(void)
{
	int files = -3, mounts = 0, c; /* ".", ".." and the directory itself */
	DIR *dir = opendir("/proc/self/fd");
	while (readdir(dir))
		files++;
	closedir(dir);
	FILE *table = fopen("/proc/self/mountinfo", "r");
	while ((c = getc(table)) != EOF)
		mounts += c == '\n';
	fclose(table);
	printf("%d files, %d mounts\n", files, mounts);
}

int main(int argc, char **argv)
{
	static char line[1 << 18];
	if (argc != 2)
		return 2;
	plugin_path = argv[1];
	while (fgets(line, sizeof line, stdin)) {
		line[strcspn(line, "\n")] = '\0';
		char *rest = strchr(line, ' ');
		if (rest)
			*rest++ = '\0';
		if (!strcmp(line, "context")) enter(rest);
		else if (!strcmp(line, "arg")) args[arg_count++] = strdup(rest);
		else if (!strcmp(line, "item")) item(rest);
		else if (!strcmp(line, "env") && context != S_CTX_REMOTE) putenv(strdup(rest));
		else if (!strcmp(line, "env")) {
			char *value = strchr(rest, '=');
			*value++ = '\0';
			put(env, rest, value);
		}
		else if (!strcmp(line, "load")) load();
		else if (!strcmp(line, "call")) call(rest);
		else if (!strcmp(line, "rank")) rank(rest);
		else if (!strcmp(line, "give")) give(rest);
		else if (!strcmp(line, "component")) component();
		else if (!strcmp(line, "show")) show(rest);
		else if (!strcmp(line, "count")) count();
		else if (!strcmp(line, "sh")) printf("sh: %d\n", system(rest));
		else if (!strcmp(line, "unload")) { dlclose(plugin); option_count = 0; }
		else { printf("what is %s?\n", line); return 2; }
		fflush(stdout);
	}
	return 0;
}
