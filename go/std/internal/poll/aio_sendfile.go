// SPDX-License-Identifier: MIT

// Package poll, asynchronous file I/O: sendfile, which net/http uses for files.
//
// sendfile cannot be made asynchronous. So what it will send is first read into
// the page cache, through the engine.

//go:build linux && (amd64 || arm64)

package poll

import (
	"sync"
	"syscall"
)

// maxWarm is how much is read before one call of sendfile.
const maxWarm = 256 << 10

var warmBuffers = sync.Pool{New: func() any { return new([maxWarm]byte) }}

// aioWarm is called before each sendfile of size bytes from the position of
// src. It returns the number of bytes to send.
func aioWarm(src int, size int) int {
	if !aioOptions().on || size <= 0 {
		return size
	}
	pos, err := syscall.Seek(src, 0, 1)
	if err != nil {
		return size
	}
	n := min(size, maxWarm)
	cached, known := isCached(src, pos)
	if cached && known && n > 4096 {
		cached, known = isCached(src, pos+int64(n)-1)
	}
	if !known {
		return size
	}
	if cached {
		return n
	}
	// Other goroutines can run while the engine reads.
	file := FD{Sysfd: src, IsStream: true}
	file.aio.state.Store(uint32(aioBuffered))
	buffer := warmBuffers.Get().(*[maxWarm]byte)
	aioCount(statWarmed)
	file.aioWait(buffer[:n], pos)
	warmBuffers.Put(buffer)
	return n
}

// isCached reports whether the byte at pos is in the page cache, or beyond the
// end of the file. known is false if the kernel does not tell.
func isCached(fd int, pos int64) (cached, known bool) {
	var probe [1]byte
	_, errno := preadNowait(fd, probe[:], pos)
	return errno == 0, errno == 0 || errno == syscall.EAGAIN
}
