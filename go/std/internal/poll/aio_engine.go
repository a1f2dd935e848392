// SPDX-License-Identifier: MIT

// Package poll, asynchronous file I/O: the engines and the calls into package
// runtime.

//go:build linux && (amd64 || arm64)

package poll

import (
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"unsafe"
)

// engine carries out the calls that wait for a device.
type engine int32

const (
	engineAuto     engine = iota // the first of the others that the kernel allows
	engineUring                  // io_uring
	engineLinuxAIO               // Linux AIO for O_DIRECT, engineBlock for the rest
	engineBlock                  // the plain call, after the P was handed over if others can use it
	engineSync                   // the plain call
)

func (e engine) String() string {
	return [...]string{"not started", "io_uring", "linux-aio", "block", "sync"}[e]
}

// Values of runtime's aioState.queue.
const (
	queueUring    = 1
	queueLinuxAIO = 2
	queueDead     = 3
)

var aioEngines struct {
	current atomic.Int32
	start   sync.Once
	errno   syscall.Errno // with which the kernel refused io_uring
}

// aioEngine returns the engine in use. The first call starts it, which takes
// 0.3 ms; a program whose files are all cached never calls this function.
func aioEngine() engine {
	e := engine(aioEngines.current.Load())
	if e == engineAuto {
		if runtime_aioLocked() {
			// The thread may have a descriptor table of its own, so that other
			// threads would not find the ring that is opened here.
			return engineSync
		}
		aioEngines.start.Do(aioStartEngine)
		e = engine(aioEngines.current.Load())
	}
	if e <= engineLinuxAIO && runtime_aioQueue() == queueDead {
		// The kernel has begun to refuse submissions.
		e = engineBlock
		aioEngines.current.Store(int32(e))
	}
	return e
}

func aioStartEngine() {
	e := aioOptions().engine
	if e == engineAuto || e == engineUring {
		aioEngines.errno = syscall.Errno(runtime_aioStart(queueUring))
		if aioEngines.errno == 0 {
			e = engineUring
		} else {
			e = engineLinuxAIO
		}
	}
	if e == engineLinuxAIO && runtime_aioStart(queueLinuxAIO) != 0 {
		e = engineBlock
	}
	aioEngines.current.Store(int32(e))
}

// sysPreadv2 and so on are numbers that package syscall does not define for
// both architectures.
var sysPreadv2, sysPread, sysPwrite = func() (preadv2, pread, pwrite uintptr) {
	if runtime.GOARCH == "arm64" {
		return 286, 67, 68
	}
	return 327, 17, 18
}()

const (
	aioQuickNs = 1000 * 1000 // plain reads that take less on average are quick
	aioLongNs  = 2 * aioQuickNs
)

// aioPlainNs is the average time of plain reads, in ns. A longer read than
// aioLongNs counts as that, because the thread may only have waited for a CPU.
var aioPlainNs atomic.Int64

// aioPlainIsQuick reports whether plain reads are quick. While they are, a
// goroutine that delays no other makes the plain call: parking would cost it
// more.
func aioPlainIsQuick() bool {
	ns := aioPlainNs.Load()
	if ns < aioQuickNs {
		return true
	}
	// The average fades, so that a plain read is tried again.
	aioPlainNs.Store(ns - ns/16)
	return false
}

// aioPlainRead makes and times the plain call.
func (fd *FD) aioPlainRead(p []byte, off int64) (n int, err error, done bool) {
	aioCount(statPlain)
	start := runtimeNano()
	for {
		if off >= 0 {
			n, err = syscall.Pread(fd.Sysfd, p, off)
		} else {
			n, err = syscall.Read(fd.Sysfd, p)
		}
		if err != syscall.EINTR {
			break
		}
	}
	ns := aioPlainNs.Load()
	aioPlainNs.Store(ns - ns/8 + min(runtimeNano()-start, aioLongNs)/8)
	return max(n, 0), err, true
}

// aioBlock makes a call that will wait. If other goroutines can use the P, it
// is handed over first, rather than when sysmon notices after 20 us to 10 ms.
// If none can, it returns done == false.
func (fd *FD) aioBlock(trap, atPosition uintptr, p []byte, off int64) (_ int, _ error, done bool) {
	if !runtime_aioBlockBegin() {
		return 0, nil, false
	}
	defer runtime_aioBlockEnd()
	aioCount(statBlocked)
	if off < 0 {
		trap, off = atPosition, 0
	}
	for {
		res, errno := syscallBlock(trap, uintptr(fd.Sysfd),
			uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(len(p)), uintptr(off))
		runtime.KeepAlive(p)
		switch errno {
		case 0:
			return int(res), nil, true
		case syscall.EINTR:
		default:
			return 0, nil, false // the plain call reports the error
		}
	}
}

// syscallBlock makes a system call without a P.
//
//go:uintptrkeepalive
//go:nosplit
func syscallBlock(trap, a1, a2, a3, a4 uintptr) (res uintptr, errno syscall.Errno) {
	runtime_entersyscallblock()
	res, _, errno = syscall.RawSyscall6(trap, a1, a2, a3, a4, 0, 0)
	runtime_aioReturned(1)
	runtime_exitsyscall()
	runtime_aioReturned(-1)
	return res, errno
}

//go:linkname runtime_entersyscallblock runtime.entersyscallblock
func runtime_entersyscallblock()

//go:linkname runtime_exitsyscall runtime.exitsyscall
func runtime_exitsyscall()

// The goroutine parks in runtime_aioDo, and its stack is not moved before the
// operation is complete, so buf may point into the stack.
//
//go:noescape
func runtime_aioDo(opcode uint8, fd int32, buf unsafe.Pointer, n uint32, off int64) (int32, bool)

func runtime_aioStart(queue uint32) (errno int)
func runtime_aioQueue() uint32
func runtime_aioCounts() (submitted, calls uint64, inflight int32)
func runtime_aioSecure() bool
func runtime_aioAlone() bool
func runtime_aioLocked() bool
func runtime_aioBlockBegin() bool
func runtime_aioBlockEnd()
func runtime_aioReturned(delta int32)
func runtime_aioAtExit(f func())
