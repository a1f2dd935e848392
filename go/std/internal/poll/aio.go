// SPDX-License-Identifier: MIT

// Package poll, asynchronous file I/O: what becomes of a read, a write and an
// fsync of a regular file or a block device.
//
// A read first tries without waiting (RWF_NOWAIT), because most reads are of
// cached data. If that fails the engine reads: the goroutine parks, and its P
// runs others. done == false means that the caller is to make the plain call,
// as Go does without this overlay; it is never returned after bytes were
// transferred.

//go:build linux && (amd64 || arm64)

package poll

import (
	"internal/syscall/unix"
	"io"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"unsafe"
)

// aioClass says how reads and writes of a descriptor are made.
type aioClass uint32

const (
	aioNever    aioClass = iota // plain calls; the zero value
	aioUnknown                  // a file whose class the first call determines
	aioPollless                 // a file that was not offered to epoll: it may be of any kind
	aioBuffered                 // page cache: try without waiting, then the engine
	aioDirect                   // O_DIRECT: the engine
	aioTimed                    // no RWF_NOWAIT: the engine if plain calls prove slow
)

// aioState packs what is known of a descriptor: its class (bits 0 to 5),
// whether its writes append (bit 6) and are synchronous (bit 7), the number of
// tries without waiting that failed in a row (bits 8 to 15), and the number of
// tries to leave out (bits 16 to 31).
type aioState uint32

const (
	aioAppendBit aioState = 1 << 6
	aioSyncBit   aioState = 1 << 7

	aioStreakShift = 8
	aioSkipShift   = 16
)

func (s aioState) class() aioClass { return aioClass(s & 0x3f) }
func (s aioState) appends() bool   { return s&aioAppendBit != 0 }
func (s aioState) sync() bool      { return s&aioSyncBit != 0 }
func (s aioState) streak() uint32  { return uint32(s >> aioStreakShift & 0xff) }
func (s aioState) skips() uint32   { return uint32(s >> aioSkipShift) }

// reset returns the state without its counters.
func (s aioState) reset() aioState { return s & 0xff }

// counters returns the state with nothing else.
func (s aioState) counters() aioState { return s &^ 0xff }

// withFlags returns the state of a file that is open with these flags.
func (s aioState) withFlags(flags int) aioState {
	s = s.counters() | aioState(aioBuffered)
	if flags&syscall.O_DIRECT != 0 {
		s = s.counters() | aioState(aioDirect)
	}
	if flags&syscall.O_DSYNC != 0 { // O_SYNC includes it
		s |= aioSyncBit
	}
	if flags&syscall.O_APPEND != 0 {
		s |= aioAppendBit
	}
	return s
}

// aioFile is a field of FD.
type aioFile struct {
	state atomic.Uint32
	// position is held while the engine transfers at the file position, and while
	// the position is moved.
	position sync.Mutex
}

// on reports whether aioRead and aioWrite should be called.
func (f *aioFile) on() bool { return f.state.Load() != uint32(aioNever) }

// opened is called when a file was not added to epoll.
func (f *aioFile) opened(isFile bool, errno error) {
	switch {
	case !isFile || f.on():
	case errno == nil:
		f.state.Store(uint32(aioPollless))
	case errno == syscall.EPERM:
		f.state.Store(uint32(aioUnknown))
	}
}

// lockPosition waits for a transfer at the file position to end.
func (f *aioFile) lockPosition()   { f.position.Lock() }
func (f *aioFile) unlockPosition() { f.position.Unlock() }

// change stores a new state unless another goroutine has stored one.
func (f *aioFile) change(from, to aioState) {
	f.state.CompareAndSwap(uint32(from), uint32(to))
}

// aioClassify returns the state of the descriptor, which the first call
// determines.
func (fd *FD) aioClassify() aioState {
	s := aioState(fd.aio.state.Load())
	class := s.class()
	if class != aioUnknown && class != aioPollless {
		return s
	}
	next := aioState(aioNever)
	if aioOptions().on && (class == aioUnknown || isRegularOrBlock(fd.Sysfd)) {
		flags, err := unix.Fcntl(fd.Sysfd, syscall.F_GETFL, 0)
		if err == nil {
			next = s.withFlags(flags)
		}
	}
	fd.aio.state.Store(uint32(next))
	return next
}

func isRegularOrBlock(fd int) bool {
	var st syscall.Stat_t
	if syscall.Fstat(fd, &st) != nil {
		return false
	}
	kind := st.Mode & syscall.S_IFMT
	return kind == syscall.S_IFREG || kind == syscall.S_IFBLK
}

