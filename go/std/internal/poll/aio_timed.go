// SPDX-License-Identifier: MIT

// Package poll, asynchronous file I/O: file systems that do not know
// RWF_NOWAIT, such as overlayfs, FUSE and NFS.
//
// There is no way to try without waiting, so plain calls are timed. After one
// that took long the next ones go to the engine.

//go:build linux && (amd64 || arm64)

package poll

import "syscall"

const (
	aioSlowNs    = 50 * 1000 // a plain call that took longer has waited for a device
	aioSlowCalls = 64        // the number of calls that then go to the engine
)

// aioNoNowait is called when the kernel does not know RWF_NOWAIT for this file.
func (fd *FD) aioNoNowait(s aioState, errno syscall.Errno) {
	next := aioState(aioNever)
	if errno == syscall.EOPNOTSUPP && !inMemory(fd.Sysfd) {
		next = aioState(aioTimed)
	}
	fd.aio.change(s, next|s&aioSyncBit)
}

// inMemory reports whether a file system answers from memory. Some of them give
// an answer that depends on the thread that asks.
func inMemory(fd int) bool {
	var st syscall.Statfs_t
	if syscall.Fstatfs(fd, &st) != nil {
		return true
	}
	switch uint32(st.Type) {
	case 0x9fa0, // proc
		0x62656572, // sysfs
		0x0027e0eb, // cgroup
		0x63677270, // cgroup2
		0x64626720, // debugfs
		0x74726163, // tracefs
		0x62656570, // configfs
		0x01021994, // tmpfs
		0x858458f6, // ramfs
		0xcafe4a11, // bpf
		0x73636673, // securityfs
		0xde5e81e4: // efivarfs
		return true
	}
	return false
}

// aioTimedRead reads a file without RWF_NOWAIT.
func (fd *FD) aioTimedRead(s aioState, p []byte, off int64) (n int, err error, done bool) {
	if s.skips() > 0 {
		fd.aio.change(s, s-1<<aioSkipShift)
		aioCount(statTimed)
		return fd.aioWait(p, off)
	}
	start := runtimeNano()
	n, err, done = fd.aioPlainRead(p, off)
	if runtimeNano()-start > aioSlowNs {
		fd.aio.change(s, s.reset()|aioSlowCalls<<aioSkipShift)
	}
	return n, err, done
}
