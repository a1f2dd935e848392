// SPDX-License-Identifier: MIT

// Package poll, asynchronous file I/O: the open of an existing file.
//
// openat2 with RESOLVE_CACHED (Linux 5.12) opens the file if its name can be
// looked up without waiting for a device. If it cannot, the P is handed over
// before the plain call.

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
