/*
 * loadgen: keeps a job server busy over loopback and prints what it saw as one line of JSON.
 *
 *   cc -O2 -o loadgen loadgen.c
 *   ./loadgen --protocol workq --port 9922 --pid 4711 --scenario cycle --connections 16 --depth 32 --seconds 1
 *
 * The load is closed: a connection sends a lot of --depth requests in one write, and the next lot when all of them are
 * answered. --depth 1 is a client that waits for each answer, as a call through most client libraries is.
 *
 *   cycle    each connection adds a lot of jobs, leases as many, completes those, and again
 *   add      adds only: the queue grows
 *   drain    leases and completes jobs that are there already
 *   blocked  --connections leasers wait on one queue; one more connection adds a job, and the next one when a leaser
 *            has got it, completed it and waits again. The latency is from the add to the job's arrival
 *   run      --connections callers `run` jobs, as many leasers do them. The latency is that of the round trip
 *
 * Every answered request is one operation; it must succeed, or the whole measurement fails with status 1. Latency,
 * operations and CPU are taken in a window of --seconds, which opens after --warmup and when every connection has been
 * answered once; without --seconds over all of --jobs.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

typedef enum { ADD, LEASE, COMPLETE, RUN } Verb;

typedef struct {
    char *bytes;
    size_t start, end, capacity;
} Buffer;

/* A queue's name, or what names a leased job in the request that completes it. */
typedef struct {
    char text[40];
    size_t length;
} Name;

typedef struct Connection Connection;
struct Connection {
    int fd;
    unsigned index;
    void (*on_reply)(Connection *, bool timed_out);
    Verb verb;        /* of the reply that comes next */
    unsigned awaited; /* replies to this lot that are still to come */
    unsigned leased;  /* jobs in `jobs` */
    Name *jobs;
    Name processing; /* Redis: the list of what this connection has leased */
    uint64_t jobs_before;
    int64_t sent_ns;
    Buffer in, out;
    bool out_watched, answered;
};

typedef struct {
    const char *name;
    void (*prepare)(Connection *);
    void (*add)(Connection *, const Name *queue);
    void (*lease)(Connection *, const Name *queue);
    void (*complete)(Connection *, const Name *job);
    void (*run)(Connection *, const Name *queue);
    /* The length of the first reply in n bytes, 0 while it is not all there. A lease leaves the job in *job. */
    size_t (*reply)(Verb, const char *p, size_t n, Name *job, bool *timed_out);
} Protocol;

typedef struct {
    int64_t wall_ns, server_ns, own_ns;
    uint64_t user_ticks, system_ticks;
} Clocks;

/* -- what was asked for ------------------------------------------------------------------------------------------ */

static const Protocol *protocol;
static const char *scenario = "cycle";
static unsigned port, connections = 1, depth = 1, queue_count = 0, priorities = 0;
static char queue_letter = 'q';
static size_t payload_size = 100, result_size = 100;
static uint64_t ttl_ms = 3600000;
static uint64_t jobs_limit = UINT64_MAX;
static double seconds = 0, warmup = 0;
static pid_t server_pid;

/* -- the run ----------------------------------------------------------------------------------------------------- */

static int epoll;
static clockid_t server_clock;
static Name *queues;
static char *filler; /* the bytes of payloads and results */
static Verb first_verb, last_verb;
static bool draining, measuring, stopping;
static int64_t arrived_ns; /* when the replies came that are being looked at */
static unsigned busy;   /* connections that are to get a reply without anybody else's doing */
static unsigned silent; /* those of them that never got one: the server may not even have accepted them */
static uint64_t jobs_begun, jobs_added, jobs_leased, operations;
static Clocks opened, closed;

static Connection *producer; /* blocked: it adds a job when the one before has gone all the way */
static unsigned producer_awaits;

_Noreturn __attribute__((format(printf, 1, 2))) static void fail(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    fputs("loadgen: ", stderr);
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    va_end(arguments);
    exit(1);
}

static void *allocate(size_t count, size_t size) {
    void *memory = calloc(count ? count : 1, size);
    if (!memory) fail("out of memory");
    return memory;
}

/* -- time and memory --------------------------------------------------------------------------------------------- */

