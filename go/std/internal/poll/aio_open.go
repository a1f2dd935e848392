// SPDX-License-Identifier: MIT

// Package poll, asynchronous file I/O: the open of an existing file.
//
// openat2 with RESOLVE_CACHED (Linux 5.12) opens the file if its name can be
// looked up without waiting for a device. If it cannot, the P is handed over
// before the plain call.
//
// Go then finds out that epoll does not accept the file, which takes five
// system calls. One fstat tells as much.

//go:build linux && (amd64 || arm64)

package poll

import (
	"sync/atomic"
	"syscall"
	"unsafe"
)

const (
	sysOpenat2    = 437
	resolveCached = 0x20
	atFdcwd       = -0x64
	openTmpfile   = 0x400000

	// With these flags alone, EINVAL and EPERM do not come from a file system.
	ordinaryFlags = syscall.O_ACCMODE | syscall.O_CLOEXEC | syscall.O_NONBLOCK |
		syscall.O_LARGEFILE
)

// aioNoOpenat2 is set when the kernel does not know RESOLVE_CACHED.
var aioNoOpenat2 atomic.Bool

// AioOpen opens path. If it returns done == false, the caller makes the plain
// call.
func AioOpen(path string, flags int) (fd int, done bool) {
	if flags&(syscall.O_CREAT|syscall.O_TRUNC|openTmpfile) != 0 || !aioOptions().on ||
		aioOptions().engine == engineSync || aioNoOpenat2.Load() {
		return -1, false
	}
	name, err := syscall.BytePtrFromString(path)
	if err != nil {
		return -1, false
	}
	how := struct{ flags, mode, resolve uint64 }{
		flags:   uint64(uint32(flags) | syscall.O_LARGEFILE),
		resolve: resolveCached,
	}
	dir := atFdcwd
	res, _, errno := syscall.Syscall6(sysOpenat2, uintptr(dir), uintptr(unsafe.Pointer(name)),
		uintptr(unsafe.Pointer(&how)), unsafe.Sizeof(how), 0, 0)
	switch errno {
	case 0:
		return int(res), true
	case syscall.EAGAIN:
	case syscall.ENOSYS, syscall.EINVAL, syscall.EPERM:
		if flags&^ordinaryFlags == 0 {
			aioNoOpenat2.Store(true)
		}
		return -1, false
	default:
		return -1, false // the plain call reports the error
	}
	if !runtime_aioBlockBegin() {
		return -1, false
	}
	defer runtime_aioBlockEnd()
	aioCount(statOpened)
	res, errno = syscallBlock(syscall.SYS_OPENAT, uintptr(dir), uintptr(unsafe.Pointer(name)),
		uintptr(flags|syscall.O_LARGEFILE), 0)
	if errno != 0 {
		return -1, false
	}
	return int(res), true
}

// AioOpened is called with a file that OpenFile has just opened. It returns true
// if epoll would not accept the file, because it is a regular file or a directory
// of a file system on a device. In other file systems such files may be polled,
// for example in proc.
func (fd *FD) AioOpened() bool {
	if !aioOptions().on {
		return false
	}
	var st syscall.Stat_t
	if syscall.Fstat(fd.Sysfd, &st) != nil || st.Dev>>8&0xfff == 0 {
		return false // the major number is 0: there is no device
	}
	switch st.Mode & syscall.S_IFMT {
	case syscall.S_IFREG:
		fd.aio.state.Store(uint32(aioUnknown))
		return true
	case syscall.S_IFDIR:
		return true
	}
	return false
}

// AioFlags tells with which flags the file was opened, so that the kernel need
// not be asked.
func (fd *FD) AioFlags(flags int) {
	if s := aioState(fd.aio.state.Load()); s.class() == aioUnknown && aioOptions().on {
		fd.aio.state.Store(uint32(s.withFlags(flags)))
	}
}

// AioShared is called when the program asks for the descriptor. It may change the
// flags, so the kernel is asked for them at the next call.
func (fd *FD) AioShared() {
	s := aioState(fd.aio.state.Load())
	if class := s.class(); class == aioBuffered || class == aioDirect {
		fd.aio.change(s, s.counters()|aioState(aioUnknown))
	}
}
