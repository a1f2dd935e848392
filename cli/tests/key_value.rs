//! The key-value server of `bench/kv.c` answers its clients alike on pthreads and on preloaded
//! fibers, on every engine, and loses no request.

#[expect(
    dead_code,
    reason = "this test needs the programs, but measures nothing"
)]
mod bench;

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::process::{Child, Stdio};
use std::time::Duration;

use testprogs::{Run, Tool};

/// Longer than any answer takes.
const LIMIT: Duration = Duration::from_secs(60);

/// A running server. It is killed when this is dropped.
struct Server {
    child: Child,
    port: u16,
    about: String,
}

impl Drop for Server {
    fn drop(&mut self) {
        // Both fail only if it has already ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Server {
    fn start(run: &Run, about: String) -> Server {
        let mut command = run.command();
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("it starts");
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().expect("a pipe"))
            .read_line(&mut line)
            .expect("a line");
        let said: serde_json::Value =
            serde_json::from_str(&line).unwrap_or_else(|error| panic!("{about}: {error}: {line}"));
        let port = said["port"].as_u64().and_then(|port| port.try_into().ok());
        Server {
            child,
            port: port.unwrap_or_else(|| panic!("{about}: {line}")),
            about,
        }
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(("127.0.0.1", self.port)).expect("it listens");
        stream.set_nodelay(true).expect("a TCP stream");
        stream.set_read_timeout(Some(LIMIT)).expect("a limit");
        stream
    }

    /// Sends the pieces, and returns everything that the server answers.
    fn answers(&self, pieces: &[&[u8]]) -> String {
        let mut stream = self.connect();
        for piece in pieces {
            if stream.write_all(piece).is_err() {
                break; // the server has ended the session
            }
        }
        // It fails if the server has ended the session.
        let _ = stream.shutdown(Shutdown::Write);
        let mut answers = Vec::new();
        if let Err(error) = stream.read_to_end(&mut answers) {
            // The server need not have read everything when it ended the session.
            assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{}", self.about);
        }
        String::from_utf8_lossy(&answers).into_owned()
    }

    /// Runs a client of Redis, which must succeed silently. Returns its output.
    fn client(&self, tool: &Tool, args: &[&str], stdin: &str) -> String {
        let outcome = Run::new(tool.path())
            .args(["-p", &self.port.to_string()])
            .args(args)
            .stdin(stdin)
            .run()
            .success();
        assert!(
            outcome.stderr.is_empty(),
            "{}: {}",
            self.about,
            outcome.report()
        );
        outcome.text()
    }
}

/// Starts the server on pthreads, and on preloaded fibers on every engine. Runs `check` on each.
fn each_server(protocol: &str, check: impl Fn(&Server)) {
    let dir = bench::programs();
    let pthreads = Run::new(dir.join("kv-pthreads")).args(["1", protocol]);
    check(&Server::start(&pthreads, "pthreads".to_owned()));
    for engine in ["uring", "aio", "threads"] {
        for workers in ["1", "2"] {
            let fibers = Run::new(dir.join("kv"))
                .args([workers, protocol])
                .preload(true)
                .env("AIOSHIM_ENGINE", engine);
            let about = format!("fibers on {engine}, {workers} workers");
            check(&Server::start(&fibers, about));
        }
    }
}

#[test]
fn redis_cli_gets_the_same_answers_on_pthreads_and_on_fibers() {
    let Some(tool) = Tool::find("redis-cli") else {
        return;
    };
    let script = "PING\nPING hello\nECHO \"two words\"\nGET key\n\
                  SET key \"a\\r\\nb\\x00c\"\nGET key\nget KEY\n\
                  INCR number\nincr number\nINCR key\nDEL key number key\nGET number\n\
                  CONFIG GET save\nCONFIG GET appendonly\nCONFIG GET port\nSET key\nFOO bar\n";
    let expected = "PONG\n\"hello\"\n\"two words\"\n(nil)\nOK\n\"a\\r\\nb\\x00c\"\n\
                    (nil)\n(integer) 1\n(integer) 2\n\
                    (error) ERR value is not an integer or out of range\n\
                    (integer) 2\n(nil)\n1) \"save\"\n2) \"\"\n1) \"appendonly\"\n2) \"no\"\n\
                    (empty array)\n(error) ERR wrong number of arguments for 'set' command\n\
                    (error) ERR unknown command\n";
    each_server("redis", |server| {
        let output = server.client(&tool, &["--no-raw"], script);
        assert_eq!(output, expected, "{}", server.about);
    });
}