static int64_t clock_ns(clockid_t clock) {
    struct timespec t;
    if (clock_gettime(clock, &t)) fail("the server with process id %d is gone", (int)server_pid);
    return t.tv_sec * 1000000000ll + t.tv_nsec;
}

static int64_t now_ns(void) {
    return clock_ns(CLOCK_MONOTONIC);
}

/* The kernel brings another process's clock up to date with its ticks: windows should last for hundreds of those. */
static Clocks read_clocks(void) {
    Clocks c = {now_ns(), clock_ns(server_clock), clock_ns(CLOCK_PROCESS_CPUTIME_ID), 0, 0};
    char path[64], stat[1024];
    snprintf(path, sizeof path, "/proc/%d/stat", (int)server_pid);
    FILE *file = fopen(path, "r");
    if (!file) fail("cannot read %s: %s", path, strerror(errno));
    stat[fread(stat, 1, sizeof stat - 1, file)] = 0;
    fclose(file);
    char *after_name = strrchr(stat, ')');
    if (!after_name || sscanf(after_name, ") %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %" SCNu64 " %" SCNu64,
                              &c.user_ticks, &c.system_ticks) != 2)
        fail("%s has an unknown form", path);
    return c;
}

static long server_rss_bytes(void) {
    char path[64];
    long pages = 0;
    snprintf(path, sizeof path, "/proc/%d/statm", (int)server_pid);
    FILE *file = fopen(path, "r");
    if (!file || fscanf(file, "%*d %ld", &pages) != 1) fail("cannot read %s", path);
    fclose(file);
    return pages * sysconf(_SC_PAGESIZE);
}

/*
 * Latencies in buckets that are exact below 256 ns and 1/128 wide above, so that recording one costs the same however
 * many there are.
 */
#define BITS 7
static uint64_t histogram[(64 - BITS + 1) << BITS], latency_count, latency_max;

static void record_latency(int64_t sent_ns) {
    if (!measuring) return;
    uint64_t value = arrived_ns > sent_ns ? arrived_ns - sent_ns : 0;
    unsigned shift = value >> BITS ? 63 - __builtin_clzll(value) - BITS : 0;
    histogram[((uint64_t)shift << BITS) + (value >> shift)]++;
    latency_count++;
    if (value > latency_max) latency_max = value;
}

static double latency_us(double quantile) {
    uint64_t rank = (uint64_t)(quantile * latency_count), seen = 0;
    for (size_t i = 0; i < sizeof histogram / sizeof *histogram; i++)
        if ((seen += histogram[i]) > rank) {
            unsigned shift = i >> (BITS + 1) ? (i >> BITS) - 1 : 0;
            return ((i - ((uint64_t)shift << BITS)) << shift) / 1e3;
        }
    return latency_max / 1e3;
}

/* -- bytes ------------------------------------------------------------------------------------------------------- */

static char *room(Buffer *b, size_t size) {
    if (b->start == b->end) b->start = b->end = 0;
    if (b->capacity - b->end < size) {
        memmove(b->bytes, b->bytes + b->start, b->end - b->start);
        b->end -= b->start;
        b->start = 0;
        if (b->capacity - b->end < size) {
            b->capacity = (b->end + size) * 2;
            if (!(b->bytes = realloc(b->bytes, b->capacity))) fail("out of memory");
        }
    }
    return b->bytes + b->end;
}

static void put(Buffer *b, const char *bytes, size_t size) {
    memcpy(room(b, size), bytes, size);
    b->end += size;
}

#define PUT(b, literal) put(b, literal, sizeof(literal) - 1)

static void put_name(Buffer *b, const Name *name) {
    put(b, name->text, name->length);
}

static void put_number(Buffer *b, uint64_t number) {
    char digits[20], *p = digits + sizeof digits;
    do *--p = '0' + number % 10;
    while (number /= 10);
    put(b, p, digits + sizeof digits - p);
}

/* The end of a line that announced so many bytes, and those. */
static void put_body(Buffer *b, size_t size) {
    PUT(b, "\r\n");
    put(b, filler, size);
    PUT(b, "\r\n");
}

static uint64_t random_state[2];

static uint64_t random_bits(void) { /* xorshift128+ */
    uint64_t a = random_state[0], b = random_state[1];
    random_state[0] = b;
    a ^= a << 23;
    random_state[1] = a ^ b ^ a >> 17 ^ b >> 26;
    return random_state[1] + b;
}

