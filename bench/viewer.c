/* The viewers of the benchmarks: never the bottleneck, and strict about what arrives.
 *
 *   viewer drain MODE PORT TOKEN TIMEOUT_S CORPUS BYTES
 *   viewer echo  MODE PORT TOKEN TIMEOUT_S COUNT GAP_US
 *
 * MODE is `ws`, or `raw` for plain TCP. Standard input has a line for each connection, `FLAGS PATH<TAB>FIRST`,
 * and an empty line; FIRST is its first message (raw: its first line), and @ in PATH is the session that the first
 * connection has started. Flags: g it starts the program by typing g, s it stalls (it never reads again once
 * attached), - neither.
 *
 * Says `ready` when every connection has seen the R of its program, waits for a line, and works. `drain` takes BYTES bytes
 * on each connection that does not stall, or (BYTES 0) as many as come until another line is read, and compares
 * each with CORPUS, repeated. `echo` types one byte on the first connection, waits for it to come back, and again,
 * GAP_US after the last and a little more at random, for 15 s at most. Prints one JSON object. Then types 0x04, which ends the programs.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { MAX_VIEWERS = 512, BUFFER = 1 << 18, TEXT = 65536, EVENTS = 64, ECHO_S = 15 };
enum { OP_TEXT = 1, OP_BINARY = 2, OP_CLOSE = 8, OP_PING = 9, OP_PONG = 10 };

struct viewer {
    int fd;
    int types, stalls, ready, done, resynced;
    uint64_t bytes;  /* of output, R not counted */
    uint64_t frames; /* that carried them; raw: reads */
    double first_s, last_s;
    size_t at; /* in the corpus */
    /* the frame that is being read */
    unsigned char head[14];
    unsigned head_have;
    uint64_t left;
    int opcode;
    char *text;
    size_t text_bytes;
};

static struct viewer viewers[MAX_VIEWERS];
static int count, raw;
static char session_id[128];
static const char *corpus;
static size_t corpus_bytes;
static uint64_t wanted;
static double started_s;
static char buffer[BUFFER];

static void fail(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fputc('\n', stderr);
    exit(1);
}

static uint64_t now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static double now_s(void) { return (double)now_ns() / 1e9; }

static void send_all(int fd, const char *data, size_t size) {
    while (size > 0) {
        ssize_t n = send(fd, data, size, MSG_NOSIGNAL);
        if (n < 0) fail("send: %s", strerror(errno));
        data += n;
        size -= (size_t)n;
    }
}

/* Sends a message; raw: its bytes. */
static void say(struct viewer *viewer, int opcode, const char *data, size_t size) {
    static char frame[TEXT + 14];
    static uint32_t random = 2463534242u;
    if (raw) {
        send_all(viewer->fd, data, size);
        return;
    }
    size_t n = 0;
    frame[n++] = (char)(0x80 | opcode);
    if (size < 126) {
        frame[n++] = (char)(0x80 | size);
    } else {
        frame[n++] = (char)(0x80 | 126);
        frame[n++] = (char)(size >> 8);
        frame[n++] = (char)size;
    }
    random ^= random << 13, random ^= random >> 17, random ^= random << 5;
    char mask[4];
    memcpy(mask, &random, 4);
    memcpy(frame + n, mask, 4);
    n += 4;
    for (size_t i = 0; i < size; i++) frame[n++] = data[i] ^ mask[i & 3];
    send_all(viewer->fd, frame, n);
}

static void take_text(struct viewer *viewer) {
    const char *found;
    viewer->text[viewer->text_bytes] = 0;
    if (strstr(viewer->text, "\"error\"")) fail("refused: %s", viewer->text);
    if (strstr(viewer->text, "\"resync\"")) viewer->resynced = 1;
    if (viewer == viewers && (found = strstr(viewer->text, "\"session_id\":"))) {
        if ((found = strchr(found + 13, '"'))) sscanf(found + 1, "%127[^\"]", session_id);
    }
    viewer->text_bytes = 0;
}

static void take_output(struct viewer *viewer, const char *data, size_t size) {
    if (size == 0) return;
    if (!viewer->ready) {
        if (*data != 'R') fail("a program began with byte %d and not with R", (unsigned char)*data);
        viewer->ready = 1;
        data++, size--;
        if (size == 0) return;
    }
    double now = now_s();
    if (viewer->bytes == 0) viewer->first_s = now - started_s;
    viewer->last_s = now - started_s;
    viewer->bytes += size;
    while (size > 0 && corpus) {
        size_t n = corpus_bytes - viewer->at < size ? corpus_bytes - viewer->at : size;
        if (memcmp(data, corpus + viewer->at, n)) fail("wrong output before byte %" PRIu64, viewer->bytes);
        viewer->at = viewer->at + n == corpus_bytes ? 0 : viewer->at + n;
        data += n, size -= n;
    }
    if (wanted && viewer->bytes > wanted) fail("%" PRIu64 " bytes and not %" PRIu64, viewer->bytes, wanted);
    if (wanted && viewer->bytes == wanted) viewer->done = 1;
}

