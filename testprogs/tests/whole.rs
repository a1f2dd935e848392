//! Complete programs that do not use fibers, with their main thread as a fiber
//! (`AIOSHIM_MAIN=fiber`). They and all their child processes have the same output, errors and exit
//! status as without the shim.

use testprogs::{Flavor, Outcome, Run, Scratch, Stats, Tool, program};

/// The engines: the best available one, and each of the others in turn.
const OTHERS: [&str; 2] = ["aio", "threads"];

/// Runs one bash command line in an empty directory.
fn run(script: &str, programs: &[&str], engine: Option<&str>) -> Outcome {
    let bash = Tool::find("bash").expect("every machine has it");
    let dir = Scratch::new();
    let mut run = Run::new(bash.path())
        .args(["-c", script])
        .dir(dir.path())
        .stdin("line one\nline two\n")
        .env("HOME", dir.path())
        .env("LC_ALL", "C");
    for (name, value) in [
        ("GIT_CONFIG_NOSYSTEM", "1"),
        ("GIT_AUTHOR_NAME", "n"),
        ("GIT_AUTHOR_EMAIL", "n@example.org"),
        ("GIT_AUTHOR_DATE", "@0 +0000"),
        ("GIT_COMMITTER_NAME", "n"),
        ("GIT_COMMITTER_EMAIL", "n@example.org"),
        ("GIT_COMMITTER_DATE", "@0 +0000"),
    ] {
        run = run.env(name, value);
    }
    for name in programs {
        run = run.env(
            name.to_uppercase(),
            program(&format!("whole/{name}"), Flavor::Plain),
        );
    }
    match engine {
        Some(engine) => run
            .preload(true)
            .env("AIOSHIM_MAIN", "fiber")
            .env("AIOSHIM_ENGINE", engine)
            .run(),
        None => run.run(),
    }
}

/// Runs each row plainly and as a fiber; skips a row whose tools are missing.
#[track_caller]
fn unnoticed(rows: &[(&[&str], &str)]) {
    for (number, (tools, script)) in rows.iter().enumerate() {
        let (ours, tools): (Vec<&str>, Vec<&str>) =
            tools.iter().partition(|tool| OURS.contains(tool));
        if tools.iter().any(|tool| Tool::find(tool).is_none()) {
            continue;
        }
        let plain = run(script, &ours, None);
        for engine in ["auto", OTHERS[number % OTHERS.len()]] {
            let fiber = run(script, &ours, Some(engine));
            let same = (&fiber.stdout, &fiber.stderr, fiber.status)
                == (&plain.stdout, &plain.stderr, plain.status);
            assert!(
                same,
                "plain: {}\n\n{engine}: {}",
                plain.report(),
                fiber.report()
            );
        }
    }
}

/// The programs of c/whole; `$ALARMJUMP`, for example, is the path of the first.
const OURS: [&str; 7] = [
    "alarmjump",
    "confined",
    "maincancel",
    "mainerrno",
    "mainexit",
    "threadstate",
    "vforks",
];

#[test]
fn what_the_main_thread_calls_is_converted() {
    let dir = Scratch::new();
    let python = Tool::find("python3");
    let Some(python) = python else { return };
    let report = dir.path().join("stats");
    let script = "import os,time; r,w=os.pipe(); p=os.fork()
if p==0: time.sleep(0.01); os.write(w,b'x'); os._exit(0)
os.read(r,1); os.waitpid(p,0); time.sleep(0.001)";
    Run::new(python.path())
        .args(["-c", script])
        .preload(true)
        .env("AIOSHIM_MAIN", "fiber")
        .env("AIOSHIM_STATS", "json")
        .env("AIOSHIM_OUT", &report)
        .run()
        .success();
    let text = std::fs::read_to_string(&report).expect("the report");
    // There is one line per process, because python3 may be a script that starts the interpreter.
    let converts = |line: &str| {
        let stats = Stats::parse(line).expect("statistics");
        // If the child was faster, the call finds its result without parking.
        let ours = |name| stats.call(name).converted + stats.call(name).inline > 0;
        ours("read") && ours("waitpid") && stats.call("clock_nanosleep").converted > 0
    };
    assert!(text.lines().any(converts), "{text}");
}

