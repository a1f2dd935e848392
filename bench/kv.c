/* SPDX-License-Identifier: MIT */
/* kv.c - a key-value server that speaks the get and set of memcached's text protocol, or as much of
 * the Redis protocol as redis-benchmark and redis-cli need.
 *
 * Clients may send further requests before they have received an answer. The answers to all
 * requests that have arrived are sent together. */
#define _GNU_SOURCE
#include "server.h"
#include "store.h"

static const char usage[] = "kv WORKERS memcached|redis\n"
                            "  WORKERS    OS threads that run the fibers\n"
                            "  memcached  get and set of memcached's text protocol\n"
                            "  redis      PING, ECHO, SET, GET, INCR, DEL, CONFIG GET and QUIT\n"
                            "Prints a line with its port, and one with its cost when standard "
                            "input ends.\n";

/* An answer is at most a value and a line; a request is at most a value and some words. */
enum { ROOM = 16384, LARGEST_ANSWER = MAX_VALUE + 1024, MAX_WORDS = 16, MAX_NUMBER = 9 };

struct session {
    int connection;
    size_t have, used; /* bytes of `in`: received, and those of the executed requests */
    size_t length;     /* bytes of `out` */
    char in[ROOM], out[ROOM];
};

/* What became of the first request that has not been executed. */
enum outcome { DONE, INCOMPLETE, GOODBYE };

static enum outcome (*execute)(struct session *);

static struct word literal(const char *text) { return (struct word){ text, strlen(text) }; }

/* Whether the word is the name, in capital or small letters. */
static int is(struct word word, const char *name)
{
    return word.length == strlen(name) && !strncasecmp(word.at, name, word.length);
}

static void say(struct session *s, struct word word)
{
    memcpy(s->out + s->length, word.at, word.length);
    s->length += word.length;
}

static enum outcome say_line(struct session *s, const char *text)
{
    say(s, literal(text));
    say(s, literal("\r\n"));
    return DONE;
}

/* Ends the session after this line. */
static enum outcome say_goodbye(struct session *s, const char *text)
{
    say_line(s, text);
    return GOODBYE;
}

/* Returns whether the word is a decimal number. */
static int is_number(struct word word, size_t *number)
{
    *number = 0;
    for (size_t i = 0; i < word.length; i++) {
        if (word.at[i] < '0' || word.at[i] > '9')
            return 0;
        *number = *number * 10 + (size_t)(word.at[i] - '0');
    }
    return word.length > 0 && word.length <= MAX_NUMBER;
}

/* Finds the line that begins at `from`. Returns the beginning of the next one, or 0 if the line is
 * not complete. */
static size_t find_line(const struct session *s, size_t from, struct word *line)
{
    const char *at = s->in + from, *end = memchr(at, '\n', s->have - from);
    if (!end)
        return 0;
    *line = (struct word){ at, (size_t)(end - at) };
    if (line->length > 0 && end[-1] == '\r')
        line->length--;
    return (size_t)(end + 1 - s->in);
}

/* Splits a line at its blanks. Returns the number of words, of which it stores MAX_WORDS. */
static unsigned split(struct word line, struct word *words)
{
    const char *at = line.at, *end = at + line.length;
    unsigned count = 0;
    for (;;) {
        while (at < end && *at == ' ')
            at++;
        if (at == end)
            return count;
        const char *from = at;
        while (at < end && *at != ' ')
            at++;
        if (count < MAX_WORDS)
            words[count] = (struct word){ from, (size_t)(at - from) };
        count++;
    }
}

/* ---- memcached ------------------------------------------------------------------------------ */