// at returns the offset of the byte at p[n:] if p is at off; -1 is the file
// position.
func at(off int64, n int) int64 {
	if off < 0 {
		return off
	}
	return off + int64(n)
}

// aioRead reads at off, or at the file position if off is -1.
func (fd *FD) aioRead(p []byte, off int64) (n int, err error, done bool) {
	s := fd.aioClassify()
	if len(p) == 0 {
		return 0, nil, false
	}
	if len(p) > maxRW {
		p = p[:maxRW]
	}
	switch s.class() {
	case aioBuffered:
		if skips := s.skips(); skips > 0 && aioEngine() == engineUring {
			// Tries have failed lately. io_uring tries the same first.
			fd.aio.change(s, s-1<<aioSkipShift)
			aioCount(statLeftOut)
			n, err, done = fd.aioWait(p, off)
			if err != nil || n == 0 || n == len(p) {
				return n, err, done
			}
		}
		return fd.aioTryRead(s, p, off, n)
	case aioDirect:
		return fd.aioWait(p, off)
	case aioTimed:
		return fd.aioTimedRead(s, p, off)
	}
	return 0, nil, false
}

// maxTry limits a try without waiting: the scheduler does not know of it, so
// the P is taken for as long as the copy lasts.
const maxTry = 256 << 10

// aioTryRead reads what is in the page cache, after n bytes that have been read.
// If that is not all, the engine reads the rest.
func (fd *FD) aioTryRead(s aioState, p []byte, off int64, n int) (_ int, err error, done bool) {
	for n < len(p) {
		m, errno := preadNowait(fd.Sysfd, p[n:min(len(p), n+maxTry)], at(off, n))
		switch {
		case errno == 0 && m > 0:
			sanitizerWrites(p[n : n+m])
			n += m
		case errno == 0 && n > 0:
			aioCount(statCached)
			return n, nil, true
		case errno == 0:
			// The end of the file. But Linux 5.9 and 5.10 return 0 also where
			// there is data (BUGS in preadv2(2)), so the plain call decides.
			return 0, nil, false
		case errno == syscall.EINTR:
		case errno == syscall.EAGAIN:
			aioCount(statMissed)
			if n == 0 {
				fd.aioMissed(s)
			}
			m, err, done = fd.aioWait(p[n:], at(off, n))
			if n > 0 {
				return n + m, nil, true
			}
			if !done || err != nil || m == len(p) || m == 0 {
				return m, err, done
			}
			n = m // a short read: the end of the file, or data that is not yet cached
		case errno == syscall.EOPNOTSUPP || errno == syscall.ENOSYS:
			fd.aioNoNowait(s, errno)
			return n, nil, n > 0
		case n > 0:
			return n, nil, true
		default:
			// The plain call reports the error.
			return 0, nil, false
		}
	}
	if s != s.reset() {
		fd.aio.change(s, s.reset())
	}
	aioCount(statCached)
	return n, nil, true
}

// aioMissed counts a try without waiting that failed. From the fourth failure
// in a row on, 1, 2, 4 ... 64 tries are left out.
func (fd *FD) aioMissed(s aioState) {
	streak := min(s.streak()+1, 10)
	next := s.reset() | aioState(streak)<<aioStreakShift
	if streak >= 4 {
		next |= 1 << (streak - 4) << aioSkipShift
	}
	fd.aio.change(s, next)
}

// preadNowait reads what can be read without waiting for a device. The
// scheduler is not told about the system call, which is short.
func preadNowait(fd int, p []byte, off int64) (int, syscall.Errno) {
	var iov syscall.Iovec
	iov.Base = unsafe.SliceData(p)
	iov.SetLen(len(p))
	const rwfNowait = 0x8
	n, _, errno := syscall.RawSyscall6(sysPreadv2, uintptr(fd), uintptr(unsafe.Pointer(&iov)), 1,
		uintptr(off), 0, rwfNowait)
	if errno != 0 {
		return 0, errno
	}
	return int(n), 0
}

// aioWait reads through the engine.
func (fd *FD) aioWait(p []byte, off int64) (n int, err error, done bool) {
	engine := aioEngine()
	direct := aioState(fd.aio.state.Load()).class() == aioDirect
	switch {
	case engine == engineUring, engine == engineLinuxAIO && direct:
		if runtime_aioAlone() && aioPlainIsQuick() {
			return fd.aioPlainRead(p, off)
		}
		return fd.aioSubmit(opRead, p, off)
	case engine == engineLinuxAIO, engine == engineBlock:
		return fd.aioBlockRead(p, off)
	}
	return 0, nil, false
}