/* Reads as much of a frame's header as there is; gives how many bytes that took. */
static size_t take_head(struct viewer *viewer, const unsigned char *data, size_t size) {
    size_t used = 0;
    for (;;) {
        unsigned length = viewer->head[1] & 0x7f;
        unsigned need = viewer->head_have < 2 ? 2 : length == 127 ? 10 : length == 126 ? 4 : 2;
        if (viewer->head_have == need) {
            viewer->left = length;
            if (length >= 126) {
                viewer->left = 0;
                for (unsigned i = 2; i < need; i++) viewer->left = viewer->left << 8 | viewer->head[i];
            }
            viewer->opcode = viewer->head[0] & 0x0f;
            if ((viewer->head[0] & 0xf0) != 0x80 || viewer->head[1] & 0x80) fail("a frame that is not plain");
            if (viewer->opcode == OP_BINARY && viewer->left > 0) viewer->frames++;
            if (viewer->opcode != OP_BINARY && viewer->left >= TEXT) fail("text of %" PRIu64 " bytes", viewer->left);
            return used;
        }
        if (used == size) return used;
        viewer->head[viewer->head_have++] = data[used++];
    }
}

static void end_frame(struct viewer *viewer) {
    viewer->head_have = 0;
    if (viewer->opcode == OP_TEXT) take_text(viewer);
    if (viewer->opcode == OP_PING) say(viewer, OP_PONG, viewer->text, viewer->text_bytes);
    if (viewer->opcode == OP_CLOSE) fail("closed by the other side: %.*s", (int)viewer->text_bytes, viewer->text);
    if (viewer->opcode != OP_BINARY) viewer->text_bytes = 0;
}

static void take(struct viewer *viewer, const char *data, size_t size) {
    if (raw) {
        viewer->frames++;
        take_output(viewer, data, size);
        return;
    }
    while (size > 0) {
        if (viewer->left == 0) {
            size_t used = take_head(viewer, (const unsigned char *)data, size);
            data += used, size -= used;
            unsigned length = viewer->head[1] & 0x7f;
            unsigned need = viewer->head_have < 2 ? 2 : length == 127 ? 10 : length == 126 ? 4 : 2;
            if (viewer->head_have < need) return;
            if (viewer->left == 0) end_frame(viewer);
            continue;
        }
        size_t n = viewer->left < size ? (size_t)viewer->left : size;
        if (viewer->opcode == OP_BINARY) {
            take_output(viewer, data, n);
        } else {
            memcpy(viewer->text + viewer->text_bytes, data, n);
            viewer->text_bytes += n;
        }
        viewer->left -= n;
        data += n, size -= n;
        if (viewer->left == 0) end_frame(viewer);
    }
}

/* Reads once; gives whether there was anything. */
static int receive(struct viewer *viewer, int flags) {
    ssize_t n = recv(viewer->fd, buffer, sizeof buffer, flags);
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) return 0;
    if (n < 0) fail("recv: %s", strerror(errno));
    if (n == 0) fail("a connection ended after %" PRIu64 " bytes", viewer->bytes);
    take(viewer, buffer, (size_t)n);
    return 1;
}

static void open_viewer(struct viewer *viewer, int port, const char *token, const char *path, const char *first) {
    viewer->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    viewer->text = malloc(TEXT + 1);
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((unsigned short)port)};
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (viewer->fd < 0 || !viewer->text || connect(viewer->fd, (struct sockaddr *)&to, sizeof to) < 0)
        fail("connect: %s", strerror(errno));
    setsockopt(viewer->fd, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int));
    if (!raw) {
        char request[2048], answer[4096];
        const char *at = strchr(path, '@');
        int before = at ? (int)(at - path) : (int)strlen(path);
        int n = snprintf(request, sizeof request,
                         "GET %.*s%s%s HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nAuthorization: Bearer %s\r\n"
                         "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
                         "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n",
                         before, path, at ? session_id : "", at ? at + 1 : "", port, token);
        send_all(viewer->fd, request, (size_t)n);
        for (n = 0;; n++) {
            if (n + 1 == (int)sizeof answer || recv(viewer->fd, answer + n, 1, 0) != 1) fail("no answer to the upgrade");
            answer[n + 1] = 0;
            if (n >= 3 && strcmp(answer + n - 3, "\r\n\r\n") == 0) break;
        }
        if (strncmp(answer, "HTTP/1.1 101", 12)) fail("%.*s", (int)strcspn(answer, "\r"), answer);
    }
    say(viewer, OP_TEXT, first, strlen(first));
    if (raw) say(viewer, OP_TEXT, "\n", 1);
    while (!viewer->ready) receive(viewer, 0);
}