static enum outcome memcached(struct session *s)
{
    struct word line, words[MAX_WORDS];
    size_t data = find_line(s, s->used, &line), size;
    if (!data)
        return INCOMPLETE;
    unsigned count = split(line, words);
    if (count == 2 && is(words[0], "get") && words[1].length <= MAX_KEY) {
        s->used = data;
        /* The line before the value holds its size, so the value is first copied behind it. */
        char *value = s->out + s->length + MAX_KEY + 64;
        ssize_t found = store_get(words[1], value);
        if (found >= 0) {
            s->length += (size_t)sprintf(s->out + s->length, "VALUE %.*s 0 %zd\r\n",
                                         (int)words[1].length, words[1].at, found);
            memmove(s->out + s->length, value, (size_t)found);
            s->length += (size_t)found;
            say_line(s, "");
        }
        return say_line(s, "END");
    }
    if (count == 5 && is(words[0], "set") && words[1].length <= MAX_KEY &&
        is_number(words[4], &size)) {
        if (size > MAX_VALUE)
            return say_goodbye(s, "SERVER_ERROR object too large for cache");
        if (s->have - data < size + 2)
            return INCOMPLETE;
        s->used = data + size + 2;
        if (memcmp(s->in + data + size, "\r\n", 2))
            return say_line(s, "CLIENT_ERROR bad data chunk");
        store_set(words[1], (struct word){ s->in + data, size });
        return say_line(s, "STORED");
    }
    s->used = data;
    return say_line(s, "ERROR");
}

/* ---- Redis ---------------------------------------------------------------------------------- */

/* A string of any bytes, or no string if its size is -1. The bytes may lie in the free part of the
 * buffer, but behind the place for the line with the size, which has less than MAX_DIGITS bytes. */
static enum outcome say_string(struct session *s, const char *bytes, ssize_t size)
{
    s->length += (size_t)sprintf(s->out + s->length, "$%zd\r\n", size);
    if (size < 0)
        return DONE;
    memmove(s->out + s->length, bytes, (size_t)size);
    s->length += (size_t)size;
    return say_line(s, "");
}

static enum outcome say_number(struct session *s, long long number)
{
    s->length += (size_t)sprintf(s->out + s->length, ":%lld\r\n", number);
    return DONE;
}

static enum outcome ping(struct session *s, const struct word *words, unsigned count)
{
    if (count == 2)
        return say_string(s, words[1].at, (ssize_t)words[1].length);
    return say_line(s, "+PONG");
}

static enum outcome echo(struct session *s, const struct word *words, unsigned count)
{
    (void)count;
    return say_string(s, words[1].at, (ssize_t)words[1].length);
}

static enum outcome set(struct session *s, const struct word *words, unsigned count)
{
    (void)count;
    store_set(words[1], words[2]);
    return say_line(s, "+OK");
}

static enum outcome get(struct session *s, const struct word *words, unsigned count)
{
    (void)count;
    char *value = s->out + s->length + MAX_DIGITS;
    return say_string(s, value, store_get(words[1], value));
}

static enum outcome incr(struct session *s, const struct word *words, unsigned count)
{
    (void)count;
    long long number;
    if (!store_increment(words[1], &number))
        return say_line(s, "-ERR value is not an integer or out of range");
    return say_number(s, number);
}

static enum outcome del(struct session *s, const struct word *words, unsigned count)
{
    long long deleted = 0;
    for (unsigned i = 1; i < count; i++)
        deleted += store_delete(words[i]);
    return say_number(s, deleted);
}

/* redis-benchmark asks for these two before it starts. */
static enum outcome config(struct session *s, const struct word *words, unsigned count)
{
    (void)count;
    int save = is(words[2], "save");
    if (!is(words[1], "get"))
        return say_line(s, "-ERR unknown subcommand");
    if (!save && !is(words[2], "appendonly"))
        return say_line(s, "*0");
    say_line(s, "*2");
    say_string(s, words[2].at, (ssize_t)words[2].length);
    return save ? say_string(s, "", 0) : say_string(s, "no", 2);
}

static enum outcome quit(struct session *s, const struct word *words, unsigned count)
{
    (void)words, (void)count;
    return say_goodbye(s, "+OK");
}

static const struct command {
    const char *name;
    unsigned least, most; /* words, the name included */
    enum outcome (*run)(struct session *, const struct word *words, unsigned count);
} commands[] = {
    { "get", 2, 2, get },       { "set", 3, 3, set },   { "incr", 2, 2, incr },
    { "ping", 1, 2, ping },     { "echo", 2, 2, echo }, { "del", 2, MAX_WORDS, del },
    { "config", 3, 3, config }, { "quit", 1, 1, quit },
};