func (fd *FD) aioBlockRead(p []byte, off int64) (n int, err error, done bool) {
	n, err, done = fd.aioBlock(sysPread, syscall.SYS_READ, p, off)
	sanitizerWrites(p[:n])
	return n, err, done
}

// Operations of io_uring.
const (
	opRead  = 22
	opWrite = 23
)

// aioSubmit has the kernel carry out one transfer and parks the goroutine until
// it is complete.
func (fd *FD) aioSubmit(op uint8, p []byte, off int64) (n int, err error, done bool) {
	if off >= 0 {
		return fd.aioSubmitAt(op, p, off)
	}
	// io_uring does not move the file position when a transfer completes later,
	// and Linux AIO knows no position.
	fd.aio.lockPosition()
	defer fd.aio.unlockPosition()
	off, err = syscall.Seek(fd.Sysfd, 0, io.SeekCurrent)
	if err != nil {
		return 0, nil, false
	}
	n, err, done = fd.aioSubmitAt(op, p, off)
	if n > 0 {
		// Another process may share the position, and may have moved it.
		now, err := syscall.Seek(fd.Sysfd, 0, io.SeekCurrent)
		if err == nil && now == off {
			syscall.Seek(fd.Sysfd, off+int64(n), io.SeekStart)
		}
	}
	return n, err, done
}

func (fd *FD) aioSubmitAt(op uint8, p []byte, off int64) (n int, err error, done bool) {
	for {
		start := int64(0)
		if aioCounting.Load() {
			start = runtimeNano()
		}
		res, ok := runtime_aioDo(op, int32(fd.Sysfd), unsafe.Pointer(unsafe.SliceData(p)),
			uint32(len(p)), off)
		runtime.KeepAlive(p)
		if start != 0 {
			aioParkedNs.Add(runtimeNano() - start)
		}
		if !ok {
			aioCount(statPassed)
			return 0, nil, false
		}
		if res >= 0 {
			if op == opRead {
				aioCount(statEngineRead)
				sanitizerWrites(p[:res])
			} else {
				aioCount(statEngineWrite)
			}
			return int(res), nil, true
		}
		switch syscall.Errno(-res) {
		case syscall.EINTR, syscall.ECANCELED:
			// ECANCELED: the thread that submitted the operation has exited.
		default:
			// The plain call reports the error in its own words, and decides
			// about EAGAIN, EOPNOTSUPP and EINVAL.
			aioCount(statFailed)
			aioFailure.Store(-res)
			return 0, nil, false
		}
	}
}

// aioWrite writes with O_DIRECT or O_SYNC. Other writes copy to the page cache,
// which the plain call does best.
func (fd *FD) aioWrite(p []byte, off int64) (n int, err error, done bool) {
	s := fd.aioClassify()
	if s.class() == aioNever || len(p) == 0 {
		return 0, nil, false
	}
	waits := s.sync() || s.class() == aioDirect
	if off >= 0 && !waits {
		return 0, nil, false
	}
	engine := engineSync
	if waits {
		sanitizerReads(p)
		engine = aioEngine()
	}
	appends := off < 0 && s.appends() // the kernel decides where
	if !s.sync() && !appends && (engine == engineUring || engine == engineLinuxAIO) {
		return fd.aioSubmit(opWrite, p, off)
	}
	// io_uring would have a kernel thread wait for a synchronous write.
	if off < 0 {
		fd.aio.lockPosition()
		defer fd.aio.unlockPosition()
	}
	if engine != engineSync {
		n, err, done = fd.aioBlock(sysPwrite, syscall.SYS_WRITE, p, off)
	}
	if !done && off < 0 {
		n, err = ignoringEINTRIO(syscall.Write, fd.Sysfd, p)
		done = true
	}
	return n, err, done
}

// aioFsync flushes the file. The P is handed over first if another goroutine
// can use it.
func (fd *FD) aioFsync() (err error, done bool) {
	if fd.aioClassify().class() == aioNever || aioOptions().engine == engineSync ||
		!runtime_aioBlockBegin() {
		return nil, false
	}
	defer runtime_aioBlockEnd()
	aioCount(statFsync)
	for {
		_, errno := syscallBlock(syscall.SYS_FSYNC, uintptr(fd.Sysfd), 0, 0, 0)
		switch errno {
		case 0:
			return nil, true
		case syscall.EINTR:
		default:
			return errno, true
		}
	}
}
