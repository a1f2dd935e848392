// SPDX-License-Identifier: MIT

package main

import (
	"bytes"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

func init() {
	cases["thread_exit"] = threadExit
	cases["locked_thread"] = lockedThread
	cases["goroutine_count"] = goroutineCount
	cases["no_deadlock"] = noDeadlock
	cases["deadlock"] = deadlock
	cases["stacks"] = stacks
	cases["garbage"] = garbage
	cases["many"] = many
	cases["busy"] = busyCase
	cases["timers"] = timers
	cases["procs"] = procs
	cases["panic"] = panicCase
}

// threadExit ends threads that have submitted reads.
func threadExit(dir string) {
	const size = 4 << 20
	file := open(dataFile(dir, size), os.O_RDONLY|syscall.O_DIRECT)
	busy := startReaders(file, size, 32)
	for i := 0; i < 200; i++ {
		done := make(chan struct{})
		go func() {
			defer close(done)
			// The goroutine ends locked, so its thread ends, too.
			runtime.LockOSThread()
			check(readBlock(file, block(blockSize), int64(i)*blockSize))
		}()
		<-done
	}
	busy.end()
	fmt.Println("ok")
}

// lockedThread reads on a thread that has a descriptor table of its own.
func lockedThread(dir string) {
	const size = 1 << 20
	name := dataFile(dir, size)
	shared := open(name, os.O_RDONLY|syscall.O_DIRECT)
	busy := startReaders(shared, size, 16)
	readSome(shared, size, 16, 10)
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread()
		check(syscall.Unshare(syscall.CLONE_FILES))
		own, err := syscall.Open(name, syscall.O_RDONLY|syscall.O_CLOEXEC, 0)
		check(err)
		file := os.NewFile(uintptr(own), name)
		closeRings() // in this thread's table
		for i := 0; i < 300; i++ {
			check(readBlock(file, block(blockSize), int64(i%256)*blockSize))
			runtime.Gosched() // hands the P to another thread
		}
		check(file.Close())
	}()
	<-done
	// The kernel still accepts what the other threads submit.
	readSome(shared, size, 16, 10)
	busy.end()
	fmt.Println("ok")
}

// goroutineCount prints that reads start no goroutines.
func goroutineCount(dir string) {
	const size = 1 << 20
	file := open(dataFile(dir, size), os.O_RDONLY|syscall.O_DIRECT)
	readSome(file, size, 32, 20)
	for i := 0; runtime.NumGoroutine() != 1 && i < 1000; i++ {
		time.Sleep(time.Millisecond)
	}
	fmt.Println(runtime.NumGoroutine())
}

// noDeadlock waits only for a goroutine that reads.
func noDeadlock(dir string) {
	const size = 1 << 20
	file := open(dataFile(dir, size), os.O_RDONLY|syscall.O_DIRECT)
	result := make(chan error)
	for i := 0; i < 500; i++ {
		for j := 0; j < 2; j++ {
			go func() { result <- readBlock(file, block(blockSize), int64((i+j)%256)*blockSize) }()
		}
		check(<-result)
		check(<-result)
	}
	fmt.Println("ok")
}

// deadlock blocks for ever, which the runtime reports.
func deadlock(dir string) {
	const size = 1 << 20
	file := open(dataFile(dir, size), os.O_RDONLY|syscall.O_DIRECT)
	readSome(file, size, 8, 10)
	fmt.Println("now blocking")
	<-make(chan int)
}

// stacks reads into buffers on stacks that grow and shrink meanwhile.
func stacks(dir string) {
	const size = 1 << 20
	name := dataFile(dir, size)
	direct := open(name, os.O_RDONLY|syscall.O_DIRECT)
	buffered := open(name, os.O_RDONLY)
	stop := make(chan struct{})
	var collector sync.WaitGroup
	collector.Add(1)
	go func() {
		defer collector.Done()
		for {
			select {
			case <-stop:
				return
			default:
				runtime.GC() // shrinks stacks
				drop(buffered)
			}
		}
	}()
	var group sync.WaitGroup
	for i := 0; i < 16; i++ {
		group.Add(1)
		go func(i int) {
			defer group.Done()
			for j := 0; j < 60; j++ {
				off := int64((i*31+j)%200) * blockSize
				deep(j%8*8, func() { onStack(buffered, off) })
				onStack(buffered, off)
				onStackDirect(direct, off)
			}
		}(i)
	}
	group.Wait()
	close(stop)
	collector.Wait()
	fmt.Println("ok")
}