static void new_id(char text[36]) { /* a random UUID, version 4 */
    static const char hex[] = "0123456789abcdef";
    static char pairs[256][2];
    for (int i = 0; !pairs[255][0] && i < 256; i++) memcpy(pairs[i], (char[]){hex[i >> 4], hex[i & 15]}, 2);
    uint64_t halves[2] = {random_bits(), random_bits()};
    unsigned char bytes[16];
    memcpy(bytes, halves, sizeof bytes);
    bytes[6] = (bytes[6] & 0x0f) | 0x40;
    bytes[8] = (bytes[8] & 0x3f) | 0x80;
    for (int i = 0; i < 16; i++) {
        if (i == 4 || i == 6 || i == 8 || i == 10) *text++ = '-';
        memcpy(text, pairs[bytes[i]], 2);
        text += 2;
    }
}

static Name name_of(const char *bytes, size_t length) {
    Name name;
    if (length > sizeof name.text) fail("a name of %zu bytes: %.*s", length, (int)length, bytes);
    memcpy(name.text, bytes, length);
    name.length = length;
    return name;
}

static Name numbered(char letter, unsigned number) {
    char text[40];
    return name_of(text, sprintf(text, "%c%u", letter, number));
}

/* With fewer queues than connections they are shared; with more, each connection goes round its own. */
static unsigned own_queues(const Connection *c) {
    return queue_count > connections ? (queue_count - c->index - 1) / connections + 1 : 1;
}

static const Name *queue_of(const Connection *c, uint64_t job) {
    return &queues[(c->index + job % own_queues(c) * connections) % queue_count];
}

static bool starts(const char *p, size_t n, const char *prefix) {
    size_t length = strlen(prefix);
    return n >= length && !memcmp(p, prefix, length);
}

_Noreturn static void unexpected(Verb verb, const char *p, size_t n) {
    static const char *const verbs[] = {"an add", "a lease", "a complete", "a run"};
    fail("the %s server answered %s with: %.*s", protocol->name, verbs[verb], (int)(n < 200 ? n : 200), p);
}

/* The number of bytes announced at the end of the line, and those bytes, and their line end; 0 if not all there. */
static size_t with_body(const char *line, size_t line_size, size_t n) {
    const char *digits = line + line_size - 2;
    while (digits > line && digits[-1] >= '0' && digits[-1] <= '9') digits--;
    size_t whole = line_size + strtoul(digits, NULL, 10) + 2;
    return n < whole ? 0 : whole;
}

/* -- Workq ------------------------------------------------------------------------------------------------------- */

static void workq_prepare(Connection *c) {
    (void)c;
}

static void workq_new_job(Connection *c, const char *verb, const Name *queue) {
    Buffer *b = &c->out;
    char id[36];
    new_id(id);
    put(b, verb, strlen(verb));
    put(b, id, sizeof id);
    PUT(b, " ");
    put_name(b, queue);
    PUT(b, " 60000 "); /* ttr */
}

static void workq_add(Connection *c, const Name *queue) {
    workq_new_job(c, "add ", queue);
    put_number(&c->out, ttl_ms);
    PUT(&c->out, " ");
    put_number(&c->out, payload_size);
    if (priorities) {
        PUT(&c->out, " -priority=");
        put_number(&c->out, random_bits() % priorities);
    }
    put_body(&c->out, payload_size);
}

static void workq_run(Connection *c, const Name *queue) {
    workq_new_job(c, "run ", queue);
    PUT(&c->out, "60000 "); /* wait-timeout */
    put_number(&c->out, payload_size);
    put_body(&c->out, payload_size);
}

static void workq_lease(Connection *c, const Name *queue) {
    PUT(&c->out, "lease ");
    put_name(&c->out, queue);
    if (draining) PUT(&c->out, " 0\r\n");
    else PUT(&c->out, " 60000\r\n");
}

static void workq_complete(Connection *c, const Name *job) {
    PUT(&c->out, "complete ");
    put_name(&c->out, job);
    PUT(&c->out, " ");
    put_number(&c->out, result_size);
    put_body(&c->out, result_size);
}

