//! redis-server, whose main thread runs an event loop beside threads that close and sync files, as
//! a fiber (`AIOSHIM_MAIN=fiber`). Its clients notice nothing, and it saves everything.

use std::path::Path;
use std::process::{Child, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use testprogs::{Outcome, Run, Scratch, Tool};

/// Longer than anything takes.
const LIMIT: Duration = Duration::from_secs(60);

/// Between two looks at a server that starts or ends.
const PAUSE: Duration = Duration::from_millis(5);

struct Server {
    child: Child,
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
    /// Starts the server in `dir`, where its files are. On an engine it is preloaded.
    fn start(tool: &Tool, dir: &Path, engine: Option<&str>) -> Server {
        let mut run = Run::new(tool.path())
            .args(["--port", "0", "--unixsocket", "socket", "--save", ""])
            .args(["--appendonly", "yes", "--appendfsync", "always"])
            .dir(dir);
        if let Some(engine) = engine {
            run = run
                .preload(true)
                .env("AIOSHIM_MAIN", "fiber")
                .env("AIOSHIM_ENGINE", engine);
        }
        let about = format!("{engine:?}");
        let mut command = run.command();
        command.stdin(Stdio::null()).stdout(Stdio::null());
        let child = command.spawn().expect("it starts");
        Server { child, about }
    }

    /// Waits until it has ended by itself.
    fn end(mut self) -> ExitStatus {
        let start = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().expect("it is our child") {
                return status;
            }
            assert!(start.elapsed() < LIMIT, "{}: it does not end", self.about);
            std::thread::sleep(PAUSE);
        }
    }
}

/// Runs a client in the directory of the server. Returns its output.
fn client(tool: &Tool, dir: &Path, args: &[&str], stdin: &str) -> Outcome {
    Run::new(tool.path())
        .args(["-s", "socket"])
        .args(args)
        .dir(dir)
        .stdin(stdin)
        .run()
}

/// Waits until the server answers.
fn await_start(server: &Server, cli: &Tool, dir: &Path) {
    let start = Instant::now();
    while client(cli, dir, &["PING"], "").text() != "PONG\n" {
        assert!(start.elapsed() < LIMIT, "{}: no answer", server.about);
        std::thread::sleep(PAUSE);
    }
}

/// What clients see of a server: before and after it is restarted.
fn session(server: &Tool, cli: &Tool, benchmark: &Tool, engine: Option<&str>) -> String {
    let dir = Scratch::new();
    let dir = dir.path();
    let mut seen = String::new();
    let running = Server::start(server, dir, engine);
    await_start(&running, cli, dir);
    for pipeline in ["1", "16"] {
        let args = ["-c", "64", "-n", "1024", "-P", pipeline, "--csv"];
        let kinds = ["-t", "ping,set,get,incr,lpush,lrange_100,mset"];
        let outcome = client(benchmark, dir, &[args.as_slice(), &kinds].concat(), "").success();
        assert!(
            outcome.stderr.is_empty(),
            "{engine:?}: {}",
            outcome.report()
        );
        for line in outcome.text().lines() {
            seen += line.split(',').next().expect("a title");
            seen += "\n";
        }
    }
    let script = "GET counter:__rand_int__\nLLEN mylist\nSET key value\nBGREWRITEAOF\n\
                  BLPOP nothing 0.01\nSET key other\nSAVE\nDBSIZE\nSHUTDOWN\n";
    seen += &client(cli, dir, &[], script).success().text();
    let status = running.end();
    assert!(status.success(), "{engine:?}: {status}");

    let running = Server::start(server, dir, engine);
    await_start(&running, cli, dir);
    let script = "GET counter:__rand_int__\nLLEN mylist\nGET key\nDBSIZE\nSHUTDOWN\n";
    seen += &client(cli, dir, &[], script).success().text();
    let status = running.end();
    assert!(status.success(), "{engine:?}: {status}");
    seen
}

#[test]
fn redis_server_on_a_fiber_answers_and_saves_as_without_the_preload() {
    let tools = ["redis-server", "redis-cli", "redis-benchmark"].map(Tool::find);
    let [Some(server), Some(cli), Some(benchmark)] = &tools else {
        return;
    };
    let plain = session(server, cli, benchmark, None);
    assert!(plain.contains("\"INCR\""), "{plain}");
    for engine in ["uring", "aio", "threads"] {
        assert_eq!(
            session(server, cli, benchmark, Some(engine)),
            plain,
            "{engine}"
        );
    }
}