// deep calls f with a deep stack, so that the stack grows, and may shrink later.
func deep(depth int, f func()) byte {
	var frame [1024]byte
	frame[depth%len(frame)] = byte(depth)
	if depth == 0 {
		f()
		return frame[0]
	}
	return deep(depth-1, f) + frame[depth%len(frame)]
}

// onStack reads into an array on the stack, between two words that must stay.
func onStack(file *os.File, off int64) {
	var frame struct {
		before uint64
		data   [1000]byte
		after  uint64
	}
	frame.before, frame.after = 0x1111, 0x2222
	n, err := file.ReadAt(frame.data[:], off+13)
	if n != len(frame.data) || err != nil || !isPattern(frame.data[:], off+13) ||
		frame.before != 0x1111 || frame.after != 0x2222 {
		fail("%d bytes, %v, %x %x", n, err, frame.before, frame.after)
	}
}

// onStackDirect reads with O_DIRECT into the stack.
func onStackDirect(file *os.File, off int64) {
	var array [3 * blockSize]byte
	skip := alignment(array[:])
	b := array[skip : skip+blockSize]
	n, err := file.ReadAt(b, off)
	if n != blockSize || err != nil || !isPattern(b, off) {
		fail("%d bytes, %v", n, err)
	}
}

// garbage reads while the garbage collector runs as often as it can.
func garbage(dir string) {
	const size = 1 << 20
	file := open(dataFile(dir, size), os.O_RDONLY|syscall.O_DIRECT)
	debug.SetGCPercent(1)
	var kept atomic.Pointer[[]byte]
	var group sync.WaitGroup
	for i := 0; i < 32; i++ {
		group.Add(1)
		go func(i int) {
			defer group.Done()
			for j := 0; j < 50; j++ {
				// Nobody else refers to this memory while the kernel writes to it.
				b := block(blockSize)
				check(readBlock(file, b, int64((i+j)%256)*blockSize))
				kept.Store(&b)
				_ = bytes.Repeat([]byte{1}, 10000)
			}
		}(i)
	}
	group.Wait()
	fmt.Println("ok")
}

// many has more goroutines read than the kernel's queue holds.
func many(dir string) {
	const size = 1 << 20
	file := open(dataFile(dir, size), os.O_RDONLY|syscall.O_DIRECT)
	readSome(file, size, 10000, 2)
	fmt.Println("ok")
	fmt.Fprintln(os.Stderr, "threads:", threads())
}

// threads returns the number of threads of this process.
func threads() string {
	status, err := os.ReadFile("/proc/self/status")
	check(err)
	for _, line := range strings.Split(string(status), "\n") {
		if name, value, _ := strings.Cut(line, ":"); name == "Threads" {
			return strings.TrimSpace(value)
		}
	}
	return "unknown"
}

// busyCase reads beside a goroutine that never gives up its P by itself.
func busyCase(dir string) {
	const size = 1 << 20
	runtime.GOMAXPROCS(1)
	file := open(dataFile(dir, size), os.O_RDONLY|syscall.O_DIRECT)
	var stop atomic.Bool
	turns := 0
	hog := make(chan struct{})
	go func() {
		defer close(hog)
		for !stop.Load() {
			turns++
		}
	}()
	readSome(file, size, 8, 20)
	stop.Store(true)
	<-hog
	fmt.Println("ok", turns > 0)
}

// timers sleeps while reads are in flight.
func timers(dir string) {
	const size = 1 << 20
	file := open(dataFile(dir, size), os.O_RDONLY|syscall.O_DIRECT)
	busy := startReaders(file, size, 16)
	for i := 0; i < 20; i++ {
		start := time.Now()
		time.Sleep(time.Millisecond)
		if time.Since(start) < time.Millisecond {
			fail("woke up early")
		}
	}
	busy.end()
	fmt.Println("ok")
}

// procs changes GOMAXPROCS while reads are in flight.
func procs(dir string) {
	const size = 1 << 20
	file := open(dataFile(dir, size), os.O_RDONLY|syscall.O_DIRECT)
	busy := startReaders(file, size, 16)
	for i := 0; i < 50; i++ {
		runtime.GOMAXPROCS(1 + i%8)
		time.Sleep(200 * time.Microsecond)
	}
	busy.end()
	fmt.Println("ok")
}

// panicCase panics while reads are in flight.
func panicCase(dir string) {
	const size = 1 << 20
	file := open(dataFile(dir, size), os.O_RDONLY|syscall.O_DIRECT)
	startReaders(file, size, 16)
	time.Sleep(time.Millisecond)
	fmt.Println("now panicking")
	panic("on purpose")
}
