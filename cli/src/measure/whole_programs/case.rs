//! The programs, their sizes, and who takes part.

use super::Run;
use crate::bench::Bench;
use crate::bench::rounds::Rounds;

/// How a participant runs the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A pool of `jobs` pthreads. A server ignores the number and starts a thread for each
    /// connection.
    Pthreads { jobs: u32 },
    /// Fibers on this number of workers. `each` starts a fiber for every file, instead of 64 that
    /// share a queue.
    Fibers { workers: u32, each: bool },
    /// Not this program, but nginx.
    Nginx,
}

/// One way of running a program.
pub struct Participant {
    pub name: &'static str,
    pub kind: Kind,
    /// Whether it may use only one processor.
    pub one_core: bool,
}

const fn on_all(name: &'static str, kind: Kind) -> Participant {
    Participant {
        name,
        kind,
        one_core: false,
    }
}

const fn on_one(name: &'static str, kind: Kind) -> Participant {
    Participant {
        name,
        kind,
        one_core: true,
    }
}

const fn pthreads(jobs: u32) -> Kind {
    Kind::Pthreads { jobs }
}

const fn fibers(workers: u32) -> Kind {
    Kind::Fibers {
        workers,
        each: false,
    }
}

const fn fiber_each(workers: u32) -> Kind {
    Kind::Fibers {
        workers,
        each: true,
    }
}

static INDEXERS: [Participant; 12] = [
    on_all("8 pthreads", pthreads(8)),
    on_all("2 pthreads", pthreads(2)),
    on_all("64 pthreads", pthreads(64)),
    on_all("a fiber a file, 1 worker", fiber_each(1)),
    on_all("a fiber a file, 2 workers", fiber_each(2)),
    on_all("64 fibers, 1 worker", fibers(1)),
    on_all("64 fibers, 2 workers", fibers(2)),
    on_one("2 pthreads, one core", pthreads(2)),
    on_one("8 pthreads, one core", pthreads(8)),
    on_one("64 pthreads, one core", pthreads(64)),
    on_one("a fiber a file, one core", fiber_each(1)),
    on_one("64 fibers, one core", fibers(1)),
];

static COPIERS: [Participant; 5] = [
    on_all("8 pthreads", pthreads(8)),
    on_all("64 pthreads", pthreads(64)),
    on_all("a fiber a file, 1 worker", fiber_each(1)),
    on_all("a fiber a file, 2 workers", fiber_each(2)),
    on_all("64 fibers, 2 workers", fibers(2)),
];

pub(super) static SERVERS: [Participant; 4] = [
    on_all("a thread a connection", pthreads(0)),
    on_all("fibers, 1 worker", fibers(1)),
    on_all("fibers, 2 workers", fibers(2)),
    on_all("nginx", Kind::Nginx),
];

static STORES: [Participant; 3] = [
    on_all("a thread a connection", pthreads(0)),
    on_all("fibers, 1 worker", fibers(1)),
    on_all("fibers, 2 workers", fibers(2)),
];

pub(super) static CREWS_OF_64: [Participant; 3] = [
    on_all("64 pthreads", pthreads(64)),
    on_all("64 fibers, 1 worker", fibers(1)),
    on_all("64 fibers, 2 workers", fibers(2)),
];

static CREWS_OF_8: [Participant; 3] = [
    on_all("8 pthreads", pthreads(8)),
    on_all("8 fibers, 1 worker", fibers(1)),
    on_all("8 fibers, 2 workers", fibers(2)),
];

/// Who sends requests to the key-value server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Client {
    /// loadgen.c, which speaks memcached's protocol.
    Loadgen,
    /// redis-benchmark, which sends `pipeline` requests before it waits for their answers.
    RedisBenchmark { pipeline: u32 },
}

/// What a program does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    Index {
        cold: bool,
    },
    Copy,
    /// Requests over HTTP for a file of `bytes` bytes.
    Http {
        bytes: u64,
        connections: u32,
        keep_alive: bool,
        requests: u32,
    },
    /// `requests` are those of each kind if the client measures kinds one after the other.
    KeyValue {
        client: Client,
        requests: u32,
    },
    /// Each task writes this number of records.
    Log {
        records: u32,
    },
    /// The number of processes.
    Spawn {
        runs: u32,
    },
    /// The iterations of a loop in each task.
    Split {
        turns: u64,
    },
}