#[test]
fn shells() {
    unnoticed(&[
        (
            &["dash"],
            "dash -c 'echo a b c | tr a-c x-z; for i in 1 2 3; do echo $i; done | sort -r | while read x; do echo got $x; done; exit 7'",
        ),
        (
            &["bash"],
            "read -r x; echo \"$x\"; cat; cat <<< here; diff <(echo a) <(echo b)",
        ),
        (
            &["bash"],
            "trap 'echo usr1' USR1; (sleep 0.05; kill -USR1 $$) & wait $!; wait; echo done",
        ),
        (
            &["dash"],
            "dash -c 'trap \"echo usr1\" USR1; (sleep 0.05; kill -USR1 $$) & wait $!; wait; echo done'",
        ),
        (
            &["bash"],
            "trap 'echo term; exit 9' TERM; (sleep 0.05; kill -TERM $$) & while :; do sleep 0.01; done",
        ),
        (&["bash"], "kill -9 $$"),
        (&["bash"], "kill -SEGV $$"),
        (
            &["bash"],
            "sleep 5 & p=$!; kill $p; wait $p 2>/dev/null; echo $?",
        ),
        (
            &["bash"],
            "coproc c { tr a-z A-Z; }; echo hi >&${c[1]}; eval \"exec ${c[1]}>&-\"; cat <&${c[0]}; mkfifo p; (echo data > p) & cat p; wait",
        ),
        (
            &["bash"],
            "set -m; (exit 3); echo $?; sleep 10 & kill -STOP %1; sleep 0.05; kill -CONT %1; kill %1; wait %1 2>/dev/null; echo $?",
        ),
        (
            &["bash"],
            "ulimit -n 20; for i in 1 2 3; do exec {fd}<>f$i; done; echo ok $fd",
        ),
        (
            &["flock"],
            "(flock 9; sleep 0.05; echo first) 9>lock & sleep 0.02; flock lock -c 'echo second'; wait",
        ),
    ]);
}

#[test]
fn coreutils() {
    unnoticed(&[
        (
            &["sort"],
            "seq 100000 | sort --parallel=4 -S 1M -rn | head -n 5; echo ${PIPESTATUS[@]}",
        ),
        (&["head"], "yes | head -n 3; echo ${PIPESTATUS[0]}"),
        (
            &["timeout"],
            "timeout 0.1 sleep 10; echo $?; (timeout -s KILL 0.1 bash -c 'while :; do :; done'; echo $?) 2>/dev/null",
        ),
        (
            &["nohup"],
            "nohup echo hi 2>/dev/null </dev/null; nice echo nice; env -i /bin/echo alone",
        ),
        (
            &["dd"],
            "seq 1000 > f; dd if=f of=g bs=37 2>/dev/null; cmp f g && echo same; dd if=f bs=1k count=1 2>/dev/null | cksum",
        ),
        (
            &["split"],
            "seq 1000 > f; split -l 100 f part.; cat part.* | cmp - f && echo same; comm -12 <(sort f) <(sort -r f | sort) | wc -l; paste f f | cut -f2 | uniq | cksum",
        ),
        (
            &["tail"],
            "(for i in 1 2 3; do echo line $i; sleep 0.03; done > log) & p=$!; touch log; tail -f -s 0.02 --pid=$p -n +1 log | tee copy; cmp log copy && echo same",
        ),
        (
            &["tee"],
            "seq 1000 | tee a b c | cksum; cmp a b && cmp b c && echo same; shuf -i 1-50 --random-source=a | sort -n | cksum",
        ),
        (
            &["cp"],
            "mkdir d; seq 100 > d/f; ln -s f d/l; cp -a d e; diff -r d e && echo same; mv e g; ls -R g; rm -r d g; stat -c %s /no/such 2>&1",
        ),
    ]);
}

