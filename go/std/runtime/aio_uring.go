// SPDX-License-Identifier: MIT

// Package runtime, asynchronous file I/O: io_uring.
//
// The ring is made with IORING_SETUP_COOP_TASKRUN if the kernel knows it: a
// completion does not interrupt the thread that submitted the operation, but is
// posted when that thread next enters the kernel.

//go:build linux && (amd64 || arm64)

package runtime

import (
	"internal/runtime/atomic"
	"internal/runtime/syscall/linux"
	"unsafe"
)

const (
	_SYS_io_uring_setup = 425
	_SYS_io_uring_enter = 426

	_IORING_SETUP_CQSIZE       = 1 << 3
	_IORING_SETUP_COOP_TASKRUN = 1 << 8
	_IORING_SETUP_TASKRUN_FLAG = 1 << 9

	// SINGLE_MMAP, NODROP, RW_CUR_POS, FAST_POLL: Linux 5.7.
	_IORING_FEATURES = 1<<0 | 1<<1 | 1<<3 | 1<<5

	_IORING_OFF_SQES        = 0x10000000
	_IORING_SQ_TASKRUN      = 1 << 2
	_IORING_ENTER_GETEVENTS = 1

	uringMapFlags = 0x8001 // MAP_SHARED | MAP_POPULATE
)

type uringParams struct {
	sqEntries, cqEntries, flags, sqThreadCPU, sqThreadIdle, features, wqFd uint32
	resv                                                                   [3]uint32
	sqHead, sqTail, sqMask, sqRingEntries, sqFlags, sqDropped, sqArray, r1 uint32
	sqUser                                                                 uint64
	cqHead, cqTail, cqMask, cqRingEntries, cqOverflow, cqCqes, cqFlags, r2 uint32
	cqUser                                                                 uint64
}

type uringSQE struct {
	opcode   uint8
	flags    uint8
	ioprio   uint16
	fd       int32
	off      uint64
	addr     uint64
	len      uint32
	rwFlags  uint32
	userData uint64
	pad      [3]uint64
}

type uringCQE struct {
	userData uint64
	res      int32
	flags    uint32
}

// aioRing is an io_uring, mapped.
type aioRing struct {
	fd    int32
	users atomic.Int32 // threads that submit operations

	sqHead  *uint32
	sqTail  *uint32
	sqFlags *uint32
	sqMask  uint32
	sqSize  uint32
	sqes    *[1 << 20]uringSQE

	cqHead *uint32
	cqTail *uint32
	cqMask uint32
	cqes   *[1 << 20]uringCQE
}

func (r *aioRing) enter(submit, flags uintptr) (n, errno uintptr) {
	n, _, errno = linux.Syscall6(_SYS_io_uring_enter, uintptr(r.fd), submit, 0, flags, 0, 0)
	return n, errno
}

// setup makes a ring with the best flags that the kernel accepts.
func (r *aioRing) setup(entries, slots uint32) (p uringParams, fd int32, errno int) {
	for _, flags := range [...]uint32{
		_IORING_SETUP_COOP_TASKRUN | _IORING_SETUP_TASKRUN_FLAG, // Linux 5.19
		0,
	} {
		p = uringParams{flags: _IORING_SETUP_CQSIZE | flags, cqEntries: slots}
		res, _, e := linux.Syscall6(_SYS_io_uring_setup, uintptr(entries),
			uintptr(noescape(unsafe.Pointer(&p))), 0, 0, 0, 0)
		fd, errno = int32(res), int(e)
		if errno != aioEINVAL {
			break
		}
	}
	return p, fd, errno
}

