// SPDX-License-Identifier: MIT

// Package poll, asynchronous file I/O: statistics, which are counted only if
// AIOSHIM_STATS or the program asks for them.

//go:build linux && (amd64 || arm64)

package poll

import (
	"sync/atomic"
	"syscall"
	_ "unsafe" // for go:linkname
)

type statsFormat int

const (
	statsOff statsFormat = iota
	statsLine
	statsJSON
)

type statistic int

const (
	statCached      statistic = iota // reads that did not wait
	statMissed                       // tries without waiting that failed
	statLeftOut                      // tries left out because the last ones failed
	statEngineRead                   // reads by io_uring or Linux AIO
	statEngineWrite                  // writes by io_uring or Linux AIO
	statPlain                        // plain reads, which delayed no other goroutine or were timed
	statBlocked                      // calls that blocked after the P was handed over
	statTimed                        // reads of slow files without RWF_NOWAIT given to the engine
	statFsync                        // fsyncs for which the P was handed over
	statOpened                       // opens for which the P was handed over
	statWarmed                       // reads before a sendfile
	statPassed                       // transfers that the engine did not accept
	statFailed                       // operations that failed: the plain call reports the error
	statCount
)

var statNames = [statCount]string{
	"cached", "missed", "left_out", "engine_reads", "engine_writes", "plain", "blocked", "timed",
	"fsyncs", "opens", "warmed", "passed_through", "failed",
}

var (
	aioCounting atomic.Bool
	aioCounters [statCount]atomic.Uint64
	aioParkedNs atomic.Int64 // how long goroutines waited for the engine
	aioFailure  atomic.Int32 // the errno of the last operation that failed
)

// aioProgramStats is called by go/stats, which declares this variable, too. In a program that is
// built without the overlay the variable exists only there, and is nil.
//
//go:linkname aioProgramStats
var aioProgramStats = aioStatsForProgram

// aioStatsForProgram returns the statistics as JSON, without a newline. The first call begins to
// count.
func aioStatsForProgram() []byte {
	aioOptions()
	aioCounting.Store(true)
	line := aioStatistics(statsJSON)
	return line[:len(line)-1]
}

func aioCount(s statistic) {
	if aioCounting.Load() {
		aioCounters[s].Add(1)
	}
}

// aioReport writes the statistics, at exit.
func aioReport() {
	o := aioOptions()
	fd := 2
	if o.out != "" {
		const flags = syscall.O_WRONLY | syscall.O_APPEND | syscall.O_CREAT | syscall.O_CLOEXEC |
			syscall.O_NOFOLLOW
		file, err := syscall.Open(processPath(o.out), flags, 0o600)
		if err != nil {
			line := "aioshim-go: AIOSHIM_OUT=" + o.out + ": " + err.Error() + "\n"
			syscall.Write(2, []byte(line))
			return
		}
		fd = file
	}
	syscall.Write(fd, aioStatistics(o.stats))
	if fd != 2 {
		syscall.Close(fd)
	}
}

// processPath replaces %p by the process id.
func processPath(path string) string {
	for i := 0; i+1 < len(path); i++ {
		if path[i:i+2] == "%p" {
			return path[:i] + string(appendNumber(nil, uint64(syscall.Getpid()))) + path[i+2:]
		}
	}
	return path
}

// aioStatistics returns the statistics as a line of text or a line of JSON.
func aioStatistics(format statsFormat) []byte {
	before, between, end := " ", "=", "\n"
	line := []byte(aioMarker)
	if format == statsJSON {
		before, between, end = ",\"", "\":", "}\n"
		line = []byte("{\"aioshim_go\":\"" + aioMarker + "\"")
	}
	add := func(name string, value uint64) {
		line = append(line, before+name+between...)
		line = appendNumber(line, value)
	}
	line = append(line, before+"engine"+between...)
	name := engine(aioEngines.current.Load()).String()
	if !aioOptions().on {
		name = "off"
	}
	if format == statsJSON {
		name = "\"" + name + "\""
	}
	line = append(line, name...)
	add("uring_errno", uint64(aioEngines.errno))
	for i, name := range statNames {
		add(name, aioCounters[i].Load())
	}
	add("failed_errno", uint64(aioFailure.Load()))
	submitted, calls, inflight := runtime_aioCounts()
	add("submitted", submitted)
	add("submit_calls", calls)
	add("in_flight", uint64(inflight))
	add("parked_us", uint64(aioParkedNs.Load())/1000)
	return append(line, end...)
}

func appendNumber(b []byte, v uint64) []byte {
	var digits [20]byte
	i := len(digits)
	for {
		i--
		digits[i] = byte('0' + v%10)
		if v /= 10; v == 0 {
			return append(b, digits[i:]...)
		}
	}
}