static size_t workq_reply(Verb verb, const char *p, size_t n, Name *job, bool *timed_out) {
    const char *end = memchr(p, '\n', n);
    if (!end) return 0;
    size_t head = end + 1 - p;
    if (verb == ADD || verb == COMPLETE) {
        if (!starts(p, head, "+OK\r\n")) unexpected(verb, p, head);
        return head;
    }
    if (starts(p, head, "-TIMEOUT")) {
        *timed_out = true;
        return head;
    }
    if (!starts(p, head, "+OK 1\r\n")) unexpected(verb, p, head);
    const char *line = end + 1;
    if (!(end = memchr(line, '\n', n - head))) return 0;
    size_t rest = with_body(line, end + 1 - line, n - head);
    if (!rest) return 0;
    if (verb == LEASE) *job = name_of(line, 36);
    return head + rest;
}

/* -- beanstalkd -------------------------------------------------------------------------------------------------- */

/* Chooses the queues that this connection adds to and leases from; a hundred at a time, so that no socket fills up. */
static void beanstalk_prepare(Connection *c) {
    unsigned own = own_queues(c);
    for (unsigned i = 0, sent = 0; i <= own; i++) {
        if (i < own) {
            PUT(&c->out, "watch ");
            put_name(&c->out, queue_of(c, i));
        } else {
            PUT(&c->out, "ignore default\r\nuse ");
            put_name(&c->out, queue_of(c, 0));
            sent++;
        }
        PUT(&c->out, "\r\n");
        if (++sent < 100 && i < own) continue;
        size_t size = c->out.end - c->out.start;
        if (write(c->fd, c->out.bytes + c->out.start, size) != (ssize_t)size) fail("write: %s", strerror(errno));
        c->out.start = c->out.end;
        while (sent) {
            char answers[4096];
            ssize_t got = read(c->fd, answers, sizeof answers);
            if (got <= 0) fail("the server closed a connection that chose its queues");
            for (ssize_t k = 0; k < got; k++) sent -= answers[k] == '\n';
        }
    }
}

static void beanstalk_add(Connection *c, const Name *queue) {
    Buffer *b = &c->out;
    if (own_queues(c) > 1) {
        PUT(b, "use ");
        put_name(b, queue);
        PUT(b, "\r\n");
    }
    PUT(b, "put ");
    put_number(b, priorities ? random_bits() % priorities : 0);
    PUT(b, " 0 60 "); /* delay, ttr in seconds */
    put_number(b, payload_size);
    put_body(b, payload_size);
}

static void beanstalk_lease(Connection *c, const Name *queue) {
    (void)queue; /* any of those that the connection watches */
    if (draining) PUT(&c->out, "reserve-with-timeout 0\r\n");
    else PUT(&c->out, "reserve\r\n");
}

static void beanstalk_complete(Connection *c, const Name *job) {
    PUT(&c->out, "delete ");
    put_name(&c->out, job);
    PUT(&c->out, "\r\n");
}

static size_t beanstalk_reply(Verb verb, const char *p, size_t n, Name *job, bool *timed_out) {
    static const char *const good[] = {[ADD] = "INSERTED ", [LEASE] = "RESERVED ", [COMPLETE] = "DELETED\r\n"};
    size_t before = 0;
    const char *end = memchr(p, '\n', n);
    if (end && verb == ADD && starts(p, n, "USING ")) { /* the answer to the `use` that came with the `put` */
        before = end + 1 - p;
        p = end + 1;
        n -= before;
        end = memchr(p, '\n', n);
    }
    if (!end) return 0;
    size_t head = end + 1 - p;
    if (verb == LEASE && starts(p, head, "TIMED_OUT")) {
        *timed_out = true;
        return head;
    }
    if (!starts(p, head, good[verb])) unexpected(verb, p, head);
    if (verb != LEASE) return before + head;
    size_t whole = with_body(p, head, n);
    const char *id = p + strlen(good[LEASE]);
    if (whole) *job = name_of(id, strspn(id, "0123456789"));
    return whole;
}

/* -- Redis: a list per queue, and one per connection with what it has leased -------------------------------------- */

static void redis_prepare(Connection *c) {
    c->processing = numbered('p', c->index);
}

static void redis_word(Buffer *b, const Name *word) {
    PUT(b, "$");
    put_number(b, word->length);
    PUT(b, "\r\n");
    put_name(b, word);
    PUT(b, "\r\n");
}