/// Each client sends as many requests as it was told, and an INCR counts it.
#[test]
fn redis_benchmark_gets_an_answer_to_every_request() {
    let (Some(benchmark), Some(cli)) = (Tool::find("redis-benchmark"), Tool::find("redis-cli"))
    else {
        return;
    };
    let kinds = ["PING_INLINE", "PING_MBULK", "SET", "GET", "INCR"];
    each_server("redis", |server| {
        let mut counted = 0;
        for pipeline in [1, 16] {
            let requests = 1024;
            let args = format!(
                "-c 64 -n {requests} -P {pipeline} -d 1000 -t ping,set,get,incr --csv --precision 3"
            );
            let words: Vec<&str> = args.split(' ').collect();
            let output = server.client(&benchmark, &words, "");
            let measured: Vec<&str> = output
                .lines()
                .skip(1) // the titles
                .filter_map(|line| line.split('"').nth(1))
                .collect();
            assert_eq!(measured, kinds, "{}: {output}", server.about);
            counted += requests;
        }
        let count = server.client(&cli, &["GET", "counter:__rand_int__"], "");
        assert_eq!(count.trim(), counted.to_string(), "{}", server.about);
        let value = server.client(&cli, &["GET", "key:__rand_int__"], "");
        assert_eq!(value.trim().len(), 1000, "{}", server.about);
    });
}

/// Each pair is what a client sends and what the server answers to it.
const REDIS: &[(&str, &str)] = &[
    ("PING\r\n", "+PONG\r\n"),
    ("\r\n", ""),
    ("*1\r\n$4\r\nPING\r\n", "+PONG\r\n"),
    (
        "*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$4\r\n\r\n\r\n\r\n",
        "+OK\r\n",
    ),
    ("  get   k \n", "$4\r\n\r\n\r\n\r\n"),
    ("*3\r\n$3\r\nset\r\n$1\r\nk\r\n$0\r\n\r\n", "+OK\r\n"),
    ("*2\r\n$3\r\nGet\r\n$1\r\nk\r\n", "$0\r\n\r\n"),
    (
        "INCR k\r\n",
        "-ERR value is not an integer or out of range\r\n",
    ),
    ("SET k 9223372036854775806\r\n", "+OK\r\n"),
    ("INCR k\r\n", ":9223372036854775807\r\n"),
    (
        "INCR k\r\n",
        "-ERR value is not an integer or out of range\r\n",
    ),
    ("DEL k k\r\n", ":1\r\n"),
    ("*0\r\n", ""),
    (
        "DEL 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16\r\n",
        "-ERR wrong number of arguments for 'del' command\r\n",
    ),
    ("QUIT\r\n", "+OK\r\n"),
];

const MEMCACHED: &[(&str, &str)] = &[
    ("get none\r\n", "END\r\n"),
    ("set k 0 0 6\r\nget \r\n\r\n", "STORED\r\n"),
    ("get k\r\n", "VALUE k 0 6\r\nget \r\n\r\nEND\r\n"),
    ("set k 0 0 1\r\nabc", "CLIENT_ERROR bad data chunk\r\n"),
    ("\r\n", "ERROR\r\n"),
    ("set k 0 0 0\r\n\r\n", "STORED\r\n"),
    ("get k\r\n", "VALUE k 0 0\r\n\r\nEND\r\n"),
    ("set k 0 0 x\r\n", "ERROR\r\n"),
    ("delete k\r\n", "ERROR\r\n"),
    (
        "set k 0 0 8193\r\n",
        "SERVER_ERROR object too large for cache\r\n",
    ),
];

/// The requests arrive in one piece, one by one, and byte by byte.
#[test]
fn answers_do_not_depend_on_the_pieces_in_which_requests_arrive() {
    for (protocol, session) in [("redis", REDIS), ("memcached", MEMCACHED)] {
        let requests: Vec<&[u8]> = session.iter().map(|(sent, _)| sent.as_bytes()).collect();
        let expected: String = session.iter().map(|&(_, answer)| answer).collect();
        let whole = requests.concat();
        each_server(protocol, |server| {
            let pieces = [
                vec![&whole[..]],
                requests.clone(),
                whole.chunks(1).collect(),
            ];
            for pieces in pieces {
                let about = format!("{}, {} pieces", server.about, pieces.len());
                assert_eq!(server.answers(&pieces), expected, "{about}");
            }
        });
    }
}

/// A request whose form is wrong ends the session, because the server cannot know where the next
/// one begins.
#[test]
fn a_malformed_request_is_refused_and_ends_the_session() {
    each_server("redis", |server| {
        for (sent, reason) in [
            ("*x\r\nPING\r\n", "invalid multibulk length"),
            ("*17\r\nPING\r\n", "invalid multibulk length"),
            ("*1\r\nPING\r\nPING\r\n", "expected '$'"),
            ("*1\r\n$-1\r\nPING\r\n", "invalid bulk length"),
            ("*1\r\n$8193\r\nPING\r\n", "invalid bulk length"),
        ] {
            let answer = server.answers(&[sent.as_bytes()]);
            assert_eq!(
                answer,
                format!("-ERR Protocol error: {reason}\r\n"),
                "{sent}"
            );
        }
        // What follows is longer than the server's buffer.
        let endless = "x".repeat(1 << 16);
        assert_eq!(server.answers(&[endless.as_bytes()]), "");
        assert_eq!(server.answers(&[b"PING\r\n"]), "+PONG\r\n");
    });
}
