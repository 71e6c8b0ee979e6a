/* The yardstick: threads that each run `cat` with 100 bytes on stdin and three pipes, one after the other. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

extern char **environ;
static atomic_long done;
static double deadline;
static const char *program;

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec / 1e9;
}

static void check(int failed, const char *what) {
    if (failed) { perror(what); exit(1); }
}

static void run_one(void) {
    int in[2], out[2], err[2];
    char data[100], buf[4096];
    memset(data, 'x', sizeof data);
    check(pipe2(in, O_CLOEXEC) || pipe2(out, O_CLOEXEC) || pipe2(err, O_CLOEXEC), "pipe2");
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attr;
    sigset_t none, all;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, in[0], 0);
    posix_spawn_file_actions_adddup2(&actions, out[1], 1);
    posix_spawn_file_actions_adddup2(&actions, err[1], 2);
    posix_spawnattr_init(&attr);
    sigemptyset(&none);
    sigemptyset(&all);
    sigaddset(&all, SIGPIPE);
    posix_spawnattr_setsigmask(&attr, &none);
    posix_spawnattr_setsigdefault(&attr, &all);
    posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
    char *argv[] = {(char *)program, NULL};
    pid_t pid;
    errno = posix_spawn(&pid, program, &actions, &attr, argv, environ);
    check(errno, "posix_spawn");
    close(in[0]); close(out[1]); close(err[1]);
    check(write(in[1], data, sizeof data) != sizeof data, "write");
    close(in[1]);
    struct pollfd fds[2] = {{out[0], POLLIN, 0}, {err[0], POLLIN, 0}};
    long got = 0;
    for (int open = 2; open;) {
        poll(fds, 2, -1);
        for (int i = 0; i < 2; i++)
            if (fds[i].fd >= 0 && fds[i].revents) {
                ssize_t n = read(fds[i].fd, buf, sizeof buf);
                if (n > 0) { got += n; continue; }
                close(fds[i].fd);
                fds[i].fd = -1;
                open--;
            }
    }
    int status;
    waitpid(pid, &status, 0);
    check(status != 0 || got != sizeof data, "child");
    posix_spawn_file_actions_destroy(&actions);
    posix_spawnattr_destroy(&attr);
}

static void *loop(void *unused) {
    while (now() < deadline) { run_one(); atomic_fetch_add(&done, 1); }
    return unused;
}

int main(int argc, char **argv) {
    if (argc != 4) { fprintf(stderr, "usage: spawn_loop THREADS SECONDS PROGRAM\n"); return 2; }
    int threads = atoi(argv[1]);
    program = argv[3];
    double start = now();
    deadline = start + atof(argv[2]);
    pthread_t ids[threads];
    for (int i = 0; i < threads; i++) pthread_create(&ids[i], NULL, loop, NULL);
    for (int i = 0; i < threads; i++) pthread_join(ids[i], NULL);
    double took = now() - start;
    struct rusage use;
    getrusage(RUSAGE_SELF, &use);
    double cpu = use.ru_utime.tv_sec + use.ru_stime.tv_sec + (use.ru_utime.tv_usec + use.ru_stime.tv_usec) / 1e6;
    printf("{\"per_s\": %.1f, \"cpu_ms_per_task\": %.4f}\n", done / took, cpu * 1000 / done);
}
