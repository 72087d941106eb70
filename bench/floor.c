/* The floor: what the kernel itself costs. A relay in plain C, one blocking thread for each direction.
 *
 *   floor pty [HOLD_US]   for each connection: the command that its first line names, on a PTY, and its bytes as they
 *                         are; with HOLD_US it waits so long after every read, so that the next one finds more
 *   floor hop TARGET      for each connection: one to port TARGET of this machine
 *
 * Listens on a free port of 127.0.0.1, which it prints first. The line has the words of the command with 0x1f
 * between them. Two loopback hops are a viewer, a hop and a PTY.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <pty.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { BUFFER = 65536, STACK = 262144, LINE = 4096, WORDS = 32, END = 0x04 };

/* Two threads share it, each with its direction; the last one to end closes. */
struct relay {
    int viewer, source;
    int is_pty;
    useconds_t hold_us;
    atomic_int running;
};

struct direction {
    struct relay *relay;
    int from, to;
};

static void die(const char *what) {
    perror(what);
    exit(1);
}

static int write_all(int fd, const char *data, ssize_t size) {
    while (size > 0) {
        ssize_t n = write(fd, data, (size_t)size);
        if (n <= 0) return -1;
        data += n;
        size -= n;
    }
    return 0;
}

static void *copy(void *argument) {
    struct direction way = *(struct direction *)argument;
    free(argument);
    struct relay *relay = way.relay;
    char buffer[BUFFER];
    for (;;) {
        ssize_t n = read(way.from, buffer, sizeof buffer);
        if (n <= 0 || write_all(way.to, buffer, n) < 0) break;
        if (relay->hold_us && way.from == relay->source) usleep(relay->hold_us);
    }
    shutdown(relay->viewer, SHUT_RDWR);
    if (!relay->is_pty) {
        shutdown(relay->source, SHUT_RDWR);
    } else if (way.from == relay->viewer) {
        /* Nobody is there any more: tell the program to end, which ends the other direction. */
        write_all(relay->source, &(char){END}, 1);
    }
    if (atomic_fetch_sub(&relay->running, 1) == 1) {
        close(relay->viewer);
        close(relay->source);
        free(relay);
    }
    return NULL;
}

static void start_direction(struct relay *relay, int from, int to) {
    struct direction *way = malloc(sizeof *way);
    if (!way) die("malloc");
    *way = (struct direction){relay, from, to};
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    pthread_attr_setstacksize(&attributes, STACK);
    pthread_t thread;
    if (pthread_create(&thread, &attributes, copy, way)) die("pthread_create");
    pthread_attr_destroy(&attributes);
}

static int open_hop(int port) {
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((unsigned short)port)};
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (fd < 0 || connect(fd, (struct sockaddr *)&to, sizeof to) < 0) die("connect");
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int));
    return fd;
}

static int open_pty(int viewer) {
    char line[LINE];
    for (size_t n = 0;; n++) {
        if (n == sizeof line || read(viewer, line + n, 1) != 1) return -1;
        if (line[n] == '\n') {
            line[n] = 0;
            break;
        }
    }
    char *words[WORDS + 1] = {0}, *rest = line;
    for (int i = 0; i < WORDS && rest; i++) words[i] = strsep(&rest, "\x1f");
    int master;
    struct winsize size = {.ws_row = 24, .ws_col = 80};
    pid_t pid = forkpty(&master, NULL, NULL, &size);
    if (pid < 0) die("forkpty");
    if (pid == 0) {
        signal(SIGCHLD, SIG_DFL);
        signal(SIGPIPE, SIG_DFL);
        execvp(words[0], words);
        _exit(127);
    }
    fcntl(master, F_SETFD, FD_CLOEXEC);
    return master;
}

int main(int argc, char **argv) {
    if (argc < 2) return 2;
    signal(SIGPIPE, SIG_IGN);
    signal(SIGCHLD, SIG_IGN);
    int is_pty = strcmp(argv[1], "pty") == 0;
    if (!is_pty && argc < 3) return 2;
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in here = {.sin_family = AF_INET};
    here.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof here;
    if (listener < 0 || bind(listener, (struct sockaddr *)&here, size) < 0 || listen(listener, 512) < 0 ||
        getsockname(listener, (struct sockaddr *)&here, &size) < 0)
        die("listen");
    printf("%d\n", ntohs(here.sin_port));
    fflush(stdout);
    for (;;) {
        int viewer = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
        if (viewer < 0) continue;
        setsockopt(viewer, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int));
        int source = is_pty ? open_pty(viewer) : open_hop(atoi(argv[2]));
        struct relay *relay = malloc(sizeof *relay);
        if (!relay) die("malloc");
        if (source < 0) {
            close(viewer);
            free(relay);
            continue;
        }
        relay->viewer = viewer;
        relay->source = source;
        relay->is_pty = is_pty;
        relay->hold_us = is_pty && argc > 2 ? (useconds_t)atoi(argv[2]) : 0;
        atomic_init(&relay->running, 2);
        start_direction(relay, source, viewer);
        start_direction(relay, viewer, source);
    }
}
