// SPDX-License-Identifier: MIT

// Package poll, asynchronous file I/O: sendfile, which net/http uses for files.
//
// sendfile cannot be made asynchronous. So before it, the kernel is asked to read
// ahead what it will send, and the engine waits for the last byte of that.

//go:build linux && (amd64 || arm64)

package poll

import (
	"io"
	"sync/atomic"
	"syscall"
)

// maxWarm is how much is read ahead of one call of sendfile.
const maxWarm = 256 << 10

// Looking costs system calls, which a server whose files are all cached would waste. So after
// each file that was cached, 1, 2, 4 ... 64 are not looked at.
var aioWarmth struct {
	streak atomic.Int32 // files in a row that were cached, of those looked at
	unseen atomic.Int32 // files not to look at
}

// aioWarm is called before each sendfile of size bytes from the position of
// src. It returns the number of bytes to send.
func aioWarm(src int, size int) int {
	if !aioOptions().on || size <= 0 {
		return size
	}
	n := min(size, maxWarm)
	if aioWarmth.unseen.Load() > 0 {
		aioWarmth.unseen.Add(-1)
		return n
	}
	pos, err := syscall.Seek(src, 0, io.SeekCurrent)
	if err != nil {
		return size
	}
	last := pos + int64(n) - 1
	if n < size { // the file may end before
		var st syscall.Stat_t
		if syscall.Fstat(src, &st) != nil || pos >= st.Size {
			return size
		}
		last = min(last, st.Size-1)
	}
	// This starts to read what is not cached. One look at the last byte would have
	// the kernel read that page by itself.
	const willNeed = 3
	syscall.RawSyscall6(syscall.SYS_FADVISE64, uintptr(src), uintptr(pos), uintptr(last+1-pos),
		willNeed, 0, 0)
	if isCached(src, last) {
		streak := aioWarmth.streak.Load()
		aioWarmth.streak.Store(min(streak+1, 6))
		aioWarmth.unseen.Store(1 << streak)
		return n
	}
	aioWarmth.streak.Store(0)
	// Other goroutines can run while the engine reads.
	file := FD{Sysfd: src, IsStream: true}
	file.aio.state.Store(uint32(aioBuffered))
	aioCount(statWarmed)
	file.aioWait(make([]byte, 1), last)
	return n
}

// isCached reports whether the byte at pos need not be waited for, or whether the
// kernel does not tell.
func isCached(fd int, pos int64) bool {
	var probe [1]byte
	_, errno := preadNowait(fd, probe[:], pos)
	return errno != syscall.EAGAIN
}