// start makes the ring. It returns the number of operations that it holds, or
// an errno.
func (r *aioRing) start() (slots uint32, errno int) {
	entries, slots := uint32(1024), uint32(4096)
	p, fd, errno := r.setup(entries, slots)
	for errno == _ENOMEM && entries > 64 { // RLIMIT_MEMLOCK, before Linux 5.12
		entries, slots = entries/4, slots/4
		p, fd, errno = r.setup(entries, slots)
	}
	if errno != 0 {
		return 0, errno
	}
	if p.features&_IORING_FEATURES != _IORING_FEATURES {
		closefd(fd)
		return 0, aioENOSYS
	}
	size := uintptr(p.sqArray) + 4*uintptr(p.sqEntries)
	if s := uintptr(p.cqCqes) + unsafe.Sizeof(uringCQE{})*uintptr(p.cqEntries); s > size {
		size = s
	}
	rings, errno := mmap(nil, size, _PROT_READ|_PROT_WRITE, uringMapFlags, fd, 0)
	if errno != 0 {
		closefd(fd)
		return 0, errno
	}
	sqeSize := unsafe.Sizeof(uringSQE{}) * uintptr(p.sqEntries)
	sqes, errno := mmap(nil, sqeSize, _PROT_READ|_PROT_WRITE, uringMapFlags, fd,
		_IORING_OFF_SQES)
	if errno == 0 && !aioEpollAdd(fd) {
		munmap(sqes, sqeSize)
		errno = aioEINVAL
	}
	if errno != 0 {
		munmap(rings, size)
		closefd(fd)
		return 0, errno
	}
	at := func(offset uint32) *uint32 { return (*uint32)(add(rings, uintptr(offset))) }
	r.sqHead, r.sqTail, r.sqFlags = at(p.sqHead), at(p.sqTail), at(p.sqFlags)
	r.sqMask, r.sqSize = *at(p.sqMask), p.sqEntries
	r.sqes = (*[1 << 20]uringSQE)(sqes)
	array := (*[1 << 20]uint32)(add(rings, uintptr(p.sqArray)))
	for i := uint32(0); i < p.sqEntries; i++ {
		array[i] = i
	}
	r.cqHead, r.cqTail, r.cqMask = at(p.cqHead), at(p.cqTail), *at(p.cqMask)
	r.cqes = (*[1 << 20]uringCQE)(add(rings, uintptr(p.cqCqes)))
	r.fd = fd
	return slots, 0
}

// push adds an operation to the submission queue. It returns false if the queue
// is full. The caller holds sqlock.
func (r *aioRing) push(s *aioSlot, address uintptr) bool {
	tail := *r.sqTail
	if tail-atomic.Load(r.sqHead) >= r.sqSize {
		return false
	}
	r.sqes[tail&r.sqMask] = uringSQE{
		opcode:   s.opcode,
		fd:       s.fd,
		off:      uint64(s.off),
		addr:     uint64(address),
		len:      s.n,
		userData: uint64(s.num),
	}
	atomic.StoreRel(r.sqTail, tail+1)
	return true
}

// settle waits until no thread submits operations. The queue is dead, so no
// thread begins to.
func (r *aioRing) settle() {
	for r.users.Load() != 0 {
		osyield()
	}
}

// pop takes back an operation that the kernel has not taken. The caller holds
// sqlock and has called settle.
func (r *aioRing) pop() *aioSlot {
	tail := *r.sqTail
	if tail == atomic.Load(r.sqHead) {
		return nil
	}
	atomic.StoreRel(r.sqTail, tail-1)
	return &aio.slots[r.sqes[(tail-1)&r.sqMask].userData]
}

// submit hands n operations to the kernel. It returns false if the kernel
// refused.
func (r *aioRing) submit(n int32) bool {
	r.users.Add(1)
	for n > 0 && aio.queue.Load() == aioUring {
		aio.ncall.Add(1)
		taken, errno := r.enter(uintptr(n), 0)
		switch errno {
		case 0:
			if taken == 0 {
				n = 0 // a call of another thread took them
			}
			n -= int32(taken)
		case _EINTR:
		case _EAGAIN, aioEBUSY, _ENOMEM:
			osyield()
		default:
			r.users.Add(-1)
			return false
		}
	}
	r.users.Add(-1)
	return true
}

// taskWork reports whether completions wait until the thread that submitted
// their operations enters the kernel.
func (r *aioRing) taskWork() bool {
	return atomic.Load(r.sqFlags)&_IORING_SQ_TASKRUN != 0
}

// getEvents enters the kernel to have completions of this thread posted.
func (r *aioRing) getEvents() { r.enter(0, _IORING_ENTER_GETEVENTS) }

func (r *aioRing) ready() bool {
	return r.cqTail != nil && atomic.Load(r.cqTail) != atomic.Load(r.cqHead)
}

// reap takes all completions. The caller holds cqlock.
func (r *aioRing) reap(toRun *gList) (delta int32) {
	head := *r.cqHead
	tail := atomic.LoadAcq(r.cqTail)
	for ; head != tail; head++ {
		c := &r.cqes[head&r.cqMask]
		aioComplete(c.userData, c.res, toRun)
		delta--
	}
	atomic.StoreRel(r.cqHead, head)
	return delta
}
