/* The program on the PTY: writes a known stream in a known way, or echoes what is typed.
 *
 *   program bulk  CORPUS BYTES          64 KiB writes
 *   program tiny  CORPUS BYTES          writes of 20 to 60 bytes, as fast as possible
 *   program paced CORPUS BYTES GAP_US   writes of 40 bytes, GAP_US apart: a token stream
 *   program flood CORPUS 0              64 KiB writes until it is told to stop
 *   program echo                        every byte that is typed, at once
 *
 * It sets the terminal raw, writes the byte R, waits for one byte, and then writes CORPUS over and over. It ends
 * when it is typed 0x04, when nobody holds the terminal, or after 300 s, whatever comes first.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

enum { END = 0x04, LIMIT_S = 300, BULK_WRITE = 65536, PACED_WRITE = 40, TINY_LEAST = 20, TINY_SPREAD = 41 };

static void die(const char *what) {
    perror(what);
    exit(1);
}

static void write_all(const char *data, size_t size) {
    while (size > 0) {
        ssize_t n = write(STDOUT_FILENO, data, size);
        if (n < 0) {
            if (errno == EINTR) continue;
            exit(0); /* nobody holds the terminal any more */
        }
        data += n;
        size -= (size_t)n;
    }
}

static int read_key(void) {
    unsigned char key;
    return read(STDIN_FILENO, &key, 1) == 1 ? key : END;
}

static int told_to_stop(void) {
    struct pollfd in = {.fd = STDIN_FILENO, .events = POLLIN};
    return poll(&in, 1, 0) > 0 && read_key() == END;
}

static void echo(void) {
    char keys[4096];
    for (;;) {
        ssize_t n = read(STDIN_FILENO, keys, sizeof keys);
        if (n <= 0 || memchr(keys, END, (size_t)n)) return;
        write_all(keys, (size_t)n);
    }
}

static void sleep_until(struct timespec *when, long gap_us) {
    when->tv_nsec += gap_us * 1000;
    while (when->tv_nsec >= 1000000000) {
        when->tv_nsec -= 1000000000;
        when->tv_sec++;
    }
    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, when, NULL) == EINTR) continue;
}

int main(int argc, char **argv) {
    if (argc < 2) return 2;
    alarm(LIMIT_S);
    struct termios mode;
    if (tcgetattr(STDIN_FILENO, &mode) == 0) {
        cfmakeraw(&mode);
        if (tcsetattr(STDIN_FILENO, TCSANOW, &mode) < 0) die("tcsetattr");
    }
    write_all("R", 1);
    const char *how = argv[1];
    if (strcmp(how, "echo") == 0) {
        echo();
        return 0;
    }
    if (argc < 4) return 2;
    int fd = open(argv[2], O_RDONLY);
    struct stat corpus;
    if (fd < 0 || fstat(fd, &corpus) < 0) die(argv[2]);
    size_t size = (size_t)corpus.st_size;
    const char *data = mmap(NULL, size, PROT_READ, MAP_PRIVATE | MAP_POPULATE, fd, 0);
    if (data == MAP_FAILED) die("mmap");
    uint64_t left = strtoull(argv[3], NULL, 10);
    int endless = left == 0;
    long gap_us = argc > 4 ? strtol(argv[4], NULL, 10) : 0;
    int tiny = strcmp(how, "tiny") == 0;
    int paced = strcmp(how, "paced") == 0;
    if (read_key() == END) return 0;

    struct timespec when;
    clock_gettime(CLOCK_MONOTONIC, &when);
    uint32_t random = 12345;
    size_t pos = 0;
    for (unsigned round = 0; endless || left > 0; round++) {
        size_t n = BULK_WRITE;
        if (tiny) {
            random = random * 1664525u + 1013904223u;
            n = TINY_LEAST + (random >> 16) % TINY_SPREAD;
        } else if (paced) {
            n = PACED_WRITE;
            if (round > 0) sleep_until(&when, gap_us);
        }
        if (n > size - pos) n = size - pos;
        if (!endless && n > left) n = (size_t)left;
        write_all(data + pos, n);
        pos = pos + n == size ? 0 : pos + n;
        left -= n;
        if (endless && round % 16 == 0 && told_to_stop()) return 0;
    }
    while (read_key() != END) continue;
    return 0;
}