/* A job is its payload. `LREM` finds it by that, so the payload begins with an id. */
static void redis_payload(Buffer *b, const Name *job) {
    PUT(b, "$");
    put_number(b, payload_size);
    PUT(b, "\r\n");
    put_name(b, job);
    put(b, filler, payload_size - job->length);
    PUT(b, "\r\n");
}

static size_t redis_id_size(void) {
    return payload_size < 36 ? payload_size : 36;
}

static void redis_add(Connection *c, const Name *queue) {
    char id[36];
    new_id(id);
    Name job = name_of(id, redis_id_size());
    PUT(&c->out, "*3\r\n$5\r\nLPUSH\r\n");
    redis_word(&c->out, queue);
    redis_payload(&c->out, &job);
}

static void redis_lease(Connection *c, const Name *queue) {
    if (draining) PUT(&c->out, "*3\r\n$9\r\nRPOPLPUSH\r\n");
    else PUT(&c->out, "*4\r\n$10\r\nBRPOPLPUSH\r\n");
    redis_word(&c->out, queue);
    redis_word(&c->out, &c->processing);
    if (!draining) PUT(&c->out, "$2\r\n60\r\n");
}

static void redis_complete(Connection *c, const Name *job) {
    PUT(&c->out, "*4\r\n$4\r\nLREM\r\n");
    redis_word(&c->out, &c->processing);
    PUT(&c->out, "$2\r\n-1\r\n"); /* from the tail: the oldest comes first */
    redis_payload(&c->out, job);
}

static size_t redis_reply(Verb verb, const char *p, size_t n, Name *job, bool *timed_out) {
    const char *end = memchr(p, '\n', n);
    if (!end) return 0;
    size_t head = end + 1 - p;
    if (verb == LEASE && (starts(p, head, "$-1") || starts(p, head, "*-1"))) {
        *timed_out = true;
        return head;
    }
    if (!starts(p, head, verb == ADD ? ":" : verb == LEASE ? "$" : ":1\r\n")) unexpected(verb, p, head);
    if (verb != LEASE) return head;
    size_t whole = with_body(p, head, n);
    if (whole) *job = name_of(p + head, redis_id_size());
    return whole;
}

/* -- the work ---------------------------------------------------------------------------------------------------- */

static const Protocol protocols[] = {
    {"workq", workq_prepare, workq_add, workq_lease, workq_complete, workq_run, workq_reply},
    {"beanstalk", beanstalk_prepare, beanstalk_add, beanstalk_lease, beanstalk_complete, NULL, beanstalk_reply},
    {"redis", redis_prepare, redis_add, redis_lease, redis_complete, NULL, redis_reply},
};

static void send_out(Connection *c) {
    Buffer *b = &c->out;
    while (b->start < b->end) {
        ssize_t written = write(c->fd, b->bytes + b->start, b->end - b->start);
        if (written < 0 && errno != EAGAIN) fail("write: %s", strerror(errno));
        if (written < 0) break;
        b->start += written;
    }
    bool watch = b->start < b->end;
    if (watch == c->out_watched) return;
    struct epoll_event event = {.events = EPOLLIN | (watch ? EPOLLOUT : 0), .data.ptr = c};
    if (epoll_ctl(epoll, EPOLL_CTL_MOD, c->fd, &event)) fail("epoll_ctl: %s", strerror(errno));
    c->out_watched = watch;
}

/* cycle, add, drain: sends the next lot, or nothing if the connection has done its share. */
static void send_lot(Connection *c) {
    unsigned count = c->verb == COMPLETE ? c->leased : depth;
    if (c->verb == first_verb) {
        uint64_t left = jobs_limit - jobs_begun;
        if (left < count) count = left;
        if (stopping || !count) {
            busy--;
            return;
        }
        jobs_begun += count;
    }
    for (unsigned i = 0; i < count; i++) {
        if (c->verb == COMPLETE) protocol->complete(c, &c->jobs[i]);
        else (c->verb == ADD ? protocol->add : protocol->lease)(c, queue_of(c, c->jobs_before + i));
    }
    c->awaited = count;
    if (c->verb == ADD) jobs_added += count;
    if (c->verb == LEASE) c->leased = 0;
    if (c->verb == last_verb) c->jobs_before += count;
    c->sent_ns = now_ns();
    send_out(c);
}