#[test]
fn archives_and_files() {
    unnoticed(&[
        (
            &["tar", "gzip"],
            "mkdir -p a/b; seq 5000 > a/b/f; touch -d @0 a/b/f a/b a; tar cf - a | gzip -9n | tee x.tgz | cksum; tar xzf x.tgz --to-stdout | cksum; tar tzvf x.tgz | awk '{print $1,$NF}'",
        ),
        (
            &["xz", "bzip2"],
            "seq 20000 | xz -T2 | xz -d | cksum; seq 20000 | bzip2 | bunzip2 | cksum",
        ),
        (
            &["find", "xargs"],
            "find /usr/include -maxdepth 1 -name '*.h' -print0 | xargs -0 -P 4 -n 5 wc -l | awk '/total/{next}{s+=$1} END{print s}'",
        ),
        (
            &["find"],
            "mkdir d; touch d/a d/b d/c; find d -type f -exec basename {} \\; | sort; find d -name b -delete; ls d",
        ),
        (
            &["sed", "awk"],
            "printf 'a b\\nc d\\n' | sed 's/\\(.\\) \\(.\\)/\\2 \\1/; $!N' | awk '{ \"echo sub\" | getline x; print x, $0 | \"sort\" } END { close(\"sort\"); system(\"echo sys; exit 3\") }'; grep -rn one . ; echo $?",
        ),
        (
            &["strace"],
            "strace -f -o log sh -c 'echo traced | cat; exit 3'; echo $?; grep -c exited log >/dev/null && echo logged",
        ),
        (
            &["script"],
            "script -qec 'echo tty; tty >/dev/null && echo yes; stty -a | head -c 5' /dev/null </dev/null | tr -d '\\r'",
        ),
    ]);
}

#[test]
fn perl() {
    unnoticed(&[
        (
            &["perl"],
            "perl -e '$|=1; pipe(R,W); if(!fork){close R; print W \"child\\n\" x 2; exit 3} close W; @l=<R>; wait; print scalar(@l), \" \", $?>>8, \"\\n\"; open(P,\"-|\",\"echo piped\"); print <P>; close P; print `echo tick`; system(\"exit 4\"); print $?>>8,\"\\n\"'",
        ),
        (
            &["perl"],
            "perl -e '$|=1; $SIG{ALRM}=sub{die \"alarm\\n\"}; eval{alarm 1; select(undef,undef,undef,10);}; print \"died: $@\"; pipe(R,W); eval{alarm 1; <R>}; print \"died: $@\"; kill \"TERM\",$$'",
        ),
        (
            &["perl"],
            "perl -e 'for(1..4){ if(!($p=fork)){ exit $_ } push @p,$p } $s+=waitpid($_,0)?$?>>8:0 for @p; print \"$s\\n\"; $SIG{CHLD}=sub{$n++; wait}; if(!fork){exit 0} select(undef,undef,undef,5); print \"chld $n\\n\"; alarm 1; sleep 20'",
        ),
        (
            &["perl"],
            "perl -MSocket -e 'socketpair(A,B,AF_UNIX,SOCK_STREAM,0); if(!fork){close A; while(<B>){syswrite B, uc} exit} close B; for(1..3){syswrite A,\"line $_\\n\"; print scalar <A>} close A; wait; print $?,\"\\n\"; while(<STDIN>){print length,\"\\n\"}'",
        ),
    ]);
}

