/* What MPI promises, tried by every rank with all others; rank 0 tells what was right, line by line.
 * Whatever is wrong ends all of them with a message. With -v each rank tells where it runs, and nothing is tried. */
#include <mpi.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Too much for the buffers that ranks have for short messages: memory is copied from process to process. */
enum { MANY = 1 << 16 };

static int rank, size;

static void must(int right, const char *what)
{
	if (right)
		return;
	fprintf(stderr, "rank %d of %d: WRONG: %s\n", rank, size, what);
	MPI_Abort(MPI_COMM_WORLD, 1);
}

/* One number of each rank, and many, summed over all. */
static void allreduce(void)
{
	int all, i, *mine = malloc(MANY * sizeof *mine), *sum = malloc(MANY * sizeof *sum);

	MPI_Allreduce(&rank, &all, 1, MPI_INT, MPI_SUM, MPI_COMM_WORLD);
	must(all == size * (size - 1) / 2, "allreduce of one number");
	for (i = 0; i < MANY; i++)
		mine[i] = rank + i;
	MPI_Allreduce(mine, sum, MANY, MPI_INT, MPI_SUM, MPI_COMM_WORLD);
	for (i = 0; i < MANY; i++)
		must(sum[i] == all + size * i, "allreduce of many numbers");
	if (rank == 0)
		printf("allreduce: the ranks' sum is %d\n", all);
	free(mine);
	free(sum);
}

/* A message goes from rank to rank and comes back; each adds one to each number of it. */
static void ring(void)
{
	int next = (rank + 1) % size, before = (rank + size - 1) % size, i;
	int *token = calloc(MANY, sizeof *token), *first = calloc(MANY, sizeof *first);
	MPI_Request sent = MPI_REQUEST_NULL;

	/* A rank that is alone sends to itself. */
	if (rank == 0)
		MPI_Isend(first, MANY, MPI_INT, next, 1, MPI_COMM_WORLD, &sent);
	MPI_Recv(token, MANY, MPI_INT, before, 1, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
	MPI_Wait(&sent, MPI_STATUS_IGNORE);
	for (i = 0; i < MANY; i++)
		must(token[i]++ == (rank ? rank - 1 : size - 1), "a message of another rank");
	if (rank)
		MPI_Send(token, MANY, MPI_INT, next, 1, MPI_COMM_WORLD);
	else
		printf("point to point: a message went round %d ranks\n", token[0]);
	free(token);
	free(first);
}

/* Ranks of a node write into memory that all of them see, and read what the others wrote. */
static void shared_memory(void)
{
	MPI_Comm node;
	MPI_Win window;
	MPI_Aint bytes;
	int *mine, *theirs, unit, i, here, heads, is_head, *neighbour;

	MPI_Comm_split_type(MPI_COMM_WORLD, MPI_COMM_TYPE_SHARED, rank, MPI_INFO_NULL, &node);
	MPI_Comm_size(node, &here);
	MPI_Comm_rank(node, &i);
	is_head = i == 0;
	MPI_Allreduce(&is_head, &heads, 1, MPI_INT, MPI_SUM, MPI_COMM_WORLD);
	neighbour = malloc(here * sizeof *neighbour);
	MPI_Allgather(&rank, 1, MPI_INT, neighbour, 1, MPI_INT, node);

	MPI_Win_allocate_shared(sizeof *mine, sizeof *mine, MPI_INFO_NULL, node, &mine, &window);
	MPI_Win_fence(0, window);
	*mine = 1000 + rank;
	MPI_Win_fence(0, window);
	for (i = 0; i < here; i++) {
		MPI_Win_shared_query(window, i, &bytes, &unit, &theirs);
		must(*theirs == 1000 + neighbour[i], "what a neighbour wrote into shared memory");
	}
	MPI_Win_fence(0, window);
	MPI_Win_free(&window);
	MPI_Comm_free(&node);
	if (rank == 0)
		printf("shared memory: %d ranks on the first of %d nodes\n", here, heads);
	free(neighbour);
}

static void leave(int signal)
{
	(void) signal;
	_exit(0);
}

int main(int argc, char **argv)
{
	char library[MPI_MAX_LIBRARY_VERSION_STRING], host[MPI_MAX_PROCESSOR_NAME];
	int length;

	MPI_Init(&argc, &argv);
	MPI_Comm_rank(MPI_COMM_WORLD, &rank);
	MPI_Comm_size(MPI_COMM_WORLD, &size);
	MPI_Get_library_version(library, &length);
	MPI_Get_processor_name(host, &length);
	/* "MPICH Version:	4.0.2", "Open MPI v4.1.4" */
	library[strcspn(library, ",\n")] = 0;
	if (strchr(library, '\t'))
		*strchr(library, '\t') = ' ';
	if (argc > 1 && !strcmp(argv[1], "-v")) {
		printf("rank %d of %d on %s: %s\n", rank, size, host, library);
	} else {
		allreduce();
		ring();
		shared_memory();
		if (rank == 0)
			printf("all is right with %d ranks and %s\n", size, library);
	}
	fflush(stdout);
	/* With UCX, MPICH before 4.2 may spin in there for ever (pmodels/mpich#6596), when all is told. */
	signal(SIGALRM, leave);
	alarm(10);
	MPI_Finalize();
	return 0;
}