static void on_lot_reply(Connection *c, bool timed_out) {
    if (timed_out) fail("the queue ran out of jobs after %" PRIu64, jobs_leased);
    record_latency(c->sent_ns);
    if (c->verb == LEASE) {
        c->leased++;
        jobs_leased++;
    }
    if (--c->awaited) return;
    c->verb = c->verb == last_verb ? first_verb : c->verb + 1;
    send_lot(c);
}

/* blocked: adds the next job. */
static void produce(Connection *c) {
    if (stopping || jobs_begun == jobs_limit) {
        busy--;
        return;
    }
    jobs_begun++;
    jobs_added++;
    producer_awaits = 2; /* the reply to the add, and the reply to the complete */
    protocol->add(c, &queues[0]);
    c->sent_ns = now_ns();
    send_out(c);
}

static void on_producer_reply(Connection *c, bool timed_out) {
    (void)timed_out;
    if (!--producer_awaits) produce(c);
}

/* run: calls once more. */
static void call(Connection *c) {
    if (stopping || jobs_begun == jobs_limit) {
        busy--;
        return;
    }
    jobs_begun++;
    protocol->run(c, &queues[0]);
    c->sent_ns = now_ns();
    send_out(c);
}

static void on_caller_reply(Connection *c, bool timed_out) {
    if (timed_out) fail("a run was not answered in time");
    record_latency(c->sent_ns);
    call(c);
}

/* blocked, run: completes what was leased and waits for the next job. */
static void on_leaser_reply(Connection *c, bool timed_out) {
    if (timed_out) fail("a leaser that waited was not given a job in time");
    if (c->verb == LEASE) {
        if (producer) record_latency(producer->sent_ns);
        c->verb = COMPLETE;
        jobs_leased++;
        protocol->complete(c, &c->jobs[0]);
        protocol->lease(c, &queues[0]);
        send_out(c);
    } else {
        c->verb = LEASE;
        if (producer && !--producer_awaits) produce(producer);
    }
}

static void read_replies(Connection *c) {
    size_t step = payload_size > 4096 ? 65536 : 16384;
    char *free_bytes = room(&c->in, step);
    ssize_t got = read(c->fd, free_bytes, c->in.capacity - c->in.end);
    if (got < 0 && errno == EAGAIN) return;
    if (got <= 0) fail("the server closed a connection%s%s", got ? ": " : "", got ? strerror(errno) : "");
    c->in.end += got;
    arrived_ns = now_ns();
    for (;;) {
        bool timed_out = false;
        const char *first = c->in.bytes + c->in.start;
        size_t used = protocol->reply(c->verb, first, c->in.end - c->in.start, &c->jobs[c->leased], &timed_out);
        if (!used) return;
        c->in.start += used;
        if (measuring) operations++;
        if (!c->answered && c->on_reply != on_leaser_reply) silent--;
        c->answered = true;
        c->on_reply(c, timed_out);
    }
}

static Connection *connect_one(Connection *c, unsigned index, void (*on_reply)(Connection *, bool), Verb verb) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int one = 1;
    c->index = index;
    c->on_reply = on_reply;
    c->verb = verb;
    c->jobs = allocate(depth + 1, sizeof(Name)); /* one more: the place for the next one is always there */
    c->fd = socket(AF_INET, SOCK_STREAM, 0);
    if (c->fd < 0 || connect(c->fd, (struct sockaddr *)&address, sizeof address))
        fail("connection %u to 127.0.0.1:%u: %s", index + 1, port, strerror(errno));
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    protocol->prepare(c);
    fcntl(c->fd, F_SETFL, O_NONBLOCK);
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = c};
    if (epoll_ctl(epoll, EPOLL_CTL_ADD, c->fd, &event)) fail("epoll_ctl: %s", strerror(errno));
    return c;
}

static void open_window(void) {
    opened = read_clocks();
    measuring = true;
}

static void close_window(void) {
    closed = read_clocks();
    measuring = false;
    stopping = true;
}

