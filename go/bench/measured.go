// SPDX-License-Identifier: MIT

// What every benchmark needs: goroutines that repeat an operation for a while, beside
// another goroutine that works, and one line of JSON with counts and latencies.
package main

import (
	"encoding/json"
	"fmt"
	"math/bits"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"
)

const blockSize = 4096

var stop atomic.Bool

// histogram counts latencies in steps of at most 1/32.
type histogram [64 * 32]uint32

func (h *histogram) add(ns int64) {
	n := uint64(max(ns, 32))
	top := bits.Len64(n) - 1
	h[top*32+int(n>>(top-5)&31)]++
}

// quantile returns the latency in us below which a part q of all are.
func (h *histogram) quantile(q float64) float64 {
	var all, sum uint64
	for _, n := range h {
		all += uint64(n)
	}
	for i, n := range h {
		if sum += uint64(n); float64(sum) >= q*float64(all) && sum > 0 {
			return float64(uint64(32+i%32+1)<<(i/32)) / 32 / 1000
		}
	}
	return 0
}

// measure has goroutines repeat the operations that `operation` returns for them, and
// prints the line. other is none, yield or busy.
func measure(goroutines, ms int, other string, operation func(i int) func(uint64, []byte) error) {
	histograms := make([]histogram, goroutines)
	counts := make([]uint64, goroutines)
	ready := make(chan struct{})
	var group sync.WaitGroup
	for i := 0; i < goroutines; i++ {
		one := operation(i)
		group.Add(1)
		go func(i int) {
			defer group.Done()
			<-ready
			counts[i] = work(one, uint64(i), &histograms[i])
		}(i)
	}
	var turns uint64
	var others sync.WaitGroup
	if other != "none" {
		others.Add(1)
		go func() {
			defer others.Done()
			<-ready
			turns = compute(other == "yield")
		}()
	}
	before := usage()
	start := time.Now()
	close(ready)
	// A thread of its own keeps the time, so that the end does not wait for a P.
	go func() {
		runtime.LockOSThread()
		time.Sleep(time.Duration(ms) * time.Millisecond)
		stop.Store(true)
	}()
	group.Wait()
	others.Wait()
	ns := time.Since(start).Nanoseconds()
	var all histogram
	var operations uint64
	for i := range histograms {
		operations += counts[i]
		for j, n := range histograms[i] {
			all[j] += n
		}
	}
	report(operations, ns, before, &all, turns)
}

// work repeats one until the time is over. It returns how often.
func work(one func(uint64, []byte) error, seed uint64, h *histogram) (count uint64) {
	buffer := make([]byte, 2*blockSize)
	skip := -uintptr(unsafe.Pointer(&buffer[0])) % blockSize
	b := buffer[skip : skip+blockSize]
	state := (seed + 1) * 0x9e3779b97f4a7c15
	for !stop.Load() {
		state ^= state << 13
		state ^= state >> 7
		state ^= state << 17
		start := time.Now()
		check(one(state, b))
		h.add(time.Since(start).Nanoseconds())
		count++
	}
	return count
}

// report prints the line of JSON.
func report(operations uint64, ns int64, before syscall.Rusage, all *histogram, turns uint64) {
	after := usage()
	line, err := json.Marshal(map[string]any{
		"operations":   operations,
		"ns":           ns,
		"user_us":      us(after.Utime) - us(before.Utime),
		"system_us":    us(after.Stime) - us(before.Stime),
		"voluntary":    after.Nvcsw - before.Nvcsw,
		"involuntary":  after.Nivcsw - before.Nivcsw,
		"threads":      threads(),
		"peak_rss_kib": after.Maxrss,
		"device_bytes": nil,
		"exhausted":    false,
		"p50_us":       all.quantile(0.5),
		"p99_us":       all.quantile(0.99),
		"p999_us":      all.quantile(0.999),
		"turns":        turns,
	})
	check(err)
	fmt.Println(string(line))
}

// compute works until the time is over. It returns how often it has worked for
// 10 us.
func compute(yield bool) (turns uint64) {
	rounds := calibrate()
	for !stop.Load() {
		spin(rounds)
		turns++
		if yield {
			runtime.Gosched()
		}
	}
	return turns
}

var sink atomic.Uint64

//go:noinline
func spin(rounds int) {
	x := uint64(rounds)
	for i := 0; i < rounds; i++ {
		x ^= x << 13
		x ^= x >> 7
		x ^= x << 17
	}
	sink.Store(x)
}

// calibrate returns the number of rounds that take 10 us.
func calibrate() int {
	const rounds = 10000
	best := time.Hour
	for i := 0; i < 10; i++ {
		start := time.Now()
		spin(rounds)
		best = min(best, time.Since(start))
	}
	return max(1, int(10*time.Microsecond*rounds/max(best, 1)))
}

func usage() (u syscall.Rusage) {
	check(syscall.Getrusage(syscall.RUSAGE_SELF, &u))
	return u
}

func us(t syscall.Timeval) int64 { return t.Sec*1e6 + int64(t.Usec) }

func threads() int {
	status, err := os.ReadFile("/proc/self/status")
	check(err)
	for _, line := range strings.Split(string(status), "\n") {
		if value, found := strings.CutPrefix(line, "Threads:"); found {
			n, err := strconv.Atoi(strings.TrimSpace(value))
			check(err)
			return n
		}
	}
	return 0
}

// drop removes a file from the page cache.
func drop(file *os.File) { advise(file, 4) }

// random has the kernel not read ahead.
func random(file *os.File) { advise(file, 1) }

func advise(file *os.File, advice uintptr) {
	_, _, errno := syscall.Syscall6(syscall.SYS_FADVISE64, file.Fd(), 0, 0, advice, 0, 0)
	if errno != 0 {
		fail(errno)
	}
}

func number(word string) int {
	n, err := strconv.Atoi(word)
	check(err)
	return n
}

func check(err error) {
	if err != nil {
		fail(err)
	}
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, "bench:", err)
	os.Exit(1)
}