impl Work {
    /// Whether clients measure the latency of its answers.
    pub fn is_server(self) -> bool {
        matches!(self, Work::Http { .. } | Work::KeyValue { .. })
    }
}

/// One program with its arguments, and what all participants did.
pub struct Case {
    pub name: String,
    pub work: Work,
    pub participants: &'static [Participant],
    pub rounds: Rounds<Run>,
    /// The sum of the first participant, which all others must find, too.
    pub sum: Option<u64>,
}

impl Case {
    pub fn new(name: impl Into<String>, work: Work, participants: &'static [Participant]) -> Case {
        Case {
            name: name.into(),
            work,
            participants,
            rounds: Rounds::of(participants.len()),
            sum: None,
        }
    }

    /// Whether redis-benchmark is its client.
    pub fn needs_redis_benchmark(&self) -> bool {
        let Work::KeyValue { client, .. } = self.work else {
            return false;
        };
        matches!(client, Client::RedisBenchmark { .. })
    }

    /// The requests of all rounds that failed.
    pub fn failed_requests(&self, who: usize) -> f64 {
        self.rounds.samples(who, Run::failed).total()
    }

    /// The numbers of the participants that `wanted` selects.
    pub fn those(&self, wanted: impl Fn(&Participant) -> bool) -> Vec<usize> {
        let all = self.participants.iter().enumerate();
        all.filter(|(_, participant)| wanted(participant))
            .map(|(who, _)| who)
            .collect()
    }
}

/// All programs, in the order of the table.
pub fn all(bench: &Bench) -> Vec<Case> {
    let mut cases = vec![
        Case::new("indexer, warm", Work::Index { cold: false }, &INDEXERS),
        Case::new("indexer, cold", Work::Index { cold: true }, &INDEXERS),
    ];
    for (size, bytes) in [("4 KB", 4 << 10), ("1 MB", 1 << 20)] {
        for (word, keep_alive) in [("keep-alive", true), ("close", false)] {
            for connections in [64, 1000] {
                let requests = match (bytes == 1 << 20, keep_alive) {
                    (true, _) => bench.pick((200, 1500)).max(connections),
                    (false, true) => bench.pick((2000, 20_000)),
                    (false, false) => bench.pick((1000, 5000)),
                };
                let work = Work::Http {
                    bytes,
                    connections,
                    keep_alive,
                    requests,
                };
                let name = format!("httpd, {size}, {word}, {connections} connections");
                cases.push(Case::new(name, work, &SERVERS));
            }
        }
    }
    for (client, name, requests) in [
        (Client::Loadgen, "memcached", (3000, 20_000)),
        (
            Client::RedisBenchmark { pipeline: 1 },
            "redis-benchmark",
            (3000, 30_000),
        ),
        (
            Client::RedisBenchmark { pipeline: 16 },
            "redis-benchmark, pipeline of 16",
            (48_000, 480_000),
        ),
    ] {
        let requests = bench.pick(requests);
        let name = format!("key-value server, {name}, 64 connections");
        cases.push(Case::new(
            name,
            Work::KeyValue { client, requests },
            &STORES,
        ));
    }
    let records = bench.pick((4, 16));
    let runs = bench.pick((60, 300));
    let turns = bench.pick((1_000_000, 4_000_000));
    cases.extend([
        Case::new("log writer with fsync", Work::Log { records }, &CREWS_OF_64),
        Case::new("copy of a tree", Work::Copy, &COPIERS),
        Case::new("fork and exec", Work::Spawn { runs }, &CREWS_OF_8),
        Case::new("split computation", Work::Split { turns }, &CREWS_OF_64),
    ]);
    cases
}

#[cfg(test)]
mod tests {
    use super::{COPIERS, CREWS_OF_8, CREWS_OF_64, INDEXERS, Kind, Participant, SERVERS, STORES};

    #[test]
    fn the_first_row_is_pthreads_and_names_differ() {
        let crews: [&[Participant]; 6] = [
            &INDEXERS,
            &COPIERS,
            &SERVERS,
            &STORES,
            &CREWS_OF_64,
            &CREWS_OF_8,
        ];
        for crew in crews {
            assert!(matches!(crew[0].kind, Kind::Pthreads { .. }));
            for (who, participant) in crew.iter().enumerate() {
                assert!(
                    crew[..who]
                        .iter()
                        .all(|other| other.name != participant.name),
                    "{}",
                    participant.name
                );
            }
        }
    }
}