static void read_viewers(int port, const char *token) {
    char line[8192];
    while (fgets(line, sizeof line, stdin) && line[0] != '\n') {
        line[strcspn(line, "\n")] = 0;
        char *rest = line, *flags = strsep(&rest, " "), *path = strsep(&rest, "\t");
        if (count == MAX_VIEWERS || !path || !rest) fail("not a connection: %s", line);
        struct viewer *viewer = &viewers[count++];
        viewer->types = strchr(flags, 'g') != NULL;
        viewer->stalls = strchr(flags, 's') != NULL;
        open_viewer(viewer, port, token, path, rest);
    }
    if (count == 0) fail("no connections");
}

static void await_go(void) {
    char line[64];
    puts("ready");
    fflush(stdout);
    /* Standard input may be looked at with poll() later: take one line, not a buffer. */
    for (size_t n = 0; n < sizeof line; n++)
        if (read(STDIN_FILENO, line + n, 1) != 1 || line[n] == '\n') break;
}

static void drain(void) {
    int epoll = epoll_create1(EPOLL_CLOEXEC), left = 0, endless = wanted == 0;
    struct epoll_event in = {.events = EPOLLIN, .data.ptr = NULL}, events[EVENTS];
    if (endless) epoll_ctl(epoll, EPOLL_CTL_ADD, STDIN_FILENO, &in);
    for (int i = 0; i < count; i++) {
        in.data.ptr = &viewers[i];
        if (viewers[i].stalls) continue;
        left++;
        epoll_ctl(epoll, EPOLL_CTL_ADD, viewers[i].fd, &in);
    }
    started_s = now_s();
    for (int i = 0; i < count; i++)
        if (viewers[i].types) say(&viewers[i], OP_BINARY, "g", 1);
    while (left > 0 || endless) {
        int n = epoll_wait(epoll, events, EVENTS, -1);
        for (int i = 0; i < n; i++) {
            struct viewer *viewer = events[i].data.ptr;
            if (!viewer) return; /* a line on standard input */
            receive(viewer, MSG_DONTWAIT);
            if (viewer->done) {
                epoll_ctl(epoll, EPOLL_CTL_DEL, viewer->fd, NULL);
                left--;
            }
        }
    }
}

static void print_drained(void) {
    double seconds = 0;
    printf("{\"viewers\": [");
    for (int i = 0; i < count; i++) {
        struct viewer *viewer = &viewers[i];
        if (!viewer->stalls && viewer->last_s > seconds) seconds = viewer->last_s;
        printf("%s{\"bytes\": %" PRIu64 ", \"frames\": %" PRIu64
               ", \"first_s\": %.6f, \"last_s\": %.6f, \"stalled\": %s, \"resynced\": %s}",
               i ? ", " : "", viewer->bytes, viewer->frames, viewer->first_s, viewer->last_s,
               viewer->stalls ? "true" : "false", viewer->resynced ? "true" : "false");
    }
    printf("], \"seconds\": %.6f}\n", seconds);
    fflush(stdout);
}

static void echo(long times, long gap_us) {
    struct viewer *viewer = viewers;
    uint32_t random = 88172645u;
    double began_s = now_s();
    printf("{\"latency_ns\": [");
    for (long i = 0; i < times && now_s() - began_s < ECHO_S; i++) {
        random = random * 1664525u + 1013904223u;
        usleep((useconds_t)(gap_us + (long)((random >> 16) % 256) * gap_us / 256));
        uint64_t before = viewer->bytes, start = now_ns();
        say(viewer, OP_BINARY, "k", 1);
        while (viewer->bytes == before) receive(viewer, 0);
        printf("%s%" PRIu64, i ? ", " : "", now_ns() - start);
        if (viewer->bytes != before + 1) fail("one key came back as %" PRIu64 " bytes", viewer->bytes - before);
    }
    printf("]}\n");
    fflush(stdout);
}

int main(int argc, char **argv) {
    if (argc != 8) {
        fputs("usage: see the head of viewer.c\n", stderr);
        return 2;
    }
    raw = strcmp(argv[2], "raw") == 0;
    alarm((unsigned)atoi(argv[5]));
    if (strcmp(argv[1], "drain") == 0) {
        int fd = open(argv[6], O_RDONLY);
        struct stat facts;
        if (fd < 0 || fstat(fd, &facts) < 0) fail("%s: %s", argv[6], strerror(errno));
        corpus_bytes = (size_t)facts.st_size;
        corpus = mmap(NULL, corpus_bytes, PROT_READ, MAP_PRIVATE | MAP_POPULATE, fd, 0);
        if (corpus == MAP_FAILED) fail("mmap: %s", strerror(errno));
        wanted = strtoull(argv[7], NULL, 10);
        read_viewers(atoi(argv[3]), argv[4]);
        await_go();
        drain();
        print_drained();
    } else {
        read_viewers(atoi(argv[3]), argv[4]);
        await_go();
        echo(atol(argv[6]), atol(argv[7]));
    }
    /* The harness looks at the clocks before anything is torn down. */
    char line;
    if (read(STDIN_FILENO, &line, 1) < 0) return 1;
    for (int i = 0; i < count; i++)
        if (viewers[i].types) say(&viewers[i], OP_BINARY, "\4", 1);
    usleep(20000);
    return 0;
}