static enum outcome run_command(struct session *s, const struct word *words, unsigned count)
{
    for (size_t i = 0; i < sizeof commands / sizeof *commands; i++) {
        const struct command *command = &commands[i];
        if (!is(words[0], command->name))
            continue;
        if (count < command->least || count > command->most) {
            s->length += (size_t)sprintf(s->out + s->length,
                                         "-ERR wrong number of arguments for '%s' command\r\n",
                                         command->name);
            return DONE;
        }
        for (unsigned w = 1; w < count; w++)
            if (words[w].length > (w == 1 ? MAX_KEY : MAX_VALUE))
                return say_line(s, "-ERR a key or a value is too long");
        return command->run(s, words, count);
    }
    return say_line(s, "-ERR unknown command");
}

/* Reads the words of "*COUNT" and COUNT times "$SIZE" with SIZE bytes. Stores where the next
 * request begins. */
static enum outcome read_strings(struct session *s, struct word *words, unsigned *count,
                                 size_t *next)
{
    struct word line;
    size_t number, at = find_line(s, s->used, &line);
    if (!at)
        return INCOMPLETE;
    line.at++, line.length--;
    if (!is_number(line, &number) || number > MAX_WORDS)
        return say_goodbye(s, "-ERR Protocol error: invalid multibulk length");
    *count = (unsigned)number;
    for (unsigned i = 0; i < *count; i++) {
        size_t size;
        if (!(at = find_line(s, at, &line)))
            return INCOMPLETE;
        if (line.length == 0 || line.at[0] != '$')
            return say_goodbye(s, "-ERR Protocol error: expected '$'");
        line.at++, line.length--;
        if (!is_number(line, &size) || size > MAX_VALUE)
            return say_goodbye(s, "-ERR Protocol error: invalid bulk length");
        if (s->have - at < size + 2)
            return INCOMPLETE;
        words[i] = (struct word){ s->in + at, size };
        at += size + 2;
    }
    *next = at;
    return DONE;
}

static enum outcome redis(struct session *s)
{
    struct word line, words[MAX_WORDS];
    unsigned count;
    size_t next;
    if (s->used < s->have && s->in[s->used] == '*') {
        enum outcome outcome = read_strings(s, words, &count, &next);
        if (outcome != DONE)
            return outcome;
    } else {
        next = find_line(s, s->used, &line);
        if (!next)
            return INCOMPLETE;
        count = split(line, words);
    }
    s->used = next;
    return count ? run_command(s, words, count) : DONE; /* an empty line has no answer */
}

/* ---- Sessions ------------------------------------------------------------------------------- */

/* Returns 0, or -1 if the peer is gone. */
static int send_answers(struct session *s)
{
    size_t length = s->length;
    s->length = 0;
    return send_all(s->connection, s->out, length, 0);
}

/* Receives more bytes. Returns 0 if the peer is gone, or if the request is too long. */
static int receive(struct session *s)
{
    ssize_t n;
    s->have -= s->used;
    memmove(s->in, s->in + s->used, s->have);
    s->used = 0;
    do
        n = recv(s->connection, s->in + s->have, ROOM - s->have, 0);
    while (n < 0 && errno == EINTR);
    if (n <= 0)
        return 0;
    s->have += (size_t)n;
    return 1;
}

static void serve_requests(int connection)
{
    struct session *s = malloc(sizeof *s);
    if (!s)
        die(ENOMEM, "the buffers of a connection");
    s->connection = connection;
    s->have = s->used = s->length = 0;
    while (receive(s)) {
        enum outcome outcome;
        while ((outcome = execute(s)) == DONE) {
            atomic_fetch_add_explicit(&server.requests, 1, memory_order_relaxed);
            if (s->length > ROOM - LARGEST_ANSWER && send_answers(s))
                goto gone;
        }
        if (send_answers(s) || outcome == GOODBYE)
            break;
    }
gone:
    free(s);
}

int main(int argc, char **argv)
{
    unsigned workers = argc == 3 ? (unsigned)strtoul(argv[1], NULL, 10) : 0;
    if (workers && !strcmp(argv[2], "memcached"))
        execute = memcached;
    else if (workers && !strcmp(argv[2], "redis"))
        execute = redis;
    if (!execute) {
        fputs(usage, stderr);
        return 2;
    }
    store_init();
    server.serve = serve_requests;
    server_run(workers);
    return 0;
}
