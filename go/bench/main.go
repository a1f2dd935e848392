// SPDX-License-Identifier: MIT

// The benchmark of `aioshim measure --only go`: goroutines read or write for a
// while, beside another goroutine that works. Prints one line of JSON.
//
//	bench KIND FILE GOROUTINES MILLISECONDS OTHER
//
// KIND is direct, cold, cached or synced. OTHER is none, yield (works for 10 us and
// yields) or busy (works without a pause). GOMAXPROCS is taken from the environment.
//
//	bench http-cold|http-cached DIRECTORY
//
// serves files until its standard input ends.
package main

import (
	"encoding/json"
	"fmt"
	"math/bits"
	"os"
	"path/filepath"
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

// histogram counts latencies in steps of at most 1/8.
type histogram [64 * 8]uint64

func (h *histogram) add(ns int64) {
	n := uint64(max(ns, 8))
	top := bits.Len64(n) - 1
	h[top*8+int(n>>(top-3)&7)]++
}

// quantile returns the latency in us below which a part q of all are.
func (h *histogram) quantile(q float64) float64 {
	var all, sum uint64
	for _, n := range h {
		all += n
	}
	for i, n := range h {
		if sum += n; float64(sum) >= q*float64(all) && sum > 0 {
			return float64(uint64(8+i%8+1)<<(i/8)) / 8 / 1000
		}
	}
	return 0
}

func main() {
	if len(os.Args) == 3 && strings.HasPrefix(os.Args[1], "http-") {
		before := usage()
		operations, ns, latencies := serve(os.Args[2], os.Args[1] == "http-cached")
		report(operations, ns, before, latencies, 0)
		return
	}
	if len(os.Args) != 6 {
		fail(fmt.Errorf("usage: bench KIND FILE GOROUTINES MILLISECONDS OTHER"))
	}
	kind, name := os.Args[1], os.Args[2]
	goroutines, err := strconv.Atoi(os.Args[3])
	check(err)
	ms, err := strconv.Atoi(os.Args[4])
	check(err)

	histograms := make([]histogram, goroutines)
	counts := make([]uint64, goroutines)
	ready := make(chan struct{})
	var group sync.WaitGroup
	operation := prepare(kind, name)
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
	if os.Args[5] != "none" {
		others.Add(1)
		go func() {
			defer others.Done()
			<-ready
			turns = other(os.Args[5] == "yield")
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

// prepare opens the file, and makes a function that returns the operation of a
// goroutine.
func prepare(kind, name string) func(i int) func(uint64, []byte) error {
	if kind == "synced" {
		return func(i int) func(uint64, []byte) error { return synced(filepath.Dir(name), i) }
	}
	flags := os.O_RDONLY
	if kind == "direct" {
		flags |= syscall.O_DIRECT
	}
	file, err := os.OpenFile(name, flags, 0)
	check(err)
	info, err := file.Stat()
	check(err)
	blocks := uint64(info.Size() / blockSize)
	switch kind {
	case "cold":
		drop(file)
	case "cached":
		blocks = min(blocks, 2048)
		for i := uint64(0); i < blocks; i++ {
			_, err := file.ReadAt(make([]byte, blockSize), int64(i)*blockSize)
			check(err)
		}
	}
	read := func(random uint64, b []byte) error {
		_, err := file.ReadAt(b, int64(random%blocks)*blockSize)
		return err
	}
	return func(int) func(uint64, []byte) error { return read }
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

// synced returns a function that writes a block of a file and waits until it is
// on the disk.
func synced(dir string, i int) func(uint64, []byte) error {
	file, err := os.OpenFile(filepath.Join(dir, fmt.Sprint("synced.", i)),
		os.O_RDWR|os.O_CREATE, 0o600)
	check(err)
	check(os.Remove(file.Name()))
	return func(random uint64, b []byte) error {
		if _, err := file.WriteAt(b, int64(random%16)*blockSize); err != nil {
			return err
		}
		return file.Sync()
	}
}

// other computes until the time is over. It returns how often it has worked for
// 10 us.
func other(yield bool) (turns uint64) {
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
func drop(file *os.File) {
	const dontNeed = 4
	syscall.Syscall6(syscall.SYS_FADVISE64, file.Fd(), 0, 0, dontNeed, 0, 0)
	const random = 1 // without reading ahead
	syscall.Syscall6(syscall.SYS_FADVISE64, file.Fd(), 0, 0, random, 0, 0)
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