static void serve_until_done(void) {
    struct epoll_event events[256];
    int64_t begin_ns = now_ns();
    if (!seconds) open_window();
    while (busy) {
        int count = epoll_wait(epoll, events, 256, 10000);
        if (count == 0) fail("no reply for 10 s");
        if (count < 0 && errno != EINTR) fail("epoll_wait: %s", strerror(errno));
        double passed = (now_ns() - begin_ns) / 1e9;
        if (seconds && !measuring && !stopping && passed >= warmup && !silent) {
            open_window();
            begin_ns = now_ns();
        } else if (seconds && measuring && passed >= seconds) close_window();
        for (int i = 0; i < count; i++) {
            Connection *c = events[i].data.ptr;
            if (events[i].events & EPOLLOUT) send_out(c);
            if (events[i].events & ~EPOLLOUT) read_replies(c);
        }
    }
    if (measuring) close_window();
    if (!opened.wall_ns) fail("the jobs were done before the warm-up was over");
}

static void start_load(void) {
    if (!strcmp(scenario, "blocked") || !strcmp(scenario, "run")) {
        bool calls = !strcmp(scenario, "run");
        unsigned starters = calls ? connections : 1;
        Connection *all = allocate(connections + starters, sizeof(Connection));
        for (unsigned i = 0; i < connections; i++) {
            Connection *leaser = connect_one(&all[i], i, on_leaser_reply, LEASE);
            protocol->lease(leaser, &queues[0]);
            send_out(leaser);
        }
        for (unsigned i = 0; i < starters; i++) {
            Connection *starter = &all[connections + i];
            connect_one(starter, connections + i, calls ? on_caller_reply : on_producer_reply, calls ? RUN : ADD);
            if (!calls) producer = starter;
        }
        busy = silent = starters;
        for (unsigned i = 0; i < starters; i++) (calls ? call : produce)(&all[connections + i]);
    } else {
        Connection *all = allocate(connections, sizeof(Connection));
        for (unsigned i = 0; i < connections; i++) connect_one(&all[i], i, on_lot_reply, first_verb);
        busy = silent = connections;
        for (unsigned i = 0; i < connections; i++) send_lot(&all[i]);
    }
}

/* -- start and report -------------------------------------------------------------------------------------------- */

static double number(const char *option, const char *text, double lowest, double highest) {
    char *end;
    double value = strtod(text, &end);
    if (end == text || *end || !(value >= lowest && value <= highest))
        fail("--%s %s: not a number from %.12g to %.12g", option, text, lowest, highest);
    return value;
}