#[test]
fn python() {
    unnoticed(&[
        (&["python3"], "python3 -c 'import subprocess as s
print(s.run([\"sh\",\"-c\",\"cat; echo err >&2; exit 3\"],input=b\"in\\n\",capture_output=True)); print(s.check_output(\"echo hi | tr h j\",shell=True)); p=s.Popen([\"sleep\",\"10\"]); p.terminate(); print(p.wait())
try: s.run([\"sleep\",\"10\"],timeout=0.05)
except s.TimeoutExpired: print(\"timeout\")'"),
        (&["python3"], "python3 -c 'import threading,queue
q=queue.Queue(); ts=[threading.Thread(target=lambda i=i: [q.put((i,n)) for n in range(100)]) for i in range(4)]; [t.start() for t in ts]; [t.join() for t in ts]; print(q.qsize())'"),
        (&["python3"], "python3 -c 'import multiprocessing as m
if __name__==\"__main__\":
  with m.Pool(3) as p: print(p.map(abs, range(-5,5)))
  q=m.Queue(); p=m.Process(target=q.put,args=(42,)); p.start(); print(q.get()); p.join(); print(p.exitcode)'"),
        (&["python3"], "python3 -c 'import asyncio
async def w(i): await asyncio.sleep(0.005*i); return i
async def main():
  print(await asyncio.gather(*[w(i) for i in range(5)]))
  p=await asyncio.create_subprocess_exec(\"cat\",stdin=-1,stdout=-1); print(await p.communicate(b\"xyz\"))
  s=await asyncio.start_server(lambda r,w:(w.write(b\"hello\"),w.close()),\"127.0.0.1\",0); port=s.sockets[0].getsockname()[1]
  r,wr=await asyncio.open_connection(\"127.0.0.1\",port); print(await r.read())
asyncio.run(main())'"),
        (&["python3"], "python3 -c 'import signal,os,time
signal.signal(signal.SIGALRM,lambda s,f:print(\"alrm\")); signal.setitimer(signal.ITIMER_REAL,0.05); signal.pause()
signal.signal(signal.SIGUSR1,lambda s,f:print(\"usr1\")); os.kill(os.getpid(),signal.SIGUSR1)
signal.setitimer(signal.ITIMER_REAL,0.05); t=time.monotonic(); time.sleep(0.2); print(time.monotonic()-t>0.19)
signal.pthread_sigmask(signal.SIG_BLOCK,[signal.SIGUSR2]); os.kill(os.getpid(),signal.SIGUSR2); print(signal.sigwait([signal.SIGUSR2])); print(signal.sigtimedwait([signal.SIGUSR2],0.01))
try:
  signal.signal(signal.SIGALRM,lambda s,f:1/0); signal.setitimer(signal.ITIMER_REAL,0.05); r,w=os.pipe(); os.read(r,1)
except ZeroDivisionError: print(\"zde\")
os.kill(os.getpid(),signal.SIGTERM)'"),
        (&["python3"], "python3 -c 'import http.server,threading,urllib.request,os
os.makedirs(\"d\"); open(\"d/f\",\"w\").write(\"x\"*100000); os.chdir(\"d\")
class H(http.server.SimpleHTTPRequestHandler):
  def log_message(s,*a): pass
s=http.server.ThreadingHTTPServer((\"127.0.0.1\",0),H); threading.Thread(target=s.serve_forever,daemon=True).start()
for i in range(5): print(len(urllib.request.urlopen(\"http://127.0.0.1:%d/f\"%s.server_port).read()))
s.shutdown()'"),
        // Here both server and client run on main threads.
        (&["python3"], "mkfifo port; python3 -c 'import http.server as h
class H(h.SimpleHTTPRequestHandler):
  def log_message(s,*a): pass
s=h.HTTPServer((\"127.0.0.1\",0),H); print(s.server_port,file=open(\"port\",\"w\")); s.handle_request(); s.handle_request()' & echo content > file; read p < port; python3 -c 'import sys,urllib.request as u
b=\"http://127.0.0.1:\"+sys.argv[1]; print(u.urlopen(b+\"/file\").read()); print(b\"Directory\" in u.urlopen(b+\"/\").read())' $p; wait; echo $?"),
        (&["python3"], "python3 -c 'import socket,selectors,os
a,b=socket.socketpair(); s=selectors.DefaultSelector(); s.register(a,selectors.EVENT_READ)
if os.fork()==0: b.sendall(b\"hello\"); os._exit(0)
print(len(s.select(10)), a.recv(9)); print(os.wait()[1]); import sys; [print(len(l)) for l in sys.stdin]; sys.exit(5)'"),
    ]);
}

#[test]
fn databases_and_repositories() {
    unnoticed(&[
        (
            &["sqlite3"],
            "sqlite3 db 'create table t(a,b); insert into t values(1,2),(3,4); select sum(a*b) from t;' && sqlite3 db .dump && sqlite3 db 'pragma integrity_check; pragma journal_mode=wal; insert into t select a+1,b from t; select count(*) from t'",
        ),
        (
            &["git"],
            "git init -q -b main r && cd r && seq 100 > f && git add f && git commit -qm one && seq 90 > f && git commit -qam two && git log --stat | cat && cd .. && git clone -q r s && cd s && git log --oneline | cat && git gc -q && git fsck --no-progress && git diff HEAD~1 | tail -3",
        ),
    ]);
}

#[test]
fn builds() {
    unnoticed(&[
        (
            &["make"],
            "printf 'all: a b c d\\n%%: ; @sleep 0.02; echo $@ > $@\\nfail: ; false\\n' > Makefile; make -s -j2; cat a b c d; make -j2 -k fail; echo $?",
        ),
        (
            &["c++"],
            "printf '#include <iostream>\\n#include <fstream>\\n#include <stdexcept>\\n#include <string>\\nint main(){ try { throw std::runtime_error(\"x\"); } catch (std::exception &e) { std::cout << e.what() << std::endl; } std::string s; while (std::getline(std::cin, s)) std::cout << s.size() << \"\\\\n\"; std::ofstream(\"o\") << 42; std::ifstream i(\"o\"); int n; i >> n; std::cout << n << std::endl; throw 3; }' > x.cc; c++ -pipe -o x x.cc && (ulimit -c 0; ./x 2>&1; echo $?) 2>/dev/null",
        ),
        (
            &["gcc"],
            "echo 'int main(){return 5;}' > t.c; gcc -save-temps -o t t.c && ./t; echo $?; ls",
        ),
    ]);
}

#[test]
fn a_program_of_one_thread_stays_one() {
    let script = "import os, select, subprocess, tempfile, time
def threads(): print(open(\"/proc/self/stat\").read().rsplit(\")\")[1].split()[17])
threads(); time.sleep(0.001); r, w = os.pipe(); os.write(w, b\"x\"); os.read(r, 1); select.select([], [], [], 0.001); threads()
f = tempfile.TemporaryFile(); f.write(b\"x\" * 100000); f.flush(); os.fsync(f.fileno()); f.seek(0); f.read(); threads()
os.listdir(\"/\"); list(os.walk(\"/etc\", topdown=False))[:1]; os.system(\"true\"); subprocess.run([\"true\"]); threads()";
    unnoticed(&[(&["python3"], &format!("python3 -c '{script}'"))]);
}

#[test]
fn errno_is_zero_when_main_begins() {
    unnoticed(&[(
        &["mainerrno"],
        "$MAINERRNO; AIOSHIM_LOG=warn AIOSHIM_STATS=0 $MAINERRNO",
    )]);
}

#[test]
fn signals_processes_and_ends() {
    unnoticed(&[
        (&["alarmjump"], "$ALARMJUMP; echo $?"),
        (&["mainexit"], "$MAINEXIT; echo $?"),
        (&["maincancel"], "$MAINCANCEL; echo $?"),
        (&["maincancel"], "$MAINCANCEL; echo $?"),
        (&["vforks"], "$VFORKS; echo $?"),
    ]);
}

#[test]
fn a_program_that_confines_itself_gets_what_its_filter_allows() {
    unnoticed(&[(&["confined"], "$CONFINED"), (&["confined"], "$CONFINED")]);
}

#[test]
fn what_a_thread_changes_about_itself_holds_for_all_it_calls() {
    unnoticed(&[
        (&["threadstate"], "$THREADSTATE"),
        (&["threadstate"], "$THREADSTATE"),
        (
            &["setpriv"],
            "setpriv --reuid nobody --regid nogroup --init-groups id",
        ),
        (&["unshare"], "unshare --user --map-root-user id -u"),
        (
            &["unshare"],
            "unshare --mount --uts --ipc sh -c 'mount -t tmpfs none /mnt && ls /mnt | wc -l'",
        ),
    ]);
}