static void read_options(int argc, char **argv) {
    enum { PROTOCOL, PORT, PID, SCENARIO, CONNECTIONS, DEPTH, PAYLOAD, RESULT, TTL, JOBS, SECONDS, WARMUP, QUEUES,
           LETTER, PRIORITIES };
    static const struct option options[] = {
        {"protocol", required_argument, NULL, PROTOCOL},       /* workq, beanstalk, redis */
        {"port", required_argument, NULL, PORT},               /* of the server, on 127.0.0.1 */
        {"pid", required_argument, NULL, PID},                 /* of the server */
        {"scenario", required_argument, NULL, SCENARIO},       /* cycle, add, drain, blocked, run */
        {"connections", required_argument, NULL, CONNECTIONS}, /* see above */
        {"depth", required_argument, NULL, DEPTH},             /* requests in a lot */
        {"payload", required_argument, NULL, PAYLOAD},         /* bytes of a payload */
        {"result", required_argument, NULL, RESULT},           /* bytes of a result; only Workq has results */
        {"ttl", required_argument, NULL, TTL},                 /* ms; Workq keeps jobs so long, done or not */
        {"jobs", required_argument, NULL, JOBS},               /* stop after so many */
        {"seconds", required_argument, NULL, SECONDS},         /* measure so long */
        {"warmup", required_argument, NULL, WARMUP},           /* seconds before that */
        {"queues", required_argument, NULL, QUEUES},           /* default: one for each connection */
        {"letter", required_argument, NULL, LETTER},           /* with which their names begin, 'q' */
        {"priorities", required_argument, NULL, PRIORITIES},   /* each job has one of so many */
        {0},
    };
    int option, which;
    while ((option = getopt_long(argc, argv, "", options, &which)) != -1) {
        const char *name = option == '?' ? "" : options[which].name;
        switch (option) {
        case PROTOCOL:
            for (size_t i = 0; i < sizeof protocols / sizeof *protocols; i++)
                if (!strcmp(optarg, protocols[i].name)) protocol = &protocols[i];
            break;
        case PORT: port = number(name, optarg, 1, 65535); break;
        case PID: server_pid = number(name, optarg, 1, 1e9); break;
        case SCENARIO: scenario = optarg; break;
        case CONNECTIONS: connections = number(name, optarg, 1, 1e5); break;
        case DEPTH: depth = number(name, optarg, 1, 1e4); break;
        case PAYLOAD: payload_size = number(name, optarg, 0, 1 << 20); break;
        case RESULT: result_size = number(name, optarg, 0, 1 << 20); break;
        case TTL: ttl_ms = number(name, optarg, 1, 1e15); break;
        case JOBS: jobs_limit = number(name, optarg, 1, 1e12); break;
        case SECONDS: seconds = number(name, optarg, 0, 1e6); break;
        case WARMUP: warmup = number(name, optarg, 0, 1e6); break;
        case QUEUES: queue_count = number(name, optarg, 1, 1e7); break;
        case LETTER: queue_letter = optarg[0]; break;
        case PRIORITIES: priorities = number(name, optarg, 1, 1e9); break;
        default: exit(2);
        }
    }
    if (!protocol) fail("--protocol must be workq, beanstalk or redis");
    if (!port || !server_pid) fail("--port and --pid say where the server is");
    if (!seconds && jobs_limit == UINT64_MAX) fail("--seconds or --jobs must say when to stop");
    if (priorities && protocol == &protocols[2]) fail("Redis lists have no priorities");
    first_verb = ADD;
    last_verb = COMPLETE;
    if (!strcmp(scenario, "add")) last_verb = ADD;
    else if (!strcmp(scenario, "drain")) first_verb = LEASE, draining = true;
    else if (!strcmp(scenario, "blocked")) depth = queue_count = 1;
    else if (!strcmp(scenario, "run")) depth = queue_count = 1;
    else if (strcmp(scenario, "cycle")) fail("--scenario must be cycle, add, drain, blocked or run");
    if (!strcmp(scenario, "run") && !protocol->run) fail("%s has nothing like run", protocol->name);
    if (!queue_count) queue_count = connections;
}

int main(int argc, char **argv) {
    read_options(argc, argv);
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    if (clock_getcpuclockid(server_pid, &server_clock)) fail("there is no process %d", (int)server_pid);
    if (getrandom(random_state, sizeof random_state, 0) != sizeof random_state) fail("getrandom: %s", strerror(errno));
    size_t longest = payload_size > result_size ? payload_size : result_size;
    filler = allocate(longest, 1);
    memset(filler, 'x', longest);
    queues = allocate(queue_count, sizeof(Name));
    for (unsigned i = 0; i < queue_count; i++) queues[i] = numbered(queue_letter, i);
    epoll = epoll_create1(0);

    long rss_before = server_rss_bytes();
    start_load();
    serve_until_done();

    if (!operations) fail("not one request was answered within the time measured");
    double window_s = (closed.wall_ns - opened.wall_ns) / 1e9;
    double cpu_us = (closed.server_ns - opened.server_ns) / 1e3 / operations;
    double user = closed.user_ticks - opened.user_ticks, system = closed.system_ticks - opened.system_ticks;
    double user_share = user + system > 0 ? user / (user + system) : 0;
    printf("{\"operations\": %" PRIu64 ", \"seconds\": %.6f, \"operations_per_s\": %.1f, "
           "\"server_cpu_us\": %.4f, \"server_user_us\": %.4f, \"server_system_us\": %.4f, "
           "\"p50_us\": %.2f, \"p99_us\": %.2f, \"p999_us\": %.2f, \"max_us\": %.2f, "
           "\"generator_share\": %.4f, \"jobs_added\": %" PRIu64 ", "
           "\"rss_before_bytes\": %ld, \"rss_after_bytes\": %ld}\n",
           operations, window_s, operations / window_s, cpu_us, cpu_us * user_share, cpu_us * (1 - user_share),
           latency_us(0.5), latency_us(0.99), latency_us(0.999), latency_max / 1e3,
           (closed.own_ns - opened.own_ns) / 1e9 / window_s, jobs_added, rss_before, server_rss_bytes());
    return 0;
}
